//! Guests that mean harm, and that none is done.
#![cfg(feature = "wasm")]

mod suite;

use suite::{Log, Site, cases};

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
