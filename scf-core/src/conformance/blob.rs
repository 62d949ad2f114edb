//! What every [`BlobStore`] promises.

use std::{future::Future, sync::Arc};

use bytes::Bytes;

use crate::{BlobStore, ByteSize, ObjectError, ObjectId};

/// Holds the stores that `make` gives against the contract of [`BlobStore`].
///
/// `make` is called once per promise. Each store starts empty and has room for 16 MiB.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn blob_store<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn BlobStore>>,
{
    gives_what_was_put(&*make().await).await;
    gives_nothing_that_was_not_put_or_is_too_large(&*make().await).await;
}

async fn gives_what_was_put(store: &dyn BlobStore) {
    for length in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        let content: Bytes = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let size = ByteSize::from_bytes(u64::from(length));
        let object = store.put_blob(content.clone()).await.expect("there is room");
        assert_eq!(object, ObjectId::of(&content), "a blob's name is the hash of its content");
        let again = store.put_blob(content.clone()).await.expect("there is room");
        assert_eq!(again, object, "what is there is put again");
        let read = store.get_blob(object, size).await.expect("it is there and as large as is taken");
        assert!(read == content, "{length} bytes are read as they were put");
    }
}

async fn gives_nothing_that_was_not_put_or_is_too_large(store: &dyn BlobStore) {
    let content = Bytes::from(vec![7; 100_000]);
    let object = ObjectId::of(&content);
    let missing = store.get_blob(object, ByteSize::from_mib(1)).await;
    assert!(
        matches!(missing, Err(ObjectError::NotFound { object: of }) if of == object),
        "what was not put is not there: {missing:?}"
    );
    store.put_blob(content).await.expect("there is room");
    let limit = ByteSize::from_bytes(99_999);
    let refused = store.get_blob(object, limit).await;
    assert!(
        matches!(refused, Err(ObjectError::TooLarge { size, limit: most, .. }) if (size.bytes(), most) == (100_000, limit)),
        "what is larger than is taken is refused: {refused:?}"
    );
}
