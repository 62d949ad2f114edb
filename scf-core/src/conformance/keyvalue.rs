//! What every [`KeyValue`] store promises.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;

use crate::{Bucket, KeyValue, KeyValueError, KeyValueLimits, Name, Op, TenantName};

/// Writers that compete.
const WRITERS: usize = 8;

/// Holds the stores that `make` gives against the contract of [`KeyValue`].
///
/// `make` is called once per promise with the limits that the store must have; each store starts empty.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn key_value<F, Fut>(make: F)
where
    F: Fn(KeyValueLimits) -> Fut,
    Fut: Future<Output = Arc<dyn KeyValue>>,
{
    macro_rules! hold {
        ($($promise:ident),* $(,)?) => {$(
            $promise(&*make(KeyValueLimits { key: 8, value: 16, bucket: 320, changes: 4 }).await).await;
        )*};
    }
    hold!(
        reads_what_was_written,
        keeps_buckets_and_tenants_apart,
        applies_changes_in_order,
        lists_keys_page_by_page,
        swaps_only_what_was_read,
        lets_one_of_several_writers_win,
        refuses_what_is_over_a_limit_and_changes_nothing,
        counts_what_is_in_a_bucket_and_not_what_was,
    );
}

fn bucket(tenant: &str, name: &str) -> Bucket {
    let tenant = TenantName::new(tenant).expect("the suite's names are names");
    Bucket { tenant, name: Name::new(name).expect("the suite's names are names") }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), expires: None }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.into() }
}

async fn write(store: &dyn KeyValue, bucket: &Bucket, changes: Vec<Op>) {
    store.write(bucket, changes).await.expect("changes within the limits are applied");
}

async fn read(store: &dyn KeyValue, bucket: &Bucket, key: &str) -> Option<Bytes> {
    store.get(bucket, key).await.expect("a key within the limits is read").map(|entry| entry.value)
}

async fn reads_what_was_written(store: &dyn KeyValue) {
    let a = bucket("t", "a");
    assert_eq!(read(store, &a, "k").await, None, "a value that was never written is absent");
    write(store, &a, vec![put("k", "one"), put("empty", "")]).await;
    assert_eq!(read(store, &a, "k").await.as_deref(), Some(&b"one"[..]), "a value is what was written");
    assert_eq!(read(store, &a, "empty").await.as_deref(), Some(&b""[..]), "an empty value is a value");
    write(store, &a, vec![put("k", "two")]).await;
    assert_eq!(read(store, &a, "k").await.as_deref(), Some(&b"two"[..]), "a value is what was written last");
    write(store, &a, vec![delete("k"), delete("absent")]).await;
    assert_eq!(read(store, &a, "k").await, None, "a deleted value is absent, and deleting nothing is no error");
}

async fn keeps_buckets_and_tenants_apart(store: &dyn KeyValue) {
    write(store, &bucket("t", "a"), vec![put("k", "ta")]).await;
    for other in [bucket("t", "b"), bucket("u", "a"), bucket("a", "t")] {
        assert_eq!(read(store, &other, "k").await, None, "bucket {other} sees what is in t/a");
    }
}

async fn applies_changes_in_order(store: &dyn KeyValue) {
    let a = bucket("t", "a");
    write(store, &a, vec![put("k", "one"), delete("k"), put("k", "two"), put("k", "three")]).await;
    assert_eq!(read(store, &a, "k").await.as_deref(), Some(&b"three"[..]), "the last change of a key counts");
}

async fn lists_keys_page_by_page(store: &dyn KeyValue) {
    let a = bucket("t", "a");
    assert!(store.keys(&a, None, 10).await.expect("an empty bucket has keys").is_empty());
    for key in ["b", "d", "a", "é"] {
        write(store, &a, vec![put(key, "")]).await;
    }
    let mut pages = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.keys(&a, after.as_deref(), 2).await.expect("keys are listed");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2, "a page has at most what was asked for");
        after = Some(last.clone());
        pages.extend(page);
    }
    assert_eq!(pages, ["a", "b", "d", "é"], "every key is listed once, ascending");
}

