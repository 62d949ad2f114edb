//! Nodes join, say how they are, leave and come back.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use scf_core::{Function, GeoPoint, Health, LinkQuality, Name, Node, NodeId, Tier, Zone};
use smallvec::SmallVec;

use super::{
    Class, Fleet, FleetError,
    amount::{Amount, MOST_SLOTS, Need, Units},
    claim,
    hold::Claim,
    hot::{self, Caps, Edge, Hot},
    index::Row,
    names::{ClassIx, DataIx, FunctionIx, NodeIx, SiteIx, ZoneIx},
    network,
};

/// What decisions rarely read of a node.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    pub(crate) epoch: AtomicU32,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    node: Option<Arc<Node>>,
    /// The lists that it is in, and where.
    rows: SmallVec<[(Row, u32); 4]>,
}

/// The numbers and words of a node's description.
struct Described {
    caps: Caps,
    site: SiteIx,
    zone: Option<ZoneIx>,
    region: Option<ZoneIx>,
    class: ClassIx,
    total: Amount,
    units: Units,
}

impl Fleet {
    /// Lets a node join, ready for calls, with all that it has free.
    ///
    /// # Errors
    /// [`FleetError::Joined`] when it has joined before, [`FleetError::TooMany`] when its site, zone, class or a
    /// label is one more than are told apart.
    pub fn join(&self, node: Arc<Node>) -> Result<NodeIx, FleetError> {
        let _membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        if self.names.nodes.find(&node.id).is_some() {
            return Err(FleetError::Joined { node: node.id.clone() });
        }
        let described = self.describe(&node)?;
        let ix = self
            .names
            .nodes
            .number(&node.id)
            .map(NodeIx)
            .ok_or_else(|| FleetError::NoSuchNode { node: node.id.clone() })?;
        self.cold.make(ix.index());
        self.hot.make(ix.index());
        self.enter(ix, node, &described, 0, Need { amount: described.total, units: described.units });
        self.len.store(ix.0 + 1, SeqCst);
        Ok(ix)
    }

    /// Lets a node that joined before come back with its own account of what it runs, under a new epoch: claims and
    /// holds of the epochs before are void, and giving them back gives nothing.
    ///
    /// `running` are the tokens of the claims that the node still runs, and what they take. The claims that it gives
    /// stand for them from now on, in the same order.
    ///
    /// # Errors
    /// [`FleetError::NoSuchNode`] when it never joined, [`FleetError::TooMany`] as for [`join`](Self::join).
    pub fn rejoin(&self, node: Arc<Node>, running: &[(u64, Need)]) -> Result<Vec<Claim>, FleetError> {
        let _membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        let none = || FleetError::NoSuchNode { node: node.id.clone() };
        let ix = self.position(&node.id).ok_or_else(none)?;
        let described = self.describe(&node)?;
        let taken = running.iter().fold(Need::default(), |all, (_, need)| all.plus(*need));
        let left = Need { amount: described.total.minus(taken.amount), units: described.units.minus(taken.units) };
        self.withdraw(ix);
        let epoch = self.cold(ix).map_or(0, |cold| cold.epoch.load(SeqCst)) + 1;
        self.enter(ix, node, &described, epoch, left);
        Ok(running.iter().map(|(token, need)| Claim { node: ix, epoch, need: *need, token: *token }).collect())
    }

    /// Lets a node go. What was claimed of it is void. It may [`rejoin`](Self::rejoin).
    ///
    /// # Errors
    /// [`FleetError::NoSuchNode`] when it never joined.
    pub fn leave(&self, node: &NodeId) -> Result<(), FleetError> {
        let _membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        let ix = self.position(node).ok_or_else(|| FleetError::NoSuchNode { node: node.clone() })?;
        self.withdraw(ix);
        let (Some(hot), Some(cold)) = (self.hot.get(ix.index()), self.cold(ix)) else { return Ok(()) };
        hot.set_health(Health::Unreachable);
        let epoch = cold.epoch.fetch_add(1, SeqCst) + 1;
        claim::begin(&hot.free, &hot.units, epoch, Need::default());
        self.index.buckets.remove(ix);
        self.feeds().note(ix);
        Ok(())
    }

    /// The position of a node that ever joined.
    #[must_use]
    pub fn position(&self, node: &NodeId) -> Option<NodeIx> {
        self.names.nodes.find(node).map(NodeIx)
    }

    /// A node's description.
    #[must_use]
    pub fn node(&self, node: NodeIx) -> Option<Arc<Node>> {
        let record = &self.cold(node)?.record;
        record.lock().unwrap_or_else(PoisonError::into_inner).node.clone()
    }

