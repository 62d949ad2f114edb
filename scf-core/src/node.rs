//! Machines and what they have.

use serde::{Deserialize, Serialize};

use crate::{ByteSize, MilliCpu, Name, NodeId, Slowdown, Zone};

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
    /// What else it computes with.
    pub accelerators: Vec<Accelerator>,
    /// What is attached to it and must be granted to be used.
    pub devices: Vec<Device>,
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

    /// Adds an accelerator; default none.
    #[must_use]
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerators.push(accelerator);
        self
    }
}
