//! Small fleets.

use std::{sync::Arc, time::Duration};

use scf_core::{
    Bandwidth, ByteSize, Code, Function, FunctionName, LinkQuality, MilliCpu, Name, Needs, Node, NodeId, Resources,
    Tier, Zone,
};
use scf_sched::{Fleet, NodeIx};

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn zone(text: &str) -> Zone {
    Zone::new(text).unwrap()
}

pub(crate) const fn resources(milli: u32, mib: u64) -> Resources {
    Resources { cpu: MilliCpu::new(milli), memory: ByteSize::from_mib(mib) }
}

/// Four cores, 4 GiB, at the one site of the fleet.
pub(crate) fn node(id: &str) -> Node {
    Node::new(NodeId::new(id).unwrap(), Tier::Edge).resources(resources(4000, 4096)).site(name("site"))
}

pub(crate) fn join(fleet: &Fleet, node: Node) -> NodeIx {
    fleet.join(Arc::new(node)).unwrap()
}

pub(crate) fn function(needs: Needs) -> Function {
    Function::new(FunctionName::new("f").unwrap(), Code::Native { entry: name("f") }).needs(needs)
}

pub(crate) const fn way(ms: u64, mbit: u64) -> LinkQuality {
    LinkQuality::steady(Duration::from_millis(ms), Bandwidth::from_mbit_per_s(mbit))
}

/// Connects two sites in both directions.
pub(crate) fn connect(fleet: &Fleet, a: &str, b: &str, quality: LinkQuality) {
    let [a, b] = [a, b].map(|site| fleet.site(&name(site)).unwrap());
    fleet.connect(a, b, Some(quality));
    fleet.connect(b, a, Some(quality));
}
