//! How many servers keep a wait short: the M/M/c queue, exactly.

use std::time::Duration;

/// What servers are asked to do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who asks")]
pub struct OfferedLoad {
    /// Calls per second.
    pub arrivals: f64,
    /// Calls that one server serves per second.
    pub service: f64,
    /// How long a call may wait.
    pub wait: Duration,
    /// The share of calls that wait no longer, below 1.
    pub share: f64,
    /// Squared coefficients of variation of the times between calls and of the service times, added; 2 for Poisson
    /// arrivals and exponential service.
    pub variation: f64,
}

/// More servers than this are not counted.
pub const MOST_SERVERS: u32 = 1 << 20;

/// The probability that a call has to wait where `offered` erlangs meet `servers` servers: Erlang's C formula, by the
/// recursion of Erlang's B, which neither overflows nor cancels. 1 where there are too few servers.
///
/// Takes a step per server.
#[must_use]
pub fn erlang_c(offered: f64, servers: u32) -> f64 {
    if offered <= 0.0 {
        return 0.0;
    }
    if f64::from(servers) <= offered {
        return 1.0;
    }
    let blocked = (1..=servers).fold(1.0, |blocked, k| step(blocked, offered, k));
    waits(blocked, offered, servers)
}

/// Erlang's B with one server more.
fn step(blocked: f64, offered: f64, server: u32) -> f64 {
    offered * blocked / (f64::from(server) + offered * blocked)
}

/// Erlang's C by his B.
fn waits(blocked: f64, offered: f64, servers: u32) -> f64 {
    let utilisation = offered / f64::from(servers);
    blocked / (1.0 - utilisation + utilisation * blocked)
}

impl OfferedLoad {
    /// The share of calls that wait longer than `wait` with `servers` servers: `C·exp(−(cμ−λ)t)`, with the time scaled
    /// by `2 / variation` for other than exponential times (Allen and Cunneen; see Bolch et al., Queueing Networks and
    /// Markov Chains, 2006, section 6.3.6.1).
    #[must_use]
    pub fn late(&self, servers: u32) -> f64 {
        let offered = self.arrivals / self.service;
        self.late_with(erlang_c(offered, servers), servers)
    }

    fn late_with(&self, waits: f64, servers: u32) -> f64 {
        let spare = f64::from(servers) * self.service - self.arrivals;
        if spare <= 0.0 { 1.0 } else { waits * (-spare * self.wait.as_secs_f64() * 2.0 / self.variation).exp() }
    }

    /// The fewest servers that keep the promise: LaSS (Wang et al., HPDC 2021), by the exact tail instead of its sum
    /// over states, which provides too little where the wait is short. Zero without calls; [`MOST_SERVERS`] where even
    /// they are too few, or where the numbers are none.
    #[must_use]
    pub fn servers(&self) -> u32 {
        if self.arrivals <= 0.0 {
            return 0;
        }
        let offered = self.arrivals / self.service;
        if !(offered.is_finite() && offered < f64::from(MOST_SERVERS)) {
            return MOST_SERVERS;
        }
        let mut blocked = 1.0;
        for servers in 1..MOST_SERVERS {
            blocked = step(blocked, offered, servers);
            let is_stable = f64::from(servers) > offered;
            if is_stable && self.late_with(waits(blocked, offered, servers), servers) <= 1.0 - self.share {
                return servers;
            }
        }
        MOST_SERVERS
    }

    /// How many of servers of different speed, given as calls per second with the fastest first, keep the promise;
    /// none where all of them do not. They count as so many servers of their mean speed.
    #[must_use]
    pub fn of_mixed(&self, speeds: &[f64]) -> Option<usize> {
        if self.arrivals <= 0.0 {
            return Some(0);
        }
        let mut together = 0.0;
        speeds.iter().enumerate().find_map(|(position, speed)| {
            together += speed;
            let servers = u32::try_from(position + 1).ok()?;
            let demand = Self { service: together / f64::from(servers), ..*self };
            (demand.late(servers) <= 1.0 - self.share).then_some(position + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(arrivals: f64, service: f64, wait: f64, share: f64) -> OfferedLoad {
        OfferedLoad { arrivals, service, wait: Duration::from_secs_f64(wait), share, variation: 2.0 }
    }

    #[test]
    fn provides_the_published_numbers_of_servers() {
        let asked = [
            (10.0, 10.0, 0.1, 0.95, 3),
            (50.0, 10.0, 0.1, 0.95, 7),
            (100.0, 10.0, 0.1, 0.95, 13),
            (100.0, 10.0, 0.05, 0.99, 15),
            (5.0, 2.0, 0.2, 0.95, 5),
            (200.0, 20.0, 0.02, 0.99, 16),
        ];
        for (arrivals, service, wait, share, servers) in asked {
            assert_eq!(
                demand(arrivals, service, wait, share).servers(),
                servers,
                "{arrivals} {service} {wait} {share}"
            );
        }
    }

    #[test]
    fn one_server_waits_as_often_as_it_is_busy() {
        assert!((erlang_c(0.7, 1) - 0.7).abs() < 1e-12);
        assert_eq!((erlang_c(0.0, 1), erlang_c(2.0, 2)), (0.0, 1.0));
    }

    #[test]
    fn regular_service_needs_fewer_servers_and_bursty_service_more() {
        let exponential = demand(200.0, 20.0, 0.02, 0.99);
        let with = |variation| OfferedLoad { variation, ..exponential }.servers();
        assert!(with(1.0) < with(2.0) && with(2.0) < with(8.0));
    }

    #[test]
    fn fast_servers_are_fewer_and_too_few_are_said_to_be() {
        let demand = demand(50.0, 10.0, 0.1, 0.95);
        assert_eq!(demand.of_mixed(&[10.0; 9]), Some(7));
        assert!(demand.of_mixed(&[40.0, 10.0, 10.0, 10.0, 10.0, 10.0]).unwrap() < 7);
        assert_eq!(demand.of_mixed(&[10.0; 6]), None);
        assert_eq!(OfferedLoad { arrivals: 0.0, ..demand }.servers(), 0);
        assert_eq!(OfferedLoad { service: 0.0, ..demand }.servers(), MOST_SERVERS);
    }
}