    /// Says whether a node takes calls.
    pub fn set_health(&self, node: NodeIx, health: Health) {
        self.change(node, |hot| hot.set_health(health));
    }

    /// Says how many calls run or wait on a node, and how long the next is expected to wait, in seconds.
    pub fn set_load(&self, node: NodeIx, queued: u32, wait: f32) {
        let micros = (wait.max(0.0) * 1e6) as u32;
        self.change(node, |hot| hot.load.store(u64::from(queued) << 32 | u64::from(micros), SeqCst));
    }

    /// Says what is left of a node's battery, in per cent; `None` on mains.
    pub fn set_charge(&self, node: NodeIx, charge: Option<u8>) {
        self.change(node, |hot| hot.set_edge(Edge { charge, ..hot.read().edge() }));
    }

    /// Says where a node is and how fast it moves, in metres per second.
    pub fn set_location(&self, node: NodeIx, location: Option<GeoPoint>, speed: f32) {
        self.change(node, |hot| {
            self.index.cells.place(node, hot.read().point(), location);
            hot.set_point(location);
            hot.set_edge(Edge { speed, ..hot.read().edge() });
        });
    }

    /// Says what lies between a node and its site.
    pub fn set_last_mile(&self, node: NodeIx, quality: LinkQuality) {
        let (rate, delay) = (quality.bandwidth.bits_per_s() as f32 / 8.0, network::seconds(quality.latency));
        self.change(node, |hot| hot.set_edge(Edge { rate, delay, ..hot.read().edge() }));
    }

    /// The number of a site.
    ///
    /// # Errors
    /// [`FleetError::TooMany`] beyond 1,024 of them.
    pub fn site(&self, site: &Name) -> Result<SiteIx, FleetError> {
        let number = self.names.sites.number(site);
        number.map(|site| SiteIx(site as u16)).ok_or_else(|| too_many("sites", network::MOST_SITES, site))
    }

    /// Says how the way from one site to another is, in this direction; `None` when there is none.
    pub fn connect(&self, from: SiteIx, to: SiteIx, quality: Option<LinkQuality>) {
        self.network.set(from, to, quality);
    }

    /// The number of a zone or region, if any node was ever in it.
    #[must_use]
    pub fn zone(&self, zone: &Zone) -> Option<ZoneIx> {
        self.names.zones.find(zone).map(|zone| ZoneIx(zone as u16))
    }

    /// The capability that a label is, if any node ever had it.
    #[must_use]
    pub fn label(&self, label: &Name) -> Option<Caps> {
        self.names.labels.find(label).map(Caps::label)
    }

    /// The number of a function, the same for every revision of it.
    #[must_use]
    pub fn function(&self, function: &Function) -> FunctionIx {
        FunctionIx(self.names.functions.number(&function.name).unwrap_or(u32::MAX))
    }

    /// Says whether a node has a function started.
    pub fn set_warm(&self, function: FunctionIx, node: NodeIx, is_warm: bool) {
        self.index.set_warm(function, node, is_warm);
    }

    /// Whether a node has a function started.
    #[must_use]
    pub fn is_warm(&self, function: FunctionIx, node: NodeIx) -> bool {
        self.index.warm(function).is_some_and(|nodes| nodes.contains(node))
    }

    /// The number of something that functions read, and its size in bytes.
    #[must_use]
    pub fn data(&self, data: &Name, bytes: u64) -> DataIx {
        let ix = DataIx(self.names.data.number(data).unwrap_or(u32::MAX));
        self.index.set_data(ix, bytes);
        ix
    }

    /// Says whether a node holds a copy of what functions read.
    pub fn set_holder(&self, data: DataIx, node: NodeIx, is_holder: bool) {
        let Some(holders) = self.index.holders(data) else { return };
        if is_holder { holders.insert(node) } else { holders.remove(node) }
    }

    fn change(&self, node: NodeIx, change: impl FnOnce(&Hot)) {
        if node.index() < self.len()
            && let Some(hot) = self.hot.get(node.index())
        {
            change(hot);
            self.feeds().note(node);
        }
    }

    pub(crate) fn cold(&self, node: NodeIx) -> Option<&Cold> {
        self.cold.get(node.index()).filter(|_| node.index() < self.len())
    }

