//! Guests that are ended by the thousand beside a neighbour.

use std::{sync::Arc, time::Duration};

use scf_core::{InvokeError, LimitKind, Limits};

use crate::suite::{Log, Site, spins};

/// Calls that are ended at the same time.
const TOGETHER: usize = 8;

/// Has `count` calls ended by their CPU limit or their wall deadline, in turns, on two threads, and calls a neighbour
/// all the while.
pub(crate) fn run(count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let site = Arc::new(Site::new(Log::default()).await);
        let cpu = Limits { cpu: Duration::from_millis(1), ..Limits::default() };
        let wall = Limits { wall: Duration::from_millis(2), ..Limits::default() };
        let neighbour = tokio::spawn({
            let site = Arc::clone(&site);
            async move { site.neighbour_for_ever().await }
        });
        for (limits, expected) in [(cpu, LimitKind::Cpu), (wall, LimitKind::Wall)] {
            site.deploy(&spins().limits(limits)).await.unwrap();
            let calls: Vec<_> = (0..TOGETHER)
                .map(|_| {
                    let site = Arc::clone(&site);
                    tokio::spawn(async move {
                        for _ in 0..count / 2 / TOGETHER {
                            let ended = site.call(b"").await;
                            assert!(
                                matches!(&ended, Err(InvokeError::Limit { limit, .. }) if *limit == expected),
                                "{ended:?}"
                            );
                        }
                    })
                })
                .collect();
            for call in calls {
                call.await.unwrap();
            }
        }
        assert!(!neighbour.is_finished(), "{:?}", neighbour.await);
        neighbour.abort();
        let bills = site.fabric.bills();
        let (_, bill) = bills.iter().find(|(name, _)| name.as_str() == "neighbour").unwrap();
        assert_eq!(bill.failures, 0);
        assert!(bill.calls > 0);
    });
}
