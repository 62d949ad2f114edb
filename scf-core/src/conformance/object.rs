//! What every [`ObjectStore`] promises.

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{ByteSize, Collected, MAX_REFERENCE, ObjectError, ObjectId, ObjectStore, ObjectUsage, Stored, Timestamp};

const ALL: Range<u64> = 0..u64::MAX;
const GRACE: Duration = Duration::from_secs(60);
/// Of the empty content and of `abc`, as the reference implementation of BLAKE3 gives them.
const KNOWN: [(&str, &str); 2] = [
    ("", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ("abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
];

/// Holds the stores that `make` gives against the contract of [`ObjectStore`].
///
/// `make` is called once per promise. Each store starts empty and has room for 64 MiB and 16 references.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn object_store<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn ObjectStore>>,
{
    names_objects_by_their_content(&*make().await).await;
    gives_what_was_put_however_it_was_written(&*make().await).await;
    gives_the_range_that_is_asked(&*make().await).await;
    leaves_nothing_of_an_object_that_was_not_finished(&*make().await).await;
    stores_equal_content_once(&*make().await).await;
    keeps_references(&*make().await).await;
    collects_what_nobody_needs_after_the_grace_and_nothing_else(&*make().await).await;
    collects_nothing_that_is_read_or_written(&*make().await).await;
}

async fn names_objects_by_their_content(store: &dyn ObjectStore) {
    for (content, id) in KNOWN {
        let stored = put(store, Bytes::from(content)).await;
        assert_eq!(stored.object.to_string(), id, "an object's name is the BLAKE3 hash of its content");
        assert_eq!(stored.size.bytes(), content.len() as u64, "its size is its content's");
        assert_eq!(read(store, stored.object, ALL).await, content, "its content is what was put");
    }
    let missing = ObjectId::from_bytes([1; 32]);
    assert_eq!(store.stat(missing).await.expect("readable"), None, "of what was never put nothing is known");
    let refused = store.get(missing, ALL).await.map(drop);
    assert!(
        matches!(refused, Err(ObjectError::NotFound { object }) if object == missing),
        "what was never put is not found: {refused:?}"
    );
}

async fn gives_what_was_put_however_it_was_written(store: &dyn ObjectStore) {
    let content = noise(1, 3_000_000);
    let whole = put(store, content.clone()).await;
    for step in [1 << 10, 77_777, 1 << 20] {
        let mut writer = store.put().await.expect("writable");
        for at in (0..content.len()).step_by(step) {
            let part = content.slice(at..content.len().min(at + step));
            writer.write(part).await.expect("there is room");
            writer.write(Bytes::new()).await.expect("nothing takes no room");
        }
        let stored = writer.finish().await.expect("there is room");
        let wanted = Stored { added: ByteSize::ZERO, ..whole };
        assert_eq!(stored, wanted, "the same content in parts of {step} is the same object, stored already");
    }
    assert_eq!(read(store, whole.object, ALL).await, content, "what is read is what was put");
    let manifest = store.stat(whole.object).await.expect("readable").expect("stored").manifest;
    let total: u64 = manifest.chunks.iter().map(|chunk| u64::from(chunk.size)).sum();
    assert_eq!((manifest.object, total), (whole.object, manifest.size.bytes()), "its chunks make up the object");
    assert!(manifest.chunks.iter().all(|chunk| chunk.size > 0), "no chunk is empty");
}

async fn gives_the_range_that_is_asked(store: &dyn ObjectStore) {
    let content = noise(2, 2_500_000);
    let object = put(store, content.clone()).await.object;
    let size = content.len() as u64;
    let chunks = store.stat(object).await.expect("readable").expect("stored").manifest.chunks;
    let edges = chunks.iter().scan(0, |at, chunk| {
        *at += u64::from(chunk.size);
        Some(*at)
    });
    let edges: Vec<u64> = edges.flat_map(|edge| [edge.saturating_sub(1), edge, (edge + 1).min(size)]).collect();
    for &start in edges.iter().step_by(2).chain(&[0, 1, size]) {
        for &end in edges.iter().step_by(3).chain(&[0, size, size + 9]) {
            let wanted = start.min(size) as usize..(end.min(size).max(start)) as usize;
            let found = read(store, object, start..end).await;
            assert!(found == content[wanted], "bytes {start}..{end} are those bytes");
        }
    }
    let behind = store.get(object, size + 1..size + 2).await.map(drop);
    assert!(
        matches!(behind, Err(ObjectError::Range { start, size: end, .. }) if (start, end) == (size + 1, size)),
        "a range that begins behind the end is refused: {behind:?}"
    );
}

async fn leaves_nothing_of_an_object_that_was_not_finished(store: &dyn ObjectStore) {
    let mut writer = store.put().await.expect("writable");
    writer.write(noise(3, 3_000_000)).await.expect("there is room");
    assert!(store.usage().bytes > ByteSize::ZERO, "what is being written is counted");
    drop(writer);
    let collected = store.collect(Timestamp::from_nanos(1), Duration::ZERO).await.expect("collectable");
    assert_eq!(collected, Collected::default(), "nothing of it is an object");
    let empty = ObjectUsage { limit: store.usage().limit, ..ObjectUsage::default() };
    assert_eq!(store.usage(), empty, "nothing of it is held");
}

async fn stores_equal_content_once(store: &dyn ObjectStore) {
    let (first, other) = (noise(4, 4_000_000), noise(5, 10));
    let stored = put(store, first.clone()).await;
    assert_eq!(stored.added, stored.size, "what is new is added");
    let again = put(store, first.clone()).await;
    assert_eq!(again, Stored { added: ByteSize::ZERO, ..stored }, "what is there is not added again");
    let usage = store.usage();
    assert_eq!((usage.objects, usage.bytes), (1, stored.size), "it is held once");
    let longer = put(store, [first.clone(), other].concat().into()).await;
    assert_ne!(longer.object, stored.object, "other content is another object");
    assert!(longer.added.bytes() < 3_000_000, "what they have in common is stored once: {} were added", longer.added);
    assert_eq!(read(store, stored.object, ALL).await, first, "and both are whole");
}

async fn keeps_references(store: &dyn ObjectStore) {
    let [a, b] = [put(store, Bytes::from("a")).await.object, put(store, Bytes::from("b")).await.object];
    let long = "x".repeat(MAX_REFERENCE);
    for name in ["m/1", "m/2", "n ä/..", &long] {
        assert_eq!(store.refer(name, a).await.expect("there is room"), None, "{name} referred to nothing");
        assert_eq!(store.resolve(name).await.expect("readable"), Some(a), "{name} refers to what it was told");
    }
    assert_eq!(store.refer("m/2", b).await.expect("there is room"), Some(a), "a reference is replaced");
    assert_eq!(references(store, a).await, 3, "references are counted");
    assert_eq!(references(store, b).await, 1, "those that were replaced are not");
    let under = store.references("m/", None, 10).await.expect("readable");
    assert_eq!(under, [("m/1".to_owned(), a), ("m/2".to_owned(), b)], "references are listed by name");
    let first = store.references("", None, 1).await.expect("readable");
    let second = store.references("", Some(&first[0].0), 1).await.expect("readable");
    assert_eq!([first, second].concat(), under, "page by page");
    assert_eq!(store.unrefer("m/2").await.expect("writable"), Some(b), "a reference is removed");
    assert_eq!(store.unrefer("m/2").await.expect("writable"), None, "once");
    assert_eq!(store.resolve("m/2").await.expect("readable"), None, "and refers to nothing then");
    for wrong in ["", &"x".repeat(MAX_REFERENCE + 1)] {
        let refused = store.refer(wrong, a).await;
        assert!(matches!(refused, Err(ObjectError::Name { .. })), "{wrong:?} is no name: {refused:?}");
    }
    let missing = store.refer("m/3", ObjectId::from_bytes([1; 32])).await;
    assert!(matches!(missing, Err(ObjectError::NotFound { .. })), "a reference refers to what is there: {missing:?}");
}

async fn collects_what_nobody_needs_after_the_grace_and_nothing_else(store: &dyn ObjectStore) {
    let at = |seconds: u64| Timestamp::default() + Duration::from_secs(seconds);
    let common = noise(6, 3_000_000);
    let kept = put(store, common.clone()).await;
    store.refer("kept", kept.object).await.expect("there is room");
    let lost = put(store, [&common[..], &noise(7, 500_000)].concat().into()).await;
    assert_eq!(collect(store, at(1000)).await, 0, "what is found without reference has its grace");
    assert_eq!(collect(store, at(1059)).await, 0, "until the grace is over");
    store.refer("late", lost.object).await.expect("there is room");
    store.unrefer("late").await.expect("writable");
    assert_eq!(collect(store, at(1061)).await, 0, "a reference begins the grace anew");
    put(store, [&common[..], &noise(7, 500_000)].concat().into()).await;
    assert_eq!(collect(store, at(1200)).await, 0, "and so does putting it again");
    let before = store.usage().bytes;
    let collected = store.collect(at(1260), GRACE).await.expect("collectable");
    assert_eq!(collected.objects, 1, "then it is collected");
    assert_eq!(store.usage().bytes + collected.bytes, before, "and what it alone needed is free");
    assert_eq!(store.stat(lost.object).await.expect("readable"), None, "it is not there");
    assert_eq!(read(store, kept.object, ALL).await, common, "what is referred to stays, and what they had in common");
    store.unrefer("kept").await.expect("writable");
    assert_eq!(store.collect(at(1300), Duration::ZERO).await.expect("collectable").objects, 1, "no grace, no delay");
    assert_eq!(store.usage().bytes, ByteSize::ZERO, "and nothing is left");
}

async fn collects_nothing_that_is_read_or_written(store: &dyn ObjectStore) {
    let content = noise(8, 3_000_000);
    let object = put(store, content.clone()).await.object;
    let mut reader = store.get(object, ALL).await.expect("stored");
    let mut writer = store.put().await.expect("writable");
    writer.write(content.clone()).await.expect("there is room");
    let (mut read_back, mut now) = (Vec::new(), 1);
    loop {
        let collected = store.collect(Timestamp::from_nanos(now), Duration::ZERO).await.expect("collectable");
        assert_eq!(collected, Collected::default(), "an object that is read is not collected");
        let Some(part) = reader.next().await.expect("undamaged") else { break };
        assert!(!part.is_empty(), "no part is empty");
        read_back.extend_from_slice(&part);
        now += 1;
    }
    drop(reader);
    assert!(read_back == content, "and read to its end");
    let collected = store.collect(Timestamp::from_nanos(now), Duration::ZERO).await.expect("collectable");
    assert_eq!(collected.objects, 1, "when it is read no more it is");
    let again = writer.finish().await.expect("there is room");
    assert_eq!(again.object, object, "an object that was being written comes about");
    assert!(read(store, object, ALL).await == content, "whole");
}

async fn put(store: &dyn ObjectStore, content: Bytes) -> Stored {
    store.put_bytes(content).await.expect("there is room")
}

async fn read(store: &dyn ObjectStore, object: ObjectId, range: Range<u64>) -> Bytes {
    let mut reader = store.get(object, range).await.expect("stored");
    let mut content = Vec::new();
    while let Some(part) = reader.next().await.expect("undamaged") {
        content.extend_from_slice(&part);
    }
    content.into()
}

async fn collect(store: &dyn ObjectStore, now: Timestamp) -> u64 {
    store.collect(now, GRACE).await.expect("collectable").objects
}

async fn references(store: &dyn ObjectStore, object: ObjectId) -> u64 {
    store.stat(object).await.expect("readable").expect("stored").references
}

/// Bytes without pattern, the same ones for the same seed.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut dice = seed;
    let mut noise = Vec::with_capacity(len + 8);
    while noise.len() < len {
        // Knuth's MMIX generator; its high half is random enough to have no pattern that chunks could follow.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&((dice >> 32) as u32).to_le_bytes());
    }
    noise.truncate(len);
    noise.into()
}
