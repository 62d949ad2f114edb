//! Blobs at a real broker.

use std::{cell::Cell, sync::Arc, time::Duration};

use scf_core::{BlobStore, ByteSize, Bytes, ObjectError, ObjectId, conformance};

use super::{NatsServer, options};
use crate::NatsBlobs;

const LIMIT: ByteSize = ByteSize::from_mib(16);

async fn blobs(server: &NatsServer) -> NatsBlobs {
    NatsBlobs::at(options(server).connect().await.unwrap()).quota(LIMIT).open().await.unwrap()
}

/// Content of a few parts, the last of them not whole.
fn content() -> Bytes {
    (0..200_000_u32).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn passes_the_suite() {
    let Some(server) = NatsServer::durable() else { return };
    let fabrics = Cell::new(0);
    let make = || {
        fabrics.set(fabrics.get() + 1);
        let options = options(&server).fabric(format!("suite-{}", fabrics.get()));
        async move {
            let blobs = NatsBlobs::at(options.connect().await.unwrap()).quota(LIMIT);
            Arc::new(blobs.open().await.unwrap()) as Arc<dyn BlobStore>
        }
    };
    conformance::blob::blob_store(make).await;
}

#[tokio::test]
async fn what_is_not_what_its_name_says_is_never_served() {
    let Some(server) = NatsServer::durable() else { return };
    let (blobs, content) = (blobs(&server).await, content());
    let object = blobs.put_blob(content.clone()).await.unwrap();
    let wrong = Bytes::from(vec![7; 65_536]);
    // Other bytes, bytes that are missing, a size that is none, a size that is another one.
    let twisted = [
        (format!("scf.blob.{object}.1"), wrong.clone()),
        (format!("scf.blob.{object}.1"), wrong.slice(1..)),
        (format!("scf.blob.{object}.head"), Bytes::from("3")),
        (format!("scf.blob.{object}.head"), Bytes::copy_from_slice(&199_999_u64.to_le_bytes())),
    ];
    for (subject, bytes) in twisted {
        blobs.write(object, subject, bytes).await.unwrap();
        let read = blobs.get_blob(object, LIMIT).await;
        assert!(matches!(read, Err(ObjectError::Corrupt { object: of, .. }) if of == object), "{read:?}");
        blobs.remove(object).await.unwrap();
        let read = blobs.get_blob(object, LIMIT).await;
        assert!(matches!(read, Err(ObjectError::NotFound { object: of }) if of == object), "{read:?}");
        blobs.put_blob(content.clone()).await.unwrap();
        assert_eq!(blobs.get_blob(object, LIMIT).await.unwrap(), content);
    }
}

#[tokio::test]
async fn a_part_that_is_missing_is_damage() {
    let Some(server) = NatsServer::durable() else { return };
    let blobs = blobs(&server).await;
    let object = blobs.put_blob(content()).await.unwrap();
    blobs.stream().await.unwrap().purge().filter(format!("scf.blob.{object}.2")).await.unwrap();
    let read = blobs.get_blob(object, LIMIT).await;
    assert!(matches!(read, Err(ObjectError::Corrupt { .. })), "{read:?}");
}

#[tokio::test]
async fn a_store_that_is_full_says_so_and_has_nothing_of_what_did_not_fit() {
    let Some(server) = NatsServer::durable() else { return };
    let broker = options(&server).connect().await.unwrap();
    let blobs = NatsBlobs::at(broker).quota(ByteSize::from_kib(256)).open().await.unwrap();
    let large = Bytes::from(vec![1; 1 << 20]);
    assert!(matches!(blobs.put_blob(large.clone()).await, Err(ObjectError::Full)));
    let read = blobs.get_blob(ObjectId::of(&large), LIMIT).await;
    assert!(matches!(read, Err(ObjectError::NotFound { .. })), "{read:?}");
}

#[tokio::test]
async fn a_broker_that_is_gone_is_told_and_what_was_put_is_there_when_it_is_back() {
    let Some(mut server) = NatsServer::durable() else { return };
    let broker = options(&server).connect().await.unwrap();
    let (blobs, content) = (NatsBlobs::at(broker.clone()).quota(LIMIT).open().await.unwrap(), content());
    let object = blobs.put_blob(content.clone()).await.unwrap();
    server.kill();
    while broker.is_connected() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let read = blobs.get_blob(object, LIMIT).await;
    assert!(matches!(read, Err(ObjectError::Unavailable { .. })), "{read:?}");
    // One that is opened while the broker is away is as good.
    let later = options(&server).connect_in_background().await.unwrap();
    let later = NatsBlobs::at(later).quota(LIMIT).open_later();
    assert!(matches!(later.get_blob(object, LIMIT).await, Err(ObjectError::Unavailable { .. })));
    server.restart();
    for blobs in [blobs, later] {
        let read = async {
            loop {
                match blobs.get_blob(object, LIMIT).await {
                    Err(ObjectError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                    read => return read,
                }
            }
        };
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), read).await.unwrap().unwrap(), content);
    }
}
