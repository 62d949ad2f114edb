//! Workflows that keep their time at the least cost.

use crate::chunkfunc::replays;

#[test]
fn every_run_is_in_time_at_the_cost_of_the_offline_optimum_where_profiles_are_true() {
    let all = replays(12, 0.0, 4);
    println!("{all:?}");
    assert_eq!((all.in_time, all.runs), (72, 72));
    assert!(all.worst <= 1.02, "{}", all.worst);
}

#[test]
fn ninety_nine_of_a_hundred_runs_are_in_time_where_steps_take_more_or_less_than_profiled() {
    let all = replays(50, 0.1, 5);
    println!("{all:?}");
    assert!(f64::from(all.in_time) >= 0.99 * f64::from(all.runs), "{} of {}", all.in_time, all.runs);
}
