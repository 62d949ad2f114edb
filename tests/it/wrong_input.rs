use scf::{
    ai::LatencyOptimal,
    core::{InvocationId, InvokeError, Name, Payload},
    runtime::WorkflowFailure,
};

use crate::support::{Site, node, photo};

/// A PNG file of 10 000 by 10 000 pixels, as far as its header goes.
fn header_of_100_megapixels() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x27\x10\0\0\x27\x10\x08\x02\0\0\0".to_vec();
    let checksum = png[12..].iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    });
    png.extend((!checksum).to_be_bytes());
    png
}

#[tokio::test]
async fn a_wrong_photo_is_refused_by_name_and_the_next_one_is_counted() {
    let site = Site::new(LatencyOptimal).await;
    let whole = photo("coffee");
    let wrong: [(&str, Payload, &str); 4] = [
        ("a truncated JPEG", whole.slice(..whole.len() / 2).into(), "truncated"),
        ("a text", "not a photo at all".into(), "image"),
        ("a header of 100 megapixels", header_of_100_megapixels().into(), "10000x10000"),
        ("nothing", "".into(), "image"),
    ];
    let run = |id: u128, payload: Payload| {
        let (fabric, camera) = (site.fabric.clone(), node("camera"));
        async move {
            fabric.run(&Name::new("photos").unwrap(), &camera, InvocationId::new(id), Some("camera-1"), payload).await
        }
    };
    for (id, (what, payload, says)) in wrong.into_iter().enumerate() {
        let failure = run(id as u128, payload).await.unwrap_err();
        let WorkflowFailure::Step { step: 0, function, source, .. } = failure else { panic!("{what}: {failure:?}") };
        assert_eq!(function.as_str(), "decode", "{what}");
        let InvokeError::Refused { function, message } = source else { panic!("{what}: {source:?}") };
        assert_eq!(function.as_str(), "decode", "{what}");
        assert!(message.contains(says), "{what}: {message}");
    }
    run(100, whole.into()).await.unwrap();
    assert_eq!(site.counted("espresso").await, 1);
}

#[tokio::test]
async fn a_payload_of_another_type_names_both_types() {
    let site = Site::new(LatencyOptimal).await;
    let error = site.call("classify", "pixels").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "function classify takes application/vnd.scf.activation, not application/octet-stream"
    );
}

#[tokio::test]
async fn a_stateful_call_without_a_key_is_refused() {
    let site = Site::new(LatencyOptimal).await;
    let json = Payload::new("{}").with_media(scf::core::MediaType::JSON);
    let error = site.call("tally", json).await.unwrap_err();
    assert!(matches!(error, InvokeError::NoKey { function } if function.as_str() == "tally"));
}