async fn swaps_only_what_was_read(store: &dyn KeyValue) {
    let a = bucket("t", "a");
    let swap = async |expect, value: &'static str| {
        store.swap(&a, "k", expect, value.into()).await.expect("a swap within the limits is tried")
    };
    assert!(swap(None, "one").await, "an absent key is swapped when none is expected");
    assert!(!swap(None, "again").await, "a present key is not swapped when none is expected");
    let one = store.get(&a, "k").await.expect("it is read").expect("it was written").version;
    write(store, &a, vec![put("other", "x")]).await;
    assert!(swap(Some(one), "two").await, "changes of other keys do not matter");
    assert!(!swap(Some(one), "three").await, "a key that moved on is not swapped");
    let two = store.get(&a, "k").await.expect("it is read").expect("it was written").version;
    write(store, &a, vec![delete("k")]).await;
    assert!(!swap(Some(two), "three").await, "a key that is gone is not swapped");
    write(store, &a, vec![put("k", "two")]).await;
    assert!(!swap(Some(two), "three").await, "a key that was away meanwhile is not the one that was read");
}

async fn lets_one_of_several_writers_win(store: &dyn KeyValue) {
    let a = bucket("t", "a");
    let writers: Vec<_> = (0..WRITERS).map(|_| store.swap(&a, "k", None, Bytes::from_static(b"mine"))).collect();
    let answers = all(writers).await;
    let won = answers.into_iter().filter(|answer| matches!(answer, Ok(true))).count();
    assert_eq!(won, 1, "one of several that expect the same wins");
}

async fn refuses_what_is_over_a_limit_and_changes_nothing(store: &dyn KeyValue) {
    let a = bucket("t", "a");
    let refused = async |changes| store.write(&a, changes).await.expect_err("it is over a limit");
    assert!(matches!(refused(vec![put("k", "x"), put("", "x")]).await, KeyValueError::Key { size: 0, limit: 8 }));
    assert!(matches!(refused(vec![put("k", "x"), delete("ninebytes")]).await, KeyValueError::Key { size: 9, .. }));
    let long = "x".repeat(17);
    assert!(matches!(refused(vec![put("k", "x"), put("l", &long)]).await, KeyValueError::Value { size: 17, .. }));
    assert!(matches!(refused(vec![put("k", "x"); 5]).await, KeyValueError::Changes { changes: 5, limit: 4 }));
    let full = "x".repeat(16);
    let four = ["k", "l", "m", "n"].map(|key| put(key, &full));
    assert!(matches!(refused(four.into()).await, KeyValueError::Full { size: 324, limit: 320 }));
    assert!(matches!(store.get(&a, "ninebytes").await, Err(KeyValueError::Key { .. })));
    assert!(matches!(store.swap(&a, "k", None, long.into()).await, Err(KeyValueError::Value { .. })));
    assert_eq!(read(store, &a, "k").await, None, "what is refused changes nothing");
}

async fn counts_what_is_in_a_bucket_and_not_what_was(store: &dyn KeyValue) {
    let a = bucket("t", "a");
    let full = "x".repeat(16);
    for _ in 0..10 {
        write(store, &a, vec![put("k", &full), put("l", &full)]).await;
        write(store, &a, vec![delete("k"), put("l", "x")]).await;
    }
    write(store, &a, ["k", "m", "n"].map(|key| put(key, &full)).into()).await;
    let over = store.swap(&a, "o", None, full.into()).await;
    assert!(matches!(over, Err(KeyValueError::Full { size: 390, limit: 320 })), "{over:?}");
}

/// Waits for all of `futures`, each polled in turn.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<Option<Pin<Box<F>>>> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut outputs = Vec::new();
    poll_fn(move |cx| {
        for slot in &mut pending {
            let Some(future) = slot else { continue };
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                outputs.push(output);
                *slot = None;
            }
        }
        if pending.iter().all(Option::is_none) { Poll::Ready(std::mem::take(&mut outputs)) } else { Poll::Pending }
    })
    .await
}
