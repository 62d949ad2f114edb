//! Traffic monitoring and hazard detection: the second scenario of Polaris' evaluation.

mod cluster;

use std::time::Duration;

use scf_core::{ByteSize, Code, Function, FunctionName, MilliCpu, Name, Needs, Resources, Timestamp};

use crate::{
    Bound, Decision, Demand, LinkBound, Neighbour, Policy, Request,
    fleet::{Claim, Fleet, FleetError, NodeIx},
    place::is_carried,
};

/// Services, with thousandths of a core and GiB. The first needs a base station.
const SERVICES: [(&str, u32, u64); 5] = [
    ("collector", 1000, 1),
    ("aggregator", 4000, 2),
    ("hazard-broadcaster", 2000, 2),
    ("region-manager", 4000, 8),
    ("traffic-info-provider", 2000, 2),
];
const COLLECTOR: usize = 0;
const AGGREGATOR: usize = 1;
const BROADCASTER: usize = 2;
const MANAGER: usize = 3;
const PROVIDER: usize = 4;
/// From one service to another at least so many kbit/s, and at most so many milliseconds.
const ASKED: [(usize, usize, u64, u64); 4] = [
    (COLLECTOR, AGGREGATOR, 10_000, 50),
    (COLLECTOR, BROADCASTER, 1_000, 10),
    (AGGREGATOR, MANAGER, 10_000, 100),
    (MANAGER, PROVIDER, 20_000, 50),
];
/// Collectors that report to the same aggregator and warn over the same broadcaster.
const COLLECTORS: usize = 3;

/// Subclusters of a cloud node, single-board computers and base stations, and the service graph that is to be placed on
/// them with quality of service on its links (polaris-slo-cloud/polaris-scheduler, scenario 2): with 10 subclusters the
/// 120 nodes of the evaluation.
///
/// Of the replicas of a service each has its own of the next: three collectors report to one aggregator and warn over one
/// broadcaster, the aggregators report to the one region manager, and the providers of traffic information ask that. What
/// goes from one node to another takes the way of the least delay.
#[derive(Debug)]
pub struct TrafficMonitoring {
    fleet: Fleet,
    services: [Demand; 5],
    /// The service of each replica.
    replicas: Vec<usize>,
    /// For each replica those before it that it is linked to.
    links: Vec<Vec<(usize, Neighbour)>>,
}

impl TrafficMonitoring {
    /// So many subclusters, with nothing on them, and an application of three collectors, an aggregator, a broadcaster and
    /// a provider times `multiplier`, and a region manager.
    ///
    /// # Errors
    /// [`FleetError`] when those are more nodes than a fleet can have.
    #[expect(clippy::missing_panics_doc, reason = "names of letters and dashes are sound")]
    pub fn new(subclusters: usize, multiplier: usize) -> Result<Self, FleetError> {
        let fleet = cluster::cluster(subclusters)?;
        let service = |(text, milli, gib): (&str, u32, u64), needs: Needs| {
            let resources = Resources { cpu: MilliCpu::new(milli), memory: ByteSize::from_mib(gib * 1024) };
            let code = Code::Native { entry: name(text) };
            let function = Function::new(FunctionName::new(text).expect("letters and dashes are a name"), code);
            fleet.demand(&function.needs(Needs { resources, ..needs }))
        };
        let at_base = Needs { labels: vec![name(cluster::BASE_STATION)], ..Needs::default() };
        let services = [
            service(SERVICES[COLLECTOR], at_base)?,
            service(SERVICES[AGGREGATOR], Needs::default())?,
            service(SERVICES[BROADCASTER], Needs::default())?,
            service(SERVICES[MANAGER], Needs::default())?,
            service(SERVICES[PROVIDER], Needs::default())?,
        ];
        let counts = [COLLECTORS * multiplier, multiplier, multiplier, 1, multiplier];
        let replicas: Vec<usize> = counts.iter().enumerate().flat_map(|(of, count)| vec![of; *count]).collect();
        let first = |of: usize| counts[..of].iter().sum::<usize>();
        let links = replicas.iter().enumerate().map(|(position, of)| {
            let number = position - first(*of);
            let asked = ASKED.iter().filter(|(_, to, ..)| to == of);
            let links = asked.flat_map(|(from, _, kbit, ms)| {
                let neighbour = Neighbour {
                    node: NodeIx::new(0),
                    incoming: 0.0,
                    outgoing: 0.0,
                    link: Some(Bound { what: bound(*kbit, *ms), penalty: f32::INFINITY }),
                };
                let (start, count) = match (*from, *of) {
                    (COLLECTOR, _) => (number * COLLECTORS, COLLECTORS),
                    (AGGREGATOR, _) => (0, multiplier),
                    _ => (0, 1),
                };
                (start..start + count).map(move |replica| (first(*from) + replica, neighbour))
            });
            links.collect()
        });
        let links = links.collect();
        Ok(Self { fleet, services, replicas, links })
    }

