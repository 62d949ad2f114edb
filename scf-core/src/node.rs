//! Machines and what they have.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Battery, ByteSize, Carbon, Energy, GeoPoint, MilliCpu, Money, Name, NodeId, Slowdown, Spent, Zone};

/// How far from the data a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Tier {
    /// Where the data arises: a camera, a phone, a controller.
    Device,
    /// One hop away: a gateway, a base station.
    Edge,
    /// A metropolitan or provider site.
    Region,
    /// A data centre.
    Cloud,
}

/// An amount of what every node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a node")]
pub struct Resources {
    /// Processor.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: ByteSize,
}

impl Resources {
    /// Whether `need` fits into this.
    #[must_use]
    pub fn fits(&self, need: &Self) -> bool {
        need.cpu <= self.cpu && need.memory <= self.memory
    }
}

/// A kind of device that computes beside the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Accelerator {
    /// An NVIDIA GPU, through the feature `cuda`.
    Cuda,
    /// An Apple GPU, through the feature `metal`.
    Metal,
    /// A neural processing unit behind a vendor's own block implementation.
    Npu,
}

/// How much a node has of a kind of accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a node")]
pub struct AcceleratorUnits {
    /// The kind.
    pub kind: Accelerator,
    /// Parts of it that are claimed apart from each other: whole devices, or slices of them.
    pub units: u16,
}

/// What work on a node costs beside time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a node")]
pub struct Rates {
    /// Price of one busy core for a second, in the operator's currency.
    pub money: f32,
    /// Energy of one busy core for a second, in joules.
    pub joules: f32,
    /// Carbon of one busy core for a second, in grams of CO2 equivalent.
    pub carbon: f32,
}

/// What a node's radio spends, in microjoules per byte, as the slope of its power over its rate (Huang et al., "A Close
/// Examination of Performance and Power Characteristics of 4G LTE Networks", MobiSys 2012).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a node")]
pub struct Radio {
    /// Of a byte that leaves the node.
    pub sent: f32,
    /// Of a byte that reaches it.
    pub received: f32,
}

/// Something attached to a node that functions hold while they use it: a GPU, a camera, a valve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a node")]
pub struct Device {
    /// Its name on the node, which grants refer to.
    pub name: Name,
    /// How many can use a part of it at the same time; 1 for one that is only used exclusively.
    pub units: u32,
}

/// A node as its operator describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Node {
    /// Its name in the fabric.
    pub id: NodeId,
    /// Where it stands.
    pub tier: Tier,
    /// What it has in all.
    pub resources: Resources,
    /// How much slower than this CPU it is emulated; [`Slowdown::NONE`] on a real node.
    pub slowdown: Slowdown,
    /// The zone that its data counts as being in, if any.
    pub zone: Option<Zone>,
    /// What else it computes with, each kind once.
    pub accelerators: Vec<AcceleratorUnits>,
    /// What is attached to it and must be granted to be used.
    pub devices: Vec<Device>,
    /// The kind of hardware, for which execution times are learned together; none: its tier.
    pub class: Option<Name>,
    /// The place in the network whose nodes have the same way to every other place; none: one of its own.
    pub site: Option<Name>,
    /// The legal region that it stands in.
    pub region: Option<Zone>,
    /// Where it stands.
    pub location: Option<GeoPoint>,
    /// How fast it moves, in metres per second; 0 for a fixed one.
    pub speed: f32,
    /// What it runs on; none: mains.
    pub battery: Option<Battery>,
    /// What work on it costs beside time.
    pub rates: Rates,
    /// What its radio spends; nothing where it is wired.
    pub radio: Radio,
    /// Calls and tasks that it takes at once; `u16::MAX`: as many as its resources allow.
    pub slots: u16,
    /// What else it can, by name: a processor architecture, a sensor's vicinity, a contract.
    pub labels: Vec<Name>,
}

impl Node {
    /// A node with one core, 1 GiB, no slowdown, no zone and no accelerator.
    #[must_use]
    pub const fn new(id: NodeId, tier: Tier) -> Self {
        Self {
            id,
            tier,
            resources: Resources { cpu: MilliCpu::from_cores(1), memory: ByteSize::from_mib(1024) },
            slowdown: Slowdown::NONE,
            zone: None,
            accelerators: Vec::new(),
            devices: Vec::new(),
            class: None,
            site: None,
            region: None,
            location: None,
            speed: 0.0,
            battery: None,
            rates: Rates { money: 0.0, joules: 0.0, carbon: 0.0 },
            radio: Radio { sent: 0.0, received: 0.0 },
            slots: u16::MAX,
            labels: Vec::new(),
        }
    }

