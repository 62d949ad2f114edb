//! The resource units of a fabric.

use std::{collections::HashMap, sync::Arc};

use scf_core::{Health, Name, Timestamp};
use thiserror::Error;

use super::{
    link::LinkMeasurements,
    suspicion::{Standing, Suspicion},
    unit::{Heartbeat, Intent, StandingChange, Unit, UnitKind, UnitStatus},
};
use crate::fleet::{Fleet, FleetError};

/// Units that are registered at most by default.
const MOST_UNITS: usize = 1 << 20;

/// Why the inventory does not take what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// No unit of that name is registered.
    #[error("no unit {unit} is registered")]
    NoSuchUnit {
        /// The unit.
        unit: Name,
    },
    /// A unit of that name is registered.
    #[error("unit {unit} is registered already")]
    Registered {
        /// The unit.
        unit: Name,
    },
    /// There is no room for one more.
    #[error("{most} units are registered, which is all there can be")]
    Full {
        /// How many there can be.
        most: usize,
    },
    /// What was measured was said of a unit that is no link.
    #[error("unit {unit} is no link")]
    NoLink {
        /// The unit.
        unit: Name,
    },
    /// The fleet of nodes does not take it.
    #[error("the fleet of nodes")]
    Fleet(#[from] FleetError),
}

#[derive(Debug)]
struct Record {
    unit: Unit,
    intent: Intent,
    suspicion: Suspicion,
    standing: Standing,
    measured: LinkMeasurements,
}

/// All resource units of a fabric: the software-defined resource plane.
///
/// Nodes, accelerators, links and higher components are registered, heard of, cordoned, drained and taken off in one
/// way; what schedulers have to know of nodes and links goes into the [`Fleet`] that they decide by. It is told the
/// time and does no I/O. A unit that is not heard of is suspected, gets nothing new, and is lost after three heartbeats,
/// with everything on it; heard of again, it is as before.
#[derive(Debug)]
pub struct Inventory {
    fleet: Arc<Fleet>,
    most: usize,
    units: HashMap<Name, Record>,
}

