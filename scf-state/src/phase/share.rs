//! How many scopes of a node are local, so that calls take least over all.

use scf_core::{PhaseLoad, PhasePolicy, PhaseRule, ServiceTimes};

/// Bounds the local scopes of the policy `of` by what serves the calls of a node fastest.
///
/// A local scope has a slot of its own, as long as it is local; the others share those that are left. More local
/// scopes mean shorter calls for these and fewer slots for the rest, which past an optimum queue without end
/// (Puliafito et al., IEEE Computer 55(9), 2022, "performance" experiment). The optimum is found from what is measured:
/// the rate of calls, the number of scopes, how long remote and local calls take and how much that varies.
///
/// For local scopes the mean is that of a queue with one server (Pollaczek and Khinchine), for the shared slots that
/// of one with several (Erlang C, corrected for the variation after Lee and Longton). All scopes count as called
/// equally often; those that are called most often are the local ones.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal")]
pub struct BestShare<P> {
    /// Decides for the single scope.
    pub of: P,
    /// Calls that run at the same time: the room of the node or of the function.
    pub slots: u32,
    /// How busy the shared slots may become at most, from 0 to 1.
    pub busy: f64,
}

/// What is lost in the mean rather than a scope moved for it.
const TOLERANCE: f64 = 0.003;
/// Calls that must have been measured before anything is made of them.
const ENOUGH: f64 = 30.0;

impl<P: PhasePolicy> BestShare<P> {
    /// The best share of `slots` slots for `of`; the shared slots are kept below 90 %.
    pub const fn new(of: P, slots: u32) -> Self {
        Self { of, slots, busy: 0.9 }
    }
}

impl<P: PhasePolicy> PhasePolicy for BestShare<P> {
    fn rule(&self, seed: u64) -> Box<dyn PhaseRule> {
        self.of.rule(seed)
    }

    fn share(&self, load: &PhaseLoad) -> u32 {
        let bound = self.of.share(load);
        if load.remote.calls + load.local.calls < ENOUGH {
            // Nobody is given back for want of calls, and nobody is taken.
            return load.local_scopes.min(bound);
        }
        best_share(self.slots, load, self.busy).min(bound)
    }
}

/// The number of local scopes with which the mean response of [`mean_response`] is least, or the present one if it is
/// hardly worse. The shared slots are at most so `busy`.
#[must_use]
pub fn best_share(slots: u32, load: &PhaseLoad, busy: f64) -> u32 {
    let most = load.scopes.min(slots.saturating_sub(1));
    let fits = |local: &u32| mean_response(slots, *local, load).filter(|(_, shared)| *shared <= busy);
    let mean = |local: u32| fits(&local).map(|(mean, _)| mean);
    let best = (0..=most).filter_map(|local| Some((local, mean(local)?))).min_by(|a, b| a.1.total_cmp(&b.1));
    // Where even all slots are too few, nobody is given one of his own.
    let Some((best, least)) = best else { return 0 };
    let stays = mean(load.local_scopes).is_some_and(|present| present <= least * (1.0 + TOLERANCE));
    if stays { load.local_scopes } else { best }
}

/// Mean response in seconds, and how busy the shared slots are, when `local` of the scopes have a slot of their own and
/// the others share the rest of `slots`. `None` where a queue would grow without end.
#[must_use]
pub fn mean_response(slots: u32, local: u32, load: &PhaseLoad) -> Option<(f64, f64)> {
    let (remote, here) = service(load);
    let scopes = f64::from(load.scopes.max(1));
    let each = load.rate / scopes;
    let (others, shared) = (scopes - f64::from(local), slots.checked_sub(local)?);
    let served_here = if local > 0 { one_server(each, here)? } else { 0.0 };
    let served_there = if others > 0.0 { servers(shared, each * others, remote)? } else { (0.0, 0.0) };
    let mean = (f64::from(local) * served_here + others * served_there.0) / scopes;
    Some((mean, served_there.1))
}

