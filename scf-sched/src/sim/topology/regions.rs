//! Places all over the world, as far from each other as was measured.

use super::{attach, device};
use crate::sim::network::{Link, LinkKind, Topology};

/// Measured round trips between places.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundTrips {
    names: Vec<String>,
    /// Milliseconds, by source and target; not a number where it was not measured.
    ms: Vec<f64>,
}

impl RoundTrips {
    /// 28 cities of six continents (WonderNetwork, 2020).
    #[must_use]
    pub fn cities() -> Self {
        Self::parse(include_str!("../../../data/rtt/cities.csv"))
    }

    /// 20 regions of AWS (cloudping.co, 2020).
    #[must_use]
    pub fn aws() -> Self {
        Self::parse(include_str!("../../../data/rtt/aws.csv"))
    }

    /// 19 regions of Google's cloud (cloudping, 2020); a twentieth was not measured.
    #[must_use]
    pub fn gcp() -> Self {
        Self::parse(include_str!("../../../data/rtt/gcp.csv"))
    }

    /// Of lines `source,target,milliseconds` after a line of titles. What was measured in one direction counts for both;
    /// lines that are something else, and times below 0 (not measured), are left out.
    fn parse(csv: &str) -> Self {
        let rows = csv.lines().skip(1).filter_map(|line| {
            let mut fields = line.split(',');
            Some((fields.next()?, fields.next()?, fields.next()?.trim().parse::<f64>().ok()?))
        });
        let rows: Vec<(&str, &str, f64)> = rows.filter(|(_, _, ms)| *ms >= 0.0).collect();
        let mut names: Vec<String> = rows.iter().flat_map(|(a, b, _)| [*a, *b]).map(String::from).collect();
        names.sort();
        names.dedup();
        let n = names.len();
        let mut ms = vec![f64::NAN; n * n];
        for (a, b, value) in rows {
            let place =
                |name: &str| names.binary_search_by(|other| other.as_str().cmp(name)).expect("it is among the names");
            let (a, b) = (place(a), place(b));
            ms[a * n + b] = value;
            if ms[b * n + a].is_nan() {
                ms[b * n + a] = value;
            }
        }
        Self { names, ms }
    }

    /// The places, in alphabetical order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Milliseconds between two places by their position; `None` if it was not measured, 0 within a place.
    #[must_use]
    pub fn ms(&self, from: usize, to: usize) -> Option<f64> {
        if from == to {
            return Some(0.0);
        }
        let ms = self.ms[from * self.names.len() + to];
        ms.is_finite().then_some(ms)
    }
}

/// `per_place` hosts of one device in each place, with links between all pairs of places that were measured: half the
/// round trip one way, `wan_mbit` each. Hosts are on 10 Gbit/s. The first of each place keeps data.
#[must_use]
pub fn regions(of: &RoundTrips, device_name: &str, per_place: u32, wan_mbit: f64) -> Topology {
    let mut topology = Topology::new();
    let switches: Vec<_> = of.names().iter().map(|_| topology.junction()).collect();
    for (place, (name, switch)) in of.names().iter().zip(&switches).enumerate() {
        for n in 0..per_place {
            let mut host = device(format!("{name}-{n}"), device_name, place as u16);
            host.storage = n == 0 && per_place > 1;
            attach(&mut topology, host, *switch, 10_000.0);
        }
    }
    for (from, a) in switches.iter().enumerate() {
        for (to, b) in switches.iter().enumerate() {
            let Some(ms) = of.ms(from, to).filter(|_| from != to) else { continue };
            let way = topology.link(Link {
                name: format!("{}-{}", of.names()[from], of.names()[to]),
                bandwidth: super::mbit(wan_mbit),
                kind: LinkKind::Uplink,
                latency: ms / 2000.0,
            });
            topology.leads_out(from as u16, way);
            topology.leads_out(to as u16, way);
            topology.lead(*a, way);
            topology.lead(way, *b);
        }
    }
    super::registry(&mut topology, &switches);
    topology
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pairs_of_places_were_measured() {
        for (of, places) in [(RoundTrips::cities(), 28), (RoundTrips::aws(), 20), (RoundTrips::gcp(), 19)] {
            assert_eq!(of.names().len(), places);
            let pairs = (0..places).flat_map(|a| (0..a).map(move |b| (a, b)));
            for (a, b) in pairs {
                let ms = of.ms(a, b).unwrap();
                assert!((0.5..600.0).contains(&ms), "{} {}: {ms}", of.names()[a], of.names()[b]);
            }
        }
    }

    #[test]
    fn hosts_are_as_far_from_each_other_as_their_places() {
        let of = RoundTrips::cities();
        let mut world = regions(&of, "xeoncpu", 2, 1000.0);
        let at = |name: &str| world.hosts().iter().position(|host| host.name == name).unwrap();
        let [amsterdam, auckland] = [at("Amsterdam-1"), at("Auckland-1")];
        assert!((world.latency(amsterdam, auckland) - 0.271_389 / 2.0).abs() < 1e-6);
    }
}
