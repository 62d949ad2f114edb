//! The network between the three nodes and how it changes during the run.

use std::{error::Error, time::Duration};

use scf::{
    core::{Bandwidth, Link, NodeId},
    runtime::transport::{InProcess, LinkState},
};

/// A stretch of the run with one state of the link between gateway and cloud.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) name: &'static str,
    /// Frames that are sent during it.
    pub(crate) frames: usize,
    /// The link between gateway and cloud; none: cut.
    pub(crate) uplink: Option<Link>,
}

pub(crate) const ACCESS: Link = Link { latency: Duration::from_millis(3), bandwidth: Bandwidth::from_mbit_per_s(50) };
pub(crate) const UPLINK: Link = Link { latency: Duration::from_millis(25), bandwidth: Bandwidth::from_mbit_per_s(20) };
const CONGESTED: Link = Link { bandwidth: Bandwidth::from_mbit_per_s(1), ..UPLINK };

/// The schedule of a run of 60 frames.
pub(crate) const SCHEDULE: [Weather; 4] = [
    Weather { name: "good", frames: 20, uplink: Some(UPLINK) },
    Weather { name: "congested", frames: 10, uplink: Some(CONGESTED) },
    Weather { name: "cloud cut off", frames: 10, uplink: None },
    Weather { name: "good again", frames: 20, uplink: Some(UPLINK) },
];

impl Weather {
    /// Makes the network so.
    pub(crate) fn apply(&self, network: &InProcess, gateway: &NodeId, cloud: &NodeId) -> Result<(), Box<dyn Error>> {
        let state = self.uplink.map_or(LinkState::Cut, LinkState::Shaped);
        Ok(network.set_link(gateway, cloud, state)?)
    }
}