impl Inventory {
    /// Keeps `fleet` up to date. At most 1,048,576 units.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, most: MOST_UNITS, units: HashMap::new() }
    }

    /// Units that can be registered; default 1,048,576.
    #[must_use]
    pub const fn most(mut self, units: usize) -> Self {
        self.most = units;
        self
    }

    /// Registers a unit, heard of at `now`. A node joins the fleet, or joins it again.
    ///
    /// # Errors
    /// [`InventoryError::Registered`], [`InventoryError::Full`]; [`InventoryError::NoSuchUnit`] when what it is on is
    /// not registered; [`InventoryError::Fleet`].
    pub fn register(&mut self, unit: Unit, now: Timestamp) -> Result<(), InventoryError> {
        if self.units.contains_key(&unit.id) {
            return Err(InventoryError::Registered { unit: unit.id });
        }
        if self.units.len() >= self.most {
            return Err(InventoryError::Full { most: self.most });
        }
        if let Some(on) = unit.on.as_ref().filter(|on| !self.units.contains_key(*on)) {
            return Err(InventoryError::NoSuchUnit { unit: on.clone() });
        }
        match &unit.kind {
            UnitKind::Node(node) if self.fleet.position(&node.id).is_some() => {
                self.fleet.rejoin(Arc::clone(node), &[])?;
            }
            UnitKind::Node(node) => {
                self.fleet.join(Arc::clone(node))?;
            }
            UnitKind::Link { from, to, quality } => {
                self.fleet.connect(self.fleet.site(from)?, self.fleet.site(to)?, Some(*quality));
            }
            _ => {}
        }
        let suspicion = Suspicion::new(now, unit.heartbeat);
        let (intent, standing, measured) = (Intent::Serve, Standing::Alive, LinkMeasurements::default());
        self.units.insert(unit.id.clone(), Record { unit, intent, suspicion, standing, measured });
        Ok(())
    }

    /// A unit was heard of.
    ///
    /// # Errors
    /// [`InventoryError::NoSuchUnit`].
    pub fn heartbeat(&mut self, unit: &Name, heartbeat: Heartbeat, now: Timestamp) -> Result<(), InventoryError> {
        let record = find(&mut self.units, unit)?;
        record.suspicion.heard(now);
        let was = std::mem::replace(&mut record.standing, Standing::Alive);
        if let UnitKind::Node(node) = &record.unit.kind
            && let Some(ix) = self.fleet.position(&node.id)
        {
            self.fleet.set_load(ix, heartbeat.queued, heartbeat.wait.as_secs_f32());
            self.fleet.set_charge(ix, heartbeat.charge);
        }
        if was != Standing::Alive {
            self.publish(unit)?;
        }
        Ok(())
    }

    /// Says what is wanted of a unit.
    ///
    /// # Errors
    /// [`InventoryError::NoSuchUnit`].
    pub fn intend(&mut self, unit: &Name, intent: Intent) -> Result<(), InventoryError> {
        find(&mut self.units, unit)?.intent = intent;
        self.publish(unit)
    }

    /// Takes a unit off, and all that is on it. What was claimed of a node is void.
    ///
    /// # Errors
    /// [`InventoryError::NoSuchUnit`], [`InventoryError::Fleet`].
    pub fn leave(&mut self, unit: &Name) -> Result<(), InventoryError> {
        find(&mut self.units, unit)?;
        let mut gone = vec![unit.clone()];
        let mut at = 0;
        while let Some(host) = gone.get(at).cloned() {
            let is_on = |record: &&Record| record.unit.on.as_ref() == Some(&host);
            gone.extend(self.units.values().filter(is_on).map(|record| record.unit.id.clone()));
            at += 1;
        }
        for name in gone {
            let Some(record) = self.units.remove(&name) else { continue };
            match &record.unit.kind {
                UnitKind::Node(node) => self.fleet.leave(&node.id)?,
                UnitKind::Link { from, to, .. } => {
                    self.fleet.connect(self.fleet.site(from)?, self.fleet.site(to)?, None);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes down what was measured of a link; counts as a heartbeat of it.
    ///
    /// # Errors
    /// [`InventoryError::NoSuchUnit`], [`InventoryError::NoLink`], [`InventoryError::Fleet`].
    pub fn measured(
        &mut self,
        link: &Name,
        now: Timestamp,
        take_down: impl FnOnce(&mut LinkMeasurements),
    ) -> Result<(), InventoryError> {
        let record = find(&mut self.units, link)?;
        if !matches!(record.unit.kind, UnitKind::Link { .. }) {
            return Err(InventoryError::NoLink { unit: link.clone() });
        }
        take_down(&mut record.measured);
        record.suspicion.heard(now);
        record.standing = Standing::Alive;
        self.publish(link)
    }

    /// Notices who is not heard of any more: looks at every unit; call it about as often as heartbeats come.
    pub fn tick(&mut self, now: Timestamp) -> Vec<StandingChange> {
        let mut changes = Vec::new();
        for record in self.units.values_mut() {
            let to = record.suspicion.standing(now);
            // Who is not heard of again does not come back by waiting.
            if to > record.standing {
                let from = std::mem::replace(&mut record.standing, to);
                changes.push(StandingChange { unit: record.unit.id.clone(), from, to });
            }
        }
        changes.sort_by(|a, b| a.unit.cmp(&b.unit));
        for change in &changes {
            // What changed is registered.
            let _ = self.publish(&change.unit);
        }
        changes
    }

    /// A unit as it stands; what is on one that is not there is not there either.
    #[must_use]
    pub fn status(&self, unit: &Name) -> Option<UnitStatus> {
        let record = self.units.get(unit)?;
        let quality = match &record.unit.kind {
            UnitKind::Link { quality, .. } => Some(record.measured.quality(*quality)),
            _ => None,
        };
        let (mut standing, mut intent, mut on) = (record.standing, record.intent, record.unit.on.as_ref());
        while let Some(host) = on.and_then(|on| self.units.get(on)) {
            standing = standing.max(host.standing);
            intent = if host.intent == Intent::Serve { intent } else { host.intent };
            on = host.unit.on.as_ref();
        }
        Some(UnitStatus { unit: record.unit.clone(), intent, standing, quality })
    }

    /// All units, by name.
    #[must_use]
    pub fn units(&self) -> Vec<UnitStatus> {
        let mut names: Vec<_> = self.units.keys().collect();
        names.sort();
        names.into_iter().filter_map(|name| self.status(name)).collect()
    }

    /// Tells the fleet how a unit stands.
    fn publish(&self, unit: &Name) -> Result<(), InventoryError> {
        let Some(status) = self.status(unit) else { return Ok(()) };
        match &status.unit.kind {
            UnitKind::Node(node) => {
                if let Some(ix) = self.fleet.position(&node.id) {
                    self.fleet.set_health(ix, health(&status));
                }
            }
            UnitKind::Link { from, to, .. } => {
                let is_there = status.standing < Standing::Lost && status.intent == Intent::Serve;
                let quality = status.quality.filter(|_| is_there);
                self.fleet.connect(self.fleet.site(from)?, self.fleet.site(to)?, quality);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a node takes calls.
fn health(status: &UnitStatus) -> Health {
    match (status.standing, status.intent) {
        (Standing::Lost, _) => Health::Unreachable,
        (Standing::Alive, Intent::Serve) => Health::Ready,
        _ => Health::Draining,
    }
}

fn find<'a>(units: &'a mut HashMap<Name, Record>, unit: &Name) -> Result<&'a mut Record, InventoryError> {
    units.get_mut(unit).ok_or_else(|| InventoryError::NoSuchUnit { unit: unit.clone() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scf_core::{Accelerator, Bandwidth, LinkQuality, Node, NodeId, Tier};

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn node(text: &str) -> Arc<Node> {
        Arc::new(Node::new(NodeId::new(text).unwrap(), Tier::Edge))
    }

    fn with_node() -> (Inventory, Arc<Fleet>) {
        let fleet = Arc::new(Fleet::new());
        let mut inventory = Inventory::new(Arc::clone(&fleet));
        inventory.register(Unit::node(node("a")).unwrap(), at(0)).unwrap();
        (inventory, fleet)
    }

    fn health_of(fleet: &Fleet, text: &str) -> Health {
        fleet.look(fleet.position(&NodeId::new(text).unwrap()).unwrap()).unwrap().health()
    }

    #[test]
    fn a_silent_node_is_suspected_then_lost_and_back_with_its_next_heartbeat() {
        let (mut inventory, fleet) = with_node();
        for second in 1..=20 {
            inventory.heartbeat(&name("a"), Heartbeat::default(), at(second * 1000)).unwrap();
            assert_eq!(inventory.tick(at(second * 1000 + 500)), []);
        }
        assert_eq!(health_of(&fleet, "a"), Health::Ready);
        let change = |from, to| vec![StandingChange { unit: name("a"), from, to }];
        assert_eq!(inventory.tick(at(21_700)), change(Standing::Alive, Standing::Suspected));
        assert_eq!(health_of(&fleet, "a"), Health::Draining);
        assert_eq!(inventory.tick(at(23_500)), change(Standing::Suspected, Standing::Lost));
        assert_eq!(health_of(&fleet, "a"), Health::Unreachable);
        inventory.heartbeat(&name("a"), Heartbeat::default(), at(24_000)).unwrap();
        assert_eq!(health_of(&fleet, "a"), Health::Ready);
    }

    #[test]
    fn a_cordoned_node_gets_nothing_new_whatever_it_says() {
        let (mut inventory, fleet) = with_node();
        inventory.intend(&name("a"), Intent::Cordon).unwrap();
        inventory.heartbeat(&name("a"), Heartbeat { queued: 3, ..Heartbeat::default() }, at(1000)).unwrap();
        assert_eq!(health_of(&fleet, "a"), Health::Draining);
        inventory.intend(&name("a"), Intent::Serve).unwrap();
        assert_eq!(health_of(&fleet, "a"), Health::Ready);
    }

    #[test]
    fn what_is_on_a_node_stands_and_goes_with_it() {
        let (mut inventory, fleet) = with_node();
        let gpu = UnitKind::Accelerator { kind: Accelerator::Cuda, units: 2 };
        inventory.register(Unit::new(name("gpu"), gpu).on(name("a")), at(0)).unwrap();
        let model = UnitKind::Component { offers: vec![name("inference")] };
        inventory.register(Unit::new(name("model"), model).on(name("gpu")), at(0)).unwrap();
        inventory.intend(&name("a"), Intent::Drain).unwrap();
        assert_eq!(inventory.status(&name("model")).unwrap().intent, Intent::Drain);
        for unit in ["gpu", "model"] {
            inventory.heartbeat(&name(unit), Heartbeat::default(), at(9000)).unwrap();
        }
        inventory.tick(at(9100));
        assert_eq!(inventory.status(&name("model")).unwrap().standing, Standing::Lost, "its node is");
        inventory.leave(&name("a")).unwrap();
        assert!(inventory.units().is_empty());
        assert_eq!(health_of(&fleet, "a"), Health::Unreachable);
        inventory.register(Unit::node(node("a")).unwrap(), at(9000)).unwrap();
        assert_eq!(health_of(&fleet, "a"), Health::Ready);
    }

    #[test]
    fn what_is_measured_of_a_link_is_what_schedulers_reckon_with() {
        let fleet = Arc::new(Fleet::new());
        let mut inventory = Inventory::new(Arc::clone(&fleet));
        for (id, site) in [("a", "plant"), ("b", "cloud")] {
            let node = Node::new(NodeId::new(id).unwrap(), Tier::Edge).site(name(site));
            inventory.register(Unit::node(Arc::new(node)).unwrap(), at(0)).unwrap();
        }
        let quality = LinkQuality::steady(Duration::from_millis(5), Bandwidth::from_mbit_per_s(100));
        let kind = UnitKind::Link { from: name("plant"), to: name("cloud"), quality };
        inventory.register(Unit::new(name("uplink"), kind), at(0)).unwrap();
        let delay = |fleet: &Fleet| {
            let at = |id| fleet.position(&NodeId::new(id).unwrap()).unwrap();
            fleet.way(at("a"), at("b")).map(|way| way.time_for(0.0))
        };
        let described = delay(&fleet).unwrap();
        inventory.measured(&name("uplink"), at(1000), |link| link.delayed(Duration::from_millis(45))).unwrap();
        let now = delay(&fleet).unwrap();
        assert!((now - described - 0.040).abs() < 1e-3, "{described} {now}");
        inventory.tick(at(60_000));
        assert_eq!(delay(&fleet), None, "the link is lost");
        let error = inventory.measured(&name("a"), at(1000), LinkMeasurements::lost).unwrap_err();
        assert_eq!(error, InventoryError::NoLink { unit: name("a") });
    }

    #[test]
    fn refuses_what_it_has_no_room_for_and_what_it_does_not_know() {
        let mut inventory = Inventory::new(Arc::new(Fleet::new())).most(1);
        inventory.register(Unit::node(node("a")).unwrap(), at(0)).unwrap();
        let unit = |text| Unit::node(node(text)).unwrap();
        assert_eq!(inventory.register(unit("a"), at(0)), Err(InventoryError::Registered { unit: name("a") }));
        assert_eq!(inventory.register(unit("b"), at(0)), Err(InventoryError::Full { most: 1 }));
        let unknown = inventory.heartbeat(&name("b"), Heartbeat::default(), at(0));
        assert_eq!(unknown, Err(InventoryError::NoSuchUnit { unit: name("b") }));
    }
}
