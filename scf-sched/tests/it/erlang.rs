//! The number of servers, against an evaluation with 60 digits of the formula as it is defined.

use std::time::Duration;

use scf_sched::OfferedLoad;

use crate::random::Random;

/// Written by `tests/data/erlang_c.py`.
const EXACT: &str = include_str!("../data/erlang_c.txt");

#[test]
fn ten_thousand_demands_get_exactly_the_servers_they_need() {
    let mut random = Random::new(14);
    let mut checked = 0;
    for (position, exact) in EXACT.lines().enumerate() {
        let mut between = |least: u64, bound: u64| (least + random.below(bound)) as f64;
        let arrivals = between(1, 400_000) / 1e3;
        let service = between(500, 100_000) / 1e3;
        let wait = Duration::from_micros(between(100, 1_000_000) as u64);
        let late = between(100, 200_000) / 1e6;
        let demand = OfferedLoad { arrivals, service, wait, share: 1.0 - late, variation: 2.0 };
        assert_eq!(demand.servers().to_string(), exact, "line {}: {demand:?}", position + 1);
        checked += 1;
    }
    assert_eq!(checked, 10_000);
}
