//! What several ask for at once is made once.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OnceCell;

/// What is being made, by what it is made for. Holds an entry for each that somebody waits for.
#[derive(Debug)]
pub(crate) struct Flights<K, V>(Mutex<HashMap<K, Weak<OnceCell<V>>>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// What `make` makes, or somebody else is making for `key`. Where that fails or is given up, the next who waits
    /// makes it.
    pub(crate) async fn once<E>(&self, key: &K, make: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let cell = {
            let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            made.retain(|_, cell| cell.strong_count() > 0);
            made.get(key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let cell = Arc::new(OnceCell::new());
                made.insert(key.clone(), Arc::downgrade(&cell));
                cell
            })
        };
        cell.get_or_try_init(|| make).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicU32, Ordering::Relaxed},
    };

    use futures::{
        FutureExt,
        future::{join, poll_immediate},
    };
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn what_two_ask_for_at_once_is_made_once_and_anew_when_both_have_it() {
        let (flights, made) = (Flights::default(), AtomicU32::new(0));
        let make = || async {
            yield_now().await;
            Ok::<_, ()>(made.fetch_add(1, Relaxed))
        };
        assert_eq!(join(flights.once(&1, make()), flights.once(&1, make())).await, (Ok(0), Ok(0)));
        assert_eq!(join(flights.once(&1, make()), flights.once(&2, make())).await, (Ok(1), Ok(2)));
    }

    #[tokio::test]
    async fn who_waits_makes_what_another_failed_at_or_gave_up() {
        let flights = Flights::default();
        let failing = async {
            yield_now().await;
            Err::<u32, _>("no")
        };
        let both = join(flights.once(&1, failing), flights.once(&1, ready(Ok::<_, &str>(7)))).await;
        assert_eq!(both, (Err("no"), Ok(7)));
        let mut given_up = Box::pin(flights.once::<&str>(&1, pending()));
        assert_eq!(poll_immediate(&mut given_up).await, None);
        let mut waits = Box::pin(flights.once::<&str>(&1, ready(Ok(8))));
        assert_eq!(waits.as_mut().now_or_never(), None);
        drop(given_up);
        assert_eq!(waits.await, Ok(8));
    }
}
