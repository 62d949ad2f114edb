//! Attached devices of a node, in counted units that calls hold while they run.

use std::{collections::BTreeMap, sync::Arc};

use scf_core::{Clock, DeviceGrant, Meter, Name, Node, Timestamp};
use smallvec::SmallVec;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The devices of one node.
#[derive(Debug)]
pub(crate) struct Devices(BTreeMap<Name, Device>);

#[derive(Debug)]
struct Device {
    units: u32,
    free: Semaphore,
}

/// What the calls of a function hold on a node: device and units, each device once, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim(Vec<(Name, u32)>);

/// Why a node cannot give what a function's grants ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub(crate) device: Name,
    pub(crate) problem: String,
}

impl Claim {
    /// What `grants` come to on `node`; a device that is granted twice is held with the units of both.
    pub(crate) fn of(grants: &[DeviceGrant], node: &Node) -> Result<Self, Lacking> {
        let mut claim: BTreeMap<Name, u32> = BTreeMap::new();
        for DeviceGrant { device, units } in grants {
            let lacking = |problem: String| Lacking { device: device.clone(), problem };
            let there = node.devices.iter().filter(|there| there.name == *device).map(|there| there.units).sum();
            let wanted = units.unwrap_or(there);
            if there == 0 {
                return Err(lacking(format!("node {} has no such device", node.id)));
            }
            if wanted == 0 {
                return Err(lacking("asks for 0 units".into()));
            }
            let units = claim.entry(device.clone()).or_default();
            *units = units.saturating_add(wanted);
            if *units > there {
                return Err(lacking(format!("asks for {units} units, node {} has {there}", node.id)));
            }
        }
        Ok(Self(claim.into_iter().collect()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Devices {
    pub(crate) fn new(node: &Node) -> Self {
        let mut devices = BTreeMap::new();
        for scf_core::Device { name, units } in &node.devices {
            let device = devices.entry(name.clone()).or_insert_with(|| Device { units: 0, free: Semaphore::new(0) });
            device.units = device.units.saturating_add(*units);
            device.free.add_permits(*units as usize);
        }
        Self(devices)
    }

    /// Waits until everything that `claim` asks for is free and takes it. Everybody asks in the order of the names,
    /// so that no two wait for each other, and is served in the order of arrival, so that who wants all units gets
    /// them. Dropping the future gives back what it had.
    pub(crate) async fn acquire<'a>(&'a self, claim: &Claim, clock: &'a dyn Clock, meter: &Arc<Meter>) -> Held<'a> {
        let mut held = Held { parts: SmallVec::new(), clock, meter: Arc::clone(meter) };
        for (name, units) in &claim.0 {
            let device = self.0.get(name).expect("claims are made for this node");
            let permit = device.free.acquire_many(*units).await.expect("the semaphore of a device is never closed");
            held.parts.push((clock.now(), permit));
        }
        held
    }

    /// Units of a device that nobody holds.
    #[cfg(test)]
    pub(crate) fn free(&self, name: &Name) -> usize {
        self.0[name].free.available_permits()
    }
}

/// Devices in use by one call; given back when it is dropped, however the call ends. The time for which each was
/// held is then told to the call's meter.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    parts: SmallVec<[(Timestamp, SemaphorePermit<'a>); 2]>,
    clock: &'a dyn Clock,
    meter: Arc<Meter>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let now = self.clock.now();
        for (since, _) in &self.parts {
            self.meter.add_accelerator(now.since(*since));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use scf_core::{ManualClock, NodeId, Tier};

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn node() -> Node {
        Node::new(NodeId::new("gateway").unwrap(), Tier::Edge).device(name("gpu"), 4).device(name("camera"), 1)
    }

    fn grant(device: &str, units: Option<u32>) -> DeviceGrant {
        DeviceGrant { device: name(device), units }
    }

    fn claim(grants: &[DeviceGrant]) -> Claim {
        Claim::of(grants, &node()).unwrap()
    }

    #[test]
    fn a_claim_names_the_device_that_is_lacking() {
        let lacking = |grants: &[DeviceGrant]| {
            let Lacking { device, problem } = Claim::of(grants, &node()).unwrap_err();
            format!("{device}: {problem}")
        };
        assert_eq!(lacking(&[grant("valve", None)]), "valve: node gateway has no such device");
        assert_eq!(lacking(&[grant("gpu", Some(5))]), "gpu: asks for 5 units, node gateway has 4");
        assert_eq!(
            lacking(&[grant("gpu", Some(3)), grant("gpu", Some(2))]),
            "gpu: asks for 5 units, node gateway has 4"
        );
        assert_eq!(lacking(&[grant("gpu", Some(0))]), "gpu: asks for 0 units");
    }

    #[tokio::test]
    async fn units_are_counted_and_all_of_them_exclude_everybody() {
        let (devices, clock, meter) = (Devices::new(&node()), ManualClock::new(), Arc::default());
        let (part, all) = (claim(&[grant("gpu", Some(2))]), claim(&[grant("gpu", None)]));
        let first = devices.acquire(&part, &clock, &meter).await;
        let second = devices.acquire(&part, &clock, &meter).await;
        let mut exclusive = Box::pin(devices.acquire(&all, &clock, &meter));
        assert!(exclusive.as_mut().now_or_never().is_none());
        drop(first);
        // Who came first and wants all is not passed by who wants a part.
        assert!(devices.acquire(&part, &clock, &meter).now_or_never().is_none());
        assert!(exclusive.as_mut().now_or_never().is_none());
        drop(second);
        let exclusive = exclusive.now_or_never().expect("all units are free");
        assert_eq!(devices.free(&name("gpu")), 0);
        drop(exclusive);
        assert_eq!(devices.free(&name("gpu")), 4);
    }

    #[tokio::test]
    async fn the_time_for_which_devices_are_held_is_told_also_of_a_wait_that_was_given_up() {
        let (devices, clock) = (Devices::new(&node()), ManualClock::new());
        let both = claim(&[grant("gpu", Some(1)), grant("camera", None)]);
        let (meter, waiting) = (Arc::<Meter>::default(), Arc::<Meter>::default());
        let held = devices.acquire(&both, &clock, &meter).await;
        clock.advance(Duration::from_secs(2));
        drop(held);
        assert_eq!(meter.usage().accelerator, Duration::from_secs(4), "two devices for two seconds");

        let gpu = claim(&[grant("gpu", None)]);
        let held = devices.acquire(&gpu, &clock, &meter).await;
        // It has the camera, which comes first, and waits for the GPU.
        let mut other = Box::pin(devices.acquire(&both, &clock, &waiting));
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!(devices.free(&name("camera")), 0);
        clock.advance(Duration::from_secs(1));
        drop((other, held));
        assert_eq!(waiting.usage().accelerator, Duration::from_secs(1));
        assert_eq!((devices.free(&name("camera")), devices.free(&name("gpu"))), (1, 4));
    }

    #[tokio::test]
    async fn calls_that_want_the_same_devices_in_any_order_all_get_them() {
        let (devices, clock) = (Arc::new(Devices::new(&node())), ManualClock::new());
        let (ab, ba) = ([grant("gpu", None), grant("camera", None)], [grant("camera", None), grant("gpu", None)]);
        let calls: Vec<_> = (0..100)
            .map(|at| {
                let (devices, clock, claim) =
                    (devices.clone(), clock.clone(), claim(if at % 2 == 0 { &ab } else { &ba }));
                tokio::spawn(async move {
                    let meter = Arc::default();
                    let held = devices.acquire(&claim, &clock, &meter).await;
                    tokio::task::yield_now().await;
                    drop(held);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!((devices.free(&name("camera")), devices.free(&name("gpu"))), (1, 4));
    }
}