    fn describe(&self, node: &Node) -> Result<Described, FleetError> {
        let mut caps = Caps::tier(node.tier);
        for has in &node.accelerators {
            caps = caps.and(Caps::accelerator(has.kind));
        }
        for label in &node.labels {
            let number = self.names.labels.number(label);
            caps = caps.and(Caps::label(number.ok_or_else(|| too_many("labels", hot::LABELS, label))?));
        }
        // A node without a site is one by its own name.
        let own = || Name::new(node.id.as_str()).map_err(|_| FleetError::NoSuchNode { node: node.id.clone() });
        let site = self.site(&node.site.clone().map_or_else(own, Ok)?)?;
        let zone = |zone: &Option<Zone>| {
            let number = |zone: &Zone| {
                let name = || Name::new(zone.as_str()).map_err(|_| FleetError::NoSuchZone { zone: zone.clone() });
                let number = self.names.zones.number(zone).map(|zone| ZoneIx(zone as u16));
                number.map_or_else(|| Err(too_many("zones", u32::from(ZoneIx::NONE), &name()?)), Ok)
            };
            zone.as_ref().map(number).transpose()
        };
        Ok(Described {
            caps,
            site,
            zone: zone(&node.zone)?,
            region: zone(&node.region)?,
            class: self.class_of(node)?,
            total: Amount::of_node(node.resources, node.slots.min(MOST_SLOTS)),
            units: Units::of_node(&node.accelerators),
        })
    }

    fn class_of(&self, node: &Node) -> Result<ClassIx, FleetError> {
        let tier = match node.tier {
            Tier::Device => "device",
            Tier::Edge => "edge",
            Tier::Region => "region",
            _ => "cloud",
        };
        let of_tier = || Name::new(tier).map_err(|_| FleetError::NoSuchNode { node: node.id.clone() });
        let name = node.class.clone().map_or_else(of_tier, Ok)?;
        let class = Class { slowdown: node.slowdown.factor(), rates: node.rates };
        let bits = [class.slowdown, node.rates.money, node.rates.joules, node.rates.carbon].map(f32::to_bits);
        let number = self.names.classes.number(&(name.clone(), bits));
        let number = number.ok_or_else(|| too_many("classes", u32::from(u16::MAX), &name))?;
        self.classes.make(number as usize).write(class);
        Ok(ClassIx(number as u16))
    }

    /// Puts a node into the lists and begins its epoch. Called under the membership lock.
    fn enter(&self, ix: NodeIx, node: Arc<Node>, described: &Described, epoch: u32, left: Need) {
        let Described { caps, site, zone, region, class, total, .. } = *described;
        let (hot, cold) = (self.hot.make(ix.index()), self.cold.make(ix.index()));
        let bits = |zone: Option<ZoneIx>| u64::from(zone.map_or(ZoneIx::NONE, |zone| zone.0));
        hot.place.store(u64::from(site.0) << 48 | bits(zone) << 32 | bits(region) << 16 | u64::from(class.0), SeqCst);
        hot.total.store(total.word(0), SeqCst);
        hot.load.store(0, SeqCst);
        self.index.cells.place(ix, (epoch > 0).then(|| hot.read().point()).flatten(), node.location);
        hot.set_point(node.location);
        let charge = node.battery.map(|battery| battery.percent);
        hot.set_edge(Edge { rate: f32::INFINITY, delay: 0.0, speed: node.speed, charge });
        cold.epoch.store(epoch, SeqCst);
        self.index.buckets.remove(ix);
        let (_, after) = claim::begin(&hot.free, &hot.units, epoch, left);
        self.index.buckets.insert(ix, after);
        hot.caps.store(caps.and(Caps::health(Health::Ready)).0, SeqCst);
        let rows = [
            Some(Row::Kind(self.index.kind_of(caps.fixed()))),
            Some(Row::Site(site)),
            zone.map(Row::Zone),
            region.map(Row::Region),
        ];
        let rows = rows.into_iter().flatten().map(|row| (row, self.index.make_row(row).push(ix))).collect();
        *cold.record.lock().unwrap_or_else(PoisonError::into_inner) = Record { node: Some(node), rows };
        self.feeds().note(ix);
    }

    /// Takes a node out of its lists. Called under the membership lock.
    fn withdraw(&self, ix: NodeIx) {
        let Some(cold) = self.cold(ix) else { return };
        let rows = std::mem::take(&mut cold.record.lock().unwrap_or_else(PoisonError::into_inner).rows);
        for (row, at) in rows {
            let Some(moved) = self.index.make_row(row).remove(at) else { continue };
            let Some(cold) = self.cold(moved) else { continue };
            let mut record = cold.record.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = record.rows.iter_mut().find(|(other, _)| *other == row) {
                entry.1 = at;
            }
        }
    }
}

fn too_many(what: &'static str, most: u32, name: &Name) -> FleetError {
    FleetError::TooMany { what, most, name: name.clone() }
}
