//! Pages of entries.

use super::*;

pub(super) async fn gives_pages_in_the_order_of_keys(backend: &dyn StateBackend, _: &ManualClock) {
    let scope = scope("a");
    assert_eq!(backend.scan(&scope, "", None, 5).await, Ok(Page::default()), "a fresh scope has an empty page");
    let keys = ["", "a", "a/1", "a/10", "a/2", "a/\u{0}", "a\u{10ffff}", "b", "käse", "\u{10ffff}"];
    let all = keys.iter().fold(batch(backend, &scope), |batch, key| batch.put(*key, key.as_bytes().to_vec()));
    applied(backend.commit(all).await);
    for prefix in ["", "a", "a/", "a/1", "b", "k", "z", "\u{10ffff}"] {
        let mut wanted: Vec<&str> = keys.iter().copied().filter(|key| key.starts_with(prefix)).collect();
        wanted.sort_unstable();
        for limit in [1, 2, 3, 100] {
            let mut found = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let page = backend.scan(&scope, prefix, after.as_deref(), limit).await.expect("readable");
                assert_eq!(page.version, Version::new(1), "a page says of which version it is");
                assert!(page.entries.len() <= limit, "a page has no more than is asked");
                for (key, entry) in page.entries {
                    assert_eq!(entry.value, key.as_bytes(), "a page has values with their keys");
                    found.push(key);
                }
                match page.after {
                    Some(next) if found.len() <= keys.len() => after = Some(next),
                    _ => break,
                }
            }
            assert_eq!(found, wanted, "pages of {limit} under {prefix:?} are all keys, once and ascending");
        }
    }
    let behind = backend.scan(&scope, "a/", Some("b"), 10).await.expect("readable");
    assert_eq!((behind.entries, behind.after), (Vec::new(), None), "nothing is behind the prefix");
}

pub(super) async fn refuses_what_is_larger_than_it_takes(backend: &dyn StateBackend, _: &ManualClock) {
    let scope = scope("a");
    let limit = backend.caps().max_value;
    // What cannot be tried in memory is not tried.
    if limit.bytes() > 1 << 30 {
        return;
    }
    let large = Bytes::from(vec![0; limit.bytes() as usize + 1]);
    let put = backend.commit(batch(backend, &scope).put("small", "").put("large", large.clone())).await;
    assert!(matches!(put, Err(StateError::TooLarge { .. })), "a value above the bound is refused");
    let result = backend.commit(batch(backend, &scope).invocation(InvocationId::new(1), large)).await;
    assert!(matches!(result, Err(StateError::TooLarge { .. })), "so is a result");
    assert_eq!(backend.export(&scope).await, Ok(Snapshot::default()), "what is refused changes nothing");
}