    /// What it has in all; default one core and 1 GiB.
    #[must_use]
    pub const fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// How much slower than this CPU it computes; default not slower.
    #[must_use]
    pub const fn slowdown(mut self, slowdown: Slowdown) -> Self {
        self.slowdown = slowdown;
        self
    }

    /// The zone it stands in; default none.
    #[must_use]
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Adds a device of `units`; default none.
    #[must_use]
    pub fn device(mut self, name: Name, units: u32) -> Self {
        self.devices.push(Device { name, units });
        self
    }

    /// Adds one unit of an accelerator; default none.
    #[must_use]
    pub fn accelerator(self, accelerator: Accelerator) -> Self {
        self.accelerators(accelerator, 1)
    }

    /// Adds `units` of an accelerator; default none.
    #[must_use]
    pub fn accelerators(mut self, kind: Accelerator, units: u16) -> Self {
        match self.accelerators.iter_mut().find(|has| has.kind == kind) {
            Some(has) => has.units = has.units.saturating_add(units),
            None => self.accelerators.push(AcceleratorUnits { kind, units }),
        }
        self
    }

    /// How many units of an accelerator it has in all.
    #[must_use]
    pub fn units_of(&self, kind: Accelerator) -> u16 {
        self.accelerators.iter().find(|has| has.kind == kind).map_or(0, |has| has.units)
    }

    /// The kind of hardware; default its tier.
    #[must_use]
    pub fn class(mut self, class: Name) -> Self {
        self.class = Some(class);
        self
    }

    /// The place in the network; default one of its own.
    #[must_use]
    pub fn site(mut self, site: Name) -> Self {
        self.site = Some(site);
        self
    }

    /// The legal region; default none.
    #[must_use]
    pub fn region(mut self, region: Zone) -> Self {
        self.region = Some(region);
        self
    }

    /// Where it stands, and how fast it moves in metres per second; default nowhere known, standing still.
    #[must_use]
    pub const fn at(mut self, location: GeoPoint, speed: f32) -> Self {
        self.location = Some(location);
        self.speed = speed;
        self
    }

    /// What it runs on; default mains.
    #[must_use]
    pub const fn battery(mut self, battery: Battery) -> Self {
        self.battery = Some(battery);
        self
    }

    /// Calls and tasks that it takes at once; default as many as its resources allow.
    #[must_use]
    pub const fn slots(mut self, slots: u16) -> Self {
        self.slots = slots;
        self
    }

    /// Adds something that it can, by name; default nothing.
    #[must_use]
    pub fn label(mut self, label: Name) -> Self {
        self.labels.push(label);
        self
    }

    /// What work on it costs beside time; default nothing.
    #[must_use]
    pub const fn rates(mut self, rates: Rates) -> Self {
        self.rates = rates;
        self
    }

    /// What its radio spends; default nothing.
    #[must_use]
    pub const fn radio(mut self, radio: Radio) -> Self {
        self.radio = radio;
        self
    }

    /// What `cpu` of this CPU comes to there: a node that is slower is busy for longer.
    #[must_use]
    pub fn spent(&self, cpu: Duration) -> Spent {
        // Asked by every call, and most nodes have no rates.
        if self.rates == Rates::default() {
            return Spent::NOTHING;
        }
        let busy = self.slowdown.stretch(cpu).as_secs_f64();
        Spent {
            money: Money::from_units(busy * f64::from(self.rates.money)),
            energy: Energy::from_joules(busy * f64::from(self.rates.joules)),
            carbon: Carbon::from_grams(busy * f64::from(self.rates.carbon)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_node_is_busy_for_longer_with_the_same_work_and_is_paid_for_that() {
        let rates = Rates { money: 0.5, joules: 4.0, carbon: 0.25 };
        let node = Node::new(NodeId::new("slow").unwrap(), Tier::Edge).slowdown(Slowdown::new(2.0)).rates(rates);
        let spent = node.spent(Duration::from_secs(3));
        let (money, energy) = (Money::from_units(3.0), Energy::from_joules(24.0));
        assert_eq!(spent, Spent { money, energy, carbon: Carbon::from_grams(1.5) });
        let doubled = Spent { money: money + money, energy: energy + energy, carbon: Carbon::from_grams(3.0) };
        assert_eq!([spent, spent].into_iter().sum::<Spent>(), doubled);
    }
}
