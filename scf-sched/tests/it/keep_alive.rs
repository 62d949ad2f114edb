//! Keeping functions warm by what is learned of them, against ten minutes for all.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use scf_core::{ByteSize, FunctionName, Timestamp};
use scf_sched::{Start, WarmPool};

use crate::azure::{Application, applications};

const COLD: Duration = Duration::from_secs(1);
const TEN_MINUTES: f64 = 600.0;

/// What a policy came to.
#[derive(Debug)]
struct Came {
    cold: usize,
    /// The share of cold calls of an application, in the mean over them.
    by_application: f64,
    /// Memory of what was warm and not called, in the mean.
    warm: f64,
    most: u64,
}

fn by_application(apps: &[Application], cold: &[usize]) -> f64 {
    let called = apps.iter().zip(cold).filter(|(app, _)| !app.calls.is_empty());
    let shares: Vec<_> = called.map(|(app, cold)| *cold as f64 / app.calls.len() as f64).collect();
    shares.iter().sum::<f64>() / shares.len() as f64
}

fn fixed(apps: &[Application], span: f64, keep: f64) -> Came {
    let (mut warm, mut cold) = (0.0, Vec::new());
    for app in apps {
        let mut colds = 1.min(app.calls.len());
        for (at, (_, end)) in app.calls.iter().enumerate() {
            let next = app.calls.get(at + 1).map_or(span, |(begin, _)| *begin);
            colds += usize::from(at + 1 < app.calls.len() && next - end > keep);
            warm += app.bytes.bytes() as f64 * (next - end).min(keep).max(0.0);
        }
        cold.push(colds);
    }
    Came { cold: cold.iter().sum(), by_application: by_application(apps, &cold), warm: warm / span, most: 0 }
}

fn time(seconds: f64) -> Timestamp {
    Timestamp::from_nanos((seconds * 1e9) as u64)
}

fn learned(apps: &[Application], span: f64, mut pool: WarmPool) -> Came {
    let names: Vec<_> = (0..apps.len()).map(|at| FunctionName::new(&format!("app-{at}")).unwrap()).collect();
    let mut cold = vec![0; apps.len()];
    let mut next = BinaryHeap::new();
    for (at, app) in apps.iter().enumerate() {
        pool.add(&names[at], app.bytes, COLD);
        if let Some((begin, _)) = app.calls.first() {
            next.push(Reverse((time(*begin), at, 0, false)));
        }
    }
    let (mut now, mut warm, mut most, mut changes) = (Timestamp::default(), 0.0, 0, Vec::new());
    while let Some(Reverse((at, app, call, is_end))) = next.pop() {
        // What is due before it happens at its own time.
        while let Some(due) = pool.next_due().filter(|due| *due < at) {
            warm += pool.warm().bytes() as f64 * due.since(now).as_secs_f64();
            now = now.max(due);
            pool.tick(now, &mut changes);
            changes.clear();
        }
        warm += pool.warm().bytes() as f64 * at.since(now).as_secs_f64();
        now = at;
        if is_end {
            pool.rests(&names[app], now, &mut changes);
            if let Some((begin, _)) = apps[app].calls.get(call + 1) {
                next.push(Reverse((time(*begin), app, call + 1, false)));
            }
        } else {
            cold[app] += usize::from(pool.called(&names[app], now) == Start::Cold);
            next.push(Reverse((time(apps[app].calls[call].1), app, call, true)));
        }
        most = most.max(pool.warm().bytes());
    }
    Came { cold: cold.iter().sum(), by_application: by_application(apps, &cold), warm: warm / span, most }
}

#[test]
fn there_are_fewer_cold_starts_in_less_memory_than_with_ten_minutes_for_all() {
    let span = 3.0 * 86_400.0;
    let apps = applications(140, Duration::from_secs_f64(span), 1);
    let ten_minutes = fixed(&apps, span, TEN_MINUTES);
    let ours = learned(&apps, span, WarmPool::new(ByteSize::from_bytes(u64::MAX)));
    println!("ten minutes: {ten_minutes:?}\nlearned: {ours:?}");
    assert!(ours.cold < ten_minutes.cold && ours.warm < ten_minutes.warm);
    assert!(ours.by_application < ten_minutes.by_application);
}

#[test]
fn under_a_hard_bound_of_what_ten_minutes_take_there_are_still_fewer_cold_starts() {
    let span = 3.0 * 86_400.0;
    let apps = applications(140, Duration::from_secs_f64(span), 2);
    let ten_minutes = fixed(&apps, span, TEN_MINUTES);
    let limit = ByteSize::from_bytes(ten_minutes.warm as u64);
    let ours = learned(&apps, span, WarmPool::new(limit).patience(Duration::from_secs(900)));
    println!("ten minutes: {ten_minutes:?}\nlearned: {ours:?}");
    assert!(ours.cold < ten_minutes.cold);
    assert!(ours.by_application < ten_minutes.by_application);
    assert!(ours.most <= limit.bytes() && ours.warm <= ten_minutes.warm);
}
