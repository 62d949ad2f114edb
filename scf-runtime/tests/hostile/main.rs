//! Guests that mean harm, and that none is done.
#![cfg(all(feature = "wasm", feature = "services"))]

mod suite;
mod timeouts;

use suite::{Log, Site, cases, leaked};

/// One runtime thread: a guest that does not give way would be noticed.
fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn every_hostile_guest_is_contained() {
    let log = Log::install();
    let cases = cases();
    let only = std::env::var("HOSTILE_CASE").unwrap_or_default();
    let failed: Vec<_> = one_thread().block_on(async {
        let site = Site::new(log).await;
        let mut failed = Vec::new();
        for case in cases.iter().filter(|case| case.name.contains(&only)) {
            eprintln!("{}: {}", case.threat, case.name);
            if let Err(problem) = case.run(&site).await {
                failed.push(format!("{}: {}: {problem}", case.threat, case.name));
            }
        }
        failed
    });
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// A pool of few slots, each of which is used thousands of times.
#[test]
#[ignore = "takes a minute"]
fn a_hundred_thousand_reuses_of_slots_leak_no_byte() {
    assert_eq!(reuse(100_000), Ok(0));
}

#[test]
fn two_thousand_reuses_of_slots_leak_no_byte() {
    assert_eq!(reuse(2_000), Ok(0));
}

fn reuse(rounds: usize) -> Result<u64, String> {
    one_thread().block_on(async {
        let site = Site::new(Log::default()).await;
        leaked(&site, rounds, 4).await
    })
}

#[test]
#[ignore = "takes a minute"]
fn ten_thousand_timeouts_end_no_call_of_a_neighbour() {
    timeouts::run(10_000);
}

#[test]
fn five_hundred_timeouts_end_no_call_of_a_neighbour() {
    timeouts::run(500);
}
