//! Your own placement policy, held against the contract: `cargo run --release --example custom_scheduler`
//!
//! Spares the battery: nodes on mains power first, then those with the most charge. Placements of the default
//! pipeline stand beside its own.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use scf::{
    core::{
        Bandwidth, ByteSize, ClusterView, Code, Function, FunctionName, Health, Name, Node, NodeId, NodeStatus, Path,
        Placement, PlacementRequest, Refusal, ScheduleError, Scheduler, Tier, Timestamp, conformance,
    },
    sched::{Candidate, Filter, Pipeline, Score},
};

/// Charge per node in per cent; a node that is not listed is on mains power.
type Charge = HashMap<NodeId, f64>;

/// The pipeline's filters, one of our own, and the battery as cost.
#[derive(Debug)]
struct BatteryFirst(Pipeline);

/// Costs an hour per per cent of charge that is gone, which outweighs every latency.
#[derive(Debug)]
struct Drain(Charge);

impl Score for Drain {
    fn cost(&self, _: &PlacementRequest<'_>, _: &ClusterView, candidate: Candidate<'_>) -> f64 {
        let charge = self.0.get(&candidate.status.node.id).copied();
        charge.map_or(0.0, |charge| (100.0 - charge).mul_add(3600.0, 3600.0))
    }
}

/// An extra need: nobody works on the last 20 per cent.
#[derive(Debug)]
struct NotNearlyEmpty(Charge);

impl Filter for NotNearlyEmpty {
    fn name(&self) -> &'static str {
        "battery"
    }

    fn admits(&self, _: &PlacementRequest<'_>, _: &ClusterView, candidate: Candidate<'_>) -> bool {
        self.0.get(&candidate.status.node.id).is_none_or(|charge| *charge > 20.0)
    }
}

impl BatteryFirst {
    fn new(charge: &Charge) -> Self {
        Self(Pipeline::default().filter(NotNearlyEmpty(charge.clone())).score(Drain(charge.clone())))
    }
}

impl Scheduler for BatteryFirst {
    fn schedule(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError> {
        self.0.schedule(request, view)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    conformance::scheduler::scheduler(|| Arc::new(BatteryFirst::new(&Charge::new())));
    println!("BatteryFirst keeps the contract of Scheduler on 200 drawn clusters\n");

    let [drone, tractor, barn] = [NodeId::new("drone")?, NodeId::new("tractor")?, NodeId::new("barn")?];
    let status = |id: &NodeId, tier| {
        let node = Arc::new(Node::new(id.clone(), tier));
        NodeStatus { free: node.resources, node, load: 0, health: Health::Ready, version: 1 }
    };
    let way = |ms| Path {
        latency: Duration::from_millis(ms),
        bandwidth: Bandwidth::from_mbit_per_s(10),
        measured: Timestamp::default(),
    };
    let nodes = vec![status(&drone, Tier::Device), status(&tractor, Tier::Device), status(&barn, Tier::Edge)];
    let view = ClusterView::new(Timestamp::default(), nodes).with_path(&drone, &tractor, way(5));
    let with_barn = view.clone().with_path(&drone, &barn, way(40));
    let function = Function::new(FunctionName::new("weeds")?, Code::Native { entry: Name::new("weeds")? });
    let ask = |scheduler: &dyn Scheduler, view: &ClusterView| {
        let (payload, work) = (ByteSize::from_kib(64), Duration::from_millis(20));
        let request = PlacementRequest { function: &function, from: &drone, payload, data: &[], work, seed: 1 };
        match scheduler.schedule(&request, view) {
            Ok(placement) => placement.node.to_string(),
            Err(ScheduleError::Unplaceable { refused, .. }) => {
                let reasons: Vec<_> =
                    refused.iter().map(|Refusal { filter, nodes }| format!("{filter} {nodes}")).collect();
                format!("nowhere: {}", reasons.join(", "))
            }
            Err(error) => error.to_string(),
        }
    };
    println!("{:<44} {:<10} battery first", "a call from the drone", "pipeline");
    for (what, drone_charge, tractor_charge, view) in [
        ("barn in reach, on mains", 80.0, 60.0, &with_barn),
        ("barn out of reach, tractor has less charge", 80.0, 60.0, &view),
        ("barn out of reach, tractor has more charge", 30.0, 60.0, &view),
        ("everybody nearly empty", 15.0, 10.0, &view),
    ] {
        let charge = Charge::from([(drone.clone(), drone_charge), (tractor.clone(), tractor_charge)]);
        let ours = ask(&BatteryFirst::new(&charge), view);
        println!("{what:<44} {:<10} {ours}", ask(&Pipeline::default(), view));
    }
    Ok(())
}