/// How long remote and local calls take; of what was not seen, as the other kind says.
fn service(load: &PhaseLoad) -> (ServiceTimes, ServiceTimes) {
    let (mut remote, mut local) = (load.remote, load.local);
    if local.calls < ENOUGH {
        local = ServiceTimes { mean: (remote.mean - load.remote_cost).max(0.0), ..remote };
    }
    if remote.calls < ENOUGH {
        remote = ServiceTimes { mean: local.mean + load.remote_cost, ..local };
    }
    (remote, local)
}

fn one_server(rate: f64, service: ServiceTimes) -> Option<f64> {
    let busy = rate * service.mean;
    (busy < 1.0).then(|| service.mean + busy * service.mean * (1.0 + service.variation) / (2.0 * (1.0 - busy)))
}

/// Mean response and how busy the servers are.
fn servers(servers: u32, rate: f64, service: ServiceTimes) -> Option<(f64, f64)> {
    let offered = rate * service.mean;
    let busy = offered / f64::from(servers);
    if busy >= 1.0 || !busy.is_finite() {
        return None;
    }
    if offered <= 0.0 {
        return Some((service.mean, 0.0));
    }
    // The reciprocal of Erlang B, which cannot overflow before it no longer matters.
    let inverse = (1..=servers).fold(1.0, |inverse, server| 1.0 + inverse * f64::from(server) / offered);
    let blocked = 1.0 / inverse;
    let waits = blocked / (1.0 - busy * (1.0 - blocked));
    let wait = waits * service.mean / (f64::from(servers) - offered) * (1.0 + service.variation) / 2.0;
    Some((service.mean + wait, busy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::AlwaysLocal;

    /// The experiment of the paper: 40 containers, 0.075 calls a second, 1 s local and 3 s remote.
    fn paper(clients: u32) -> PhaseLoad {
        let times = |mean| ServiceTimes { calls: 1000.0, mean, variation: 1.0 };
        PhaseLoad {
            scopes: clients,
            rate: 0.075 * f64::from(clients),
            remote: times(3.0),
            local: times(1.0),
            remote_cost: 2.0,
            ..PhaseLoad::default()
        }
    }

    #[test]
    fn finds_the_optima_of_the_paper() {
        for (clients, best, mean, stable) in
            [(50, 33, 1.77, 37), (70, 25, 2.36, 31), (90, 18, 2.67, 25), (110, 11, 2.86, 19)]
        {
            let load = paper(clients);
            assert_eq!(best_share(40, &load, 1.0), best, "{clients} clients");
            assert!((mean_response(40, best, &load).unwrap().0 - mean).abs() < 0.006, "{clients} clients");
            assert!((mean_response(40, 0, &load).unwrap().0 - 3.0).abs() < 0.01, "{clients} clients");
            let most = (0..40).filter(|&local| mean_response(40, local, &load).is_some()).max();
            assert_eq!(most, Some(stable), "past it the shared slots collapse");
        }
    }

    #[test]
    fn knows_from_remote_calls_alone_what_local_ones_will_take() {
        let load = PhaseLoad { local: ServiceTimes::default(), ..paper(50) };
        assert_eq!(best_share(40, &load, 1.0), 33);
    }

    #[test]
    fn stays_where_it_is_for_little_and_keeps_the_shared_slots_below_what_they_may_have() {
        let load = PhaseLoad { local_scopes: 10, ..paper(110) };
        assert_eq!(best_share(40, &load, 1.0), 10);
        let share = best_share(40, &paper(110), 0.7);
        let busy = |local| mean_response(40, local, &paper(110)).unwrap().1;
        assert!(share < 11 && busy(share) <= 0.7 && busy(share + 1) > 0.7);
        assert_eq!(best_share(20, &paper(110), 1.0), 0, "too few slots for anybody to have one of his own");
    }

    #[test]
    fn moves_nobody_before_enough_calls_were_seen() {
        let load = PhaseLoad { local_scopes: 4, ..PhaseLoad::default() };
        assert_eq!(BestShare::new(AlwaysLocal, 40).share(&load), 4);
        assert_eq!(BestShare::new(AlwaysLocal, 40).share(&paper(50)), 33);
    }
}