    /// The nodes.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What each service needs: of collectors, aggregators, broadcasters, the region manager and providers.
    #[must_use]
    pub const fn services(&self) -> &[Demand; 5] {
        &self.services
    }

    /// The strictest of what the links from and to a service ask, by its position in [`services`](Self::services).
    #[must_use]
    pub fn strictest(&self, service: usize) -> LinkBound {
        let asked = ASKED.iter().filter(|(from, to, ..)| *from == service || *to == service);
        asked.fold(bound(0, u64::from(u16::MAX)), |strictest, (_, _, kbit, ms)| {
            let of = bound(*kbit, *ms);
            LinkBound { rate: strictest.rate.max(of.rate), delay: strictest.delay.min(of.delay), ..strictest }
        })
    }

    /// A request for each replica, in the order of the service graph.
    pub fn requests(&self, seed: u64) -> impl Iterator<Item = Request<'_>> {
        let request = move |(position, of): (usize, &usize)| {
            let seed = seed << 16 | position as u64;
            Request::new(&self.services[*of], seed, Timestamp::default())
        };
        self.replicas.iter().enumerate().map(request)
    }

    /// For each replica those before it that it is linked to, as [`Placer::place_all`](crate::Placer::place_all) is told.
    #[must_use]
    pub fn links(&self) -> Vec<&[(usize, Neighbour)]> {
        self.links.iter().map(Vec::as_slice).collect()
    }

    /// Places one replica after the other, as schedulers of single pods do, and leaves out those for which there is no
    /// node; `is_told` says whether the policy is told of the links. Gives the nodes, and gives everything back.
    pub fn in_turn(&self, policy: &mut dyn Policy, is_told: bool, seed: u64) -> Vec<Option<NodeIx>> {
        let mut decision = Decision::new();
        let mut claims: Vec<Option<Claim>> = Vec::with_capacity(self.replicas.len());
        for (request, links) in self.requests(seed).zip(&self.links) {
            let placed = links.iter().filter_map(|(other, neighbour)| {
                let node = claims[*other].as_ref()?.node();
                Some(Neighbour { node, ..*neighbour })
            });
            let neighbours: Vec<Neighbour> = placed.filter(|_| is_told).collect();
            decision.clear();
            policy.decide(&self.fleet, &Request { neighbours: &neighbours, ..request }, &mut decision);
            let claim = |node: NodeIx| self.fleet.claim(node, request.demand.need).ok();
            claims.push(decision.choices.iter().find_map(|choice| claim(choice.node)));
        }
        let nodes = claims.iter().map(|claim| claim.as_ref().map(Claim::node)).collect();
        claims.into_iter().flatten().for_each(|claim| {
            self.fleet.release(claim);
        });
        nodes
    }

    /// Links between replicas on these nodes that are not as asked; those of replicas without a node do not count.
    #[must_use]
    pub fn violations(&self, nodes: &[Option<NodeIx>]) -> usize {
        let spot = |replica: usize| nodes.get(replica).copied().flatten().and_then(|node| self.fleet.spot(node));
        let links = self.links.iter().enumerate();
        let ends = links.flat_map(|(to, links)| links.iter().map(move |(from, neighbour)| (to, *from, neighbour.link)));
        let placed = ends.filter_map(|(to, from, link)| Some((spot(from)?, spot(to)?, link)));
        placed.filter(|(from, to, link)| !is_carried(&self.fleet, from, to, *link)).count()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("letters, dashes and digits are a name")
}

fn bound(kbit: u64, ms: u64) -> LinkBound {
    let delay = Duration::from_millis(ms).as_secs_f32();
    LinkBound { rate: kbit as f32 * 125.0, delay, jitter: f32::INFINITY, loss: 1.0 }
}
