//! More calls than there is room for.

use std::time::{Duration, Instant};

use futures::FutureExt;
use scf_core::{InvokeError, Limits};

use super::{
    Attack, Case, Expect,
    guest::Guest,
    limits,
    site::{INSTANCES, Site},
};

const THREAT: &str = "flood";

/// Takes every instance of the pool: the calls that find none are told to come back.
///
/// The neighbour would be told the same, so all of it happens between two calls of the neighbour.
pub(super) async fn beyond_the_pool(site: &Site) -> Result<(), String> {
    let most = Limits { concurrency: 4 * INSTANCES, ..limits(10_000, 1) };
    site.deploy(&Guest::new("(loop $again (br $again)) (unreachable)").build().limits(most)).await?;
    let mut calls: Vec<_> = (0..2 * INSTANCES).map(|_| Box::pin(site.call(b""))).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while calls.len() > INSTANCES as usize {
        if Instant::now() > deadline {
            return Err(format!("{} calls run at the same time", calls.len()));
        }
        let mut running = Vec::new();
        for mut call in calls {
            match call.as_mut().now_or_never() {
                None => running.push(call),
                Some(Err(InvokeError::Overloaded { retry_after, .. })) if !retry_after.is_zero() => {}
                Some(other) => return Err(format!("expected overload, found {other:?}")),
            }
        }
        calls = running;
        // Guests that run long are on threads of their own.
        std::thread::yield_now();
    }
    if calls.len() == INSTANCES as usize { Ok(()) } else { Err(format!("only {} ran", calls.len())) }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            THREAT,
            "a thousand calls of a function that takes eight at a time and lets sixteen wait",
            Attack::Story(|site| {
                async move {
                    let few = Limits { concurrency: 8, queue: 16, ..limits(5, 1) };
                    site.deploy(&Guest::new("(loop $again (br $again)) (unreachable)").build().limits(few)).await?;
                    let ends = futures::future::join_all((0..1000).map(|_| site.call(b""))).await;
                    let (mut ended, mut refused) = (0, 0);
                    for end in ends {
                        match end {
                            Err(InvokeError::Limit { .. }) => ended += 1,
                            Err(InvokeError::Overloaded { .. }) => refused += 1,
                            other => return Err(format!("expected a limit or overload, found {other:?}")),
                        }
                    }
                    // Those that end in their first turn leave room for as many more.
                    if (24..=48).contains(&ended) && ended + refused == 1000 {
                        Ok(())
                    } else {
                        Err(format!("{ended} ran and {refused} were refused"))
                    }
                }
                .boxed()
            }),
        ),
        Case::new(
            THREAT,
            "deployments of the same name, over and over, while it is called",
            Attack::Story(|site| {
                async move {
                    let answers = Guest::new(super::guest::answer("(i32.const 1)")).build();
                    site.deploy(&answers).await?;
                    let deploys = async {
                        for _ in 0..20 {
                            site.deploy(&answers).await?;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        Ok::<_, String>(())
                    };
                    let calls = async {
                        for _ in 0..500 {
                            Expect::Reply(&[1, 0, 0, 0]).check(&site.call(b"").await)?;
                            tokio::task::yield_now().await;
                        }
                        Ok(())
                    };
                    futures::future::try_join(deploys, calls).await.map(drop)
                }
                .boxed()
            }),
        ),
    ]
}
