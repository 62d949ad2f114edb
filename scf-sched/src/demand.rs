//! What a function needs, in the numbers of a fleet.

use scf_core::{Area, BatteryNeed, Function, LinkNeed, Strength, Wanted};
use smallvec::SmallVec;

use crate::fleet::{Caps, DataIx, Fleet, FleetError, FunctionIx, Need, NodeIx, Row, ZoneIx};

/// The needs of a function, translated once so that a decision compares numbers: made by [`Fleet::demand`] when a
/// function is deployed, and again when nodes with names that it asks for have joined since.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Demand {
    /// The function.
    pub function: FunctionIx,
    /// What a call takes of a node.
    pub need: Need,
    /// Nodes that will do; empty: every one.
    pub nodes: Vec<NodeIx>,
    /// Legal regions that will do; empty: every one.
    pub regions: SmallVec<[ZoneIx; 4]>,
    /// The zone that data of the function must not leave.
    pub zone: Option<ZoneIx>,
    /// Longest one-way delay from the caller in seconds.
    pub within: f32,
    /// Where it must stand.
    pub area: Option<Bound<Area>>,
    /// What a node without mains must have left.
    pub battery: Option<Bound<BatteryNeed>>,
    /// Seconds that a moving node must stay.
    pub dwell: Option<Bound<f32>>,
    /// What the way from the caller and from the steps before must be like.
    pub link: Option<Bound<LinkBound>>,
    /// Seconds that its data may take to arrive.
    pub data: Option<Bound<f32>>,
    /// What must be fetched where the function is not started: its image, its model.
    pub artefact: Option<DataIx>,
    pub(crate) caps: Caps,
    pub(crate) tiers: Caps,
    /// Lists of nodes that have the capabilities; made over when the fleet has further ones.
    pub(crate) kinds: SmallVec<[u32; 16]>,
    pub(crate) kind_count: u32,
}

/// A need, and what it costs in seconds not to have it; infinite when that rules a node out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that it is")]
pub struct Bound<T> {
    /// What is needed.
    pub what: T,
    /// Seconds that a node without it counts as slower; infinite when it is ruled out.
    pub penalty: f32,
}

/// A [`LinkNeed`] in seconds and bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct LinkBound {
    /// Least bytes per second.
    pub rate: f32,
    /// Longest one-way delay in seconds.
    pub delay: f32,
    /// Largest standard deviation of the delay in seconds.
    pub jitter: f32,
    /// Largest share of lost messages.
    pub loss: f32,
}

impl From<LinkNeed> for LinkBound {
    fn from(need: LinkNeed) -> Self {
        Self {
            rate: need.bandwidth.bits_per_s() as f32 / 8.0,
            delay: need.latency.as_secs_f32(),
            jitter: need.jitter.as_secs_f32(),
            loss: need.loss as f32 * 1e-6,
        }
    }
}

impl<T> Bound<T> {
    /// Translates a need of a function.
    pub fn of<S: Copy>(wanted: Wanted<S>, what: impl FnOnce(S) -> T) -> Self {
        let penalty = match wanted.strength {
            Strength::Hard => f32::INFINITY,
            Strength::Soft(penalty) => penalty.as_secs_f32(),
        };
        Self { what: what(wanted.what), penalty }
    }

    /// Whether nodes without it are ruled out.
    #[inline]
    #[must_use]
    pub const fn is_hard(&self) -> bool {
        self.penalty.is_infinite()
    }
}

impl Demand {
    /// What must be fetched where the function is not started; default nothing.
    #[must_use]
    pub const fn artefact(mut self, artefact: DataIx) -> Self {
        self.artefact = Some(artefact);
        self
    }
}

impl Fleet {
    /// Translates what `function` needs. A call takes one slot of a node.
    ///
    /// # Errors
    /// [`FleetError`] when it asks for a node, zone, region or label that the fleet never had, or for more than a
    /// node can have: no node can satisfy it.
    pub fn demand(&self, function: &Function) -> Result<Demand, FleetError> {
        let needs = &function.needs;
        let impossible = |what| FleetError::Impossible { what };
        let mut need = Need::new(needs.resources, 1).ok_or_else(|| impossible("processor or memory"))?;
        let mut caps = Caps::default();
        if let Some(kind) = needs.accelerator {
            let units = needs.accelerator_units.max(1);
            need = need.with(kind, units);
            if need.units.count(kind) < units {
                return Err(impossible("number of accelerator units"));
            }
            caps = caps.and(Caps::accelerator(kind));
        }
        for label in &needs.labels {
            caps = caps.and(self.label(label).ok_or_else(|| FleetError::NoSuchLabel { label: label.clone() })?);
        }
        let tiers = needs.tiers.iter().fold(Caps::default(), |all, tier| all.and(Caps::tier(*tier)));
        let tiers = if needs.tiers.is_empty() { Caps::tiers() } else { tiers };
        let zone = |zone| self.zone(zone).ok_or_else(|| FleetError::NoSuchZone { zone: zone.clone() });
        let node = |node| self.position(node).ok_or_else(|| FleetError::NoSuchNode { node: node.clone() });
        let context = &needs.context;
        let mut demand = Demand {
            function: self.function(function),
            need,
            nodes: needs.nodes.iter().map(node).collect::<Result<_, _>>()?,
            regions: needs.regions.iter().map(zone).collect::<Result<_, _>>()?,
            zone: needs.zone.as_ref().map(zone).transpose()?,
            within: needs.within.map_or(f32::INFINITY, |within| within.as_secs_f32()),
            area: context.area.map(|wanted| Bound::of(wanted, |area| area)),
            battery: context.battery.map(|wanted| Bound::of(wanted, |battery| battery)),
            dwell: context.dwell.map(|wanted| Bound::of(wanted, |time| time.as_secs_f32())),
            link: context.link.map(|wanted| Bound::of(wanted, LinkBound::from)),
            data: context.data.map(|wanted| Bound::of(wanted, |time| time.as_secs_f32())),
            artefact: None,
            caps,
            tiers,
            kinds: SmallVec::new(),
            kind_count: 0,
        };
        demand.kind_count = self.index().kind_count();
        let wanted = self.index().kinds().filter(|(_, has)| has.has(caps) && has.meets(tiers));
        demand.kinds = wanted.map(|(kind, _)| kind).collect();
        Ok(demand)
    }

    /// The rows that have every node which can satisfy `demand`: the zone's, or those of its kinds.
    pub(crate) fn rows_of<'a>(&self, demand: &'a Demand) -> impl Iterator<Item = Row> + use<'a> {
        let zone = demand.zone.map(Row::Zone);
        let regions = demand.regions.iter().filter(move |_| zone.is_none()).map(|region| Row::Region(*region));
        let is_wide = zone.is_none() && demand.regions.is_empty();
        // Kinds that came after the demand was made may have what it needs: the filter looks.
        let later = demand.kind_count..self.index().kind_count();
        let kinds = demand.kinds.iter().copied().chain(later).filter(move |_| is_wide).map(Row::Kind);
        zone.into_iter().chain(regions).chain(kinds)
    }
}
