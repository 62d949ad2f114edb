//! Node objects of the Kubernetes API, as far as they matter here.

use std::collections::BTreeMap;

use scf_core::{Accelerator, ByteSize, MAX_NAME, MilliCpu, Name, Node, NodeId, Resources, Tier, Zone};
use serde::Deserialize;

use super::quantity::thousandths;
use crate::inventory::Intent;

/// Says the tier of a node, in the words of [`Tier`].
const TIER: &str = "scf/tier";
/// What KubeEdge labels its nodes with, and taints them with.
pub(super) const EDGE: &str = "node-role.kubernetes.io/edge";
/// What Node Feature Discovery found out.
const FEATURE: &str = "feature.node.kubernetes.io/";
/// Labels of a node that are told; of more the first by name.
const MOST_LABELS: usize = 256;

/// A page of `GET /api/v1/nodes`.
#[derive(Debug, Deserialize)]
pub(super) struct NodeList {
    pub(super) metadata: ListMeta,
    /// `null` where there are none.
    #[serde(default)]
    pub(super) items: Option<Vec<KubeNode>>,
}

/// What is said of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    /// From where changes are heard.
    pub(super) resource_version: String,
    /// What the next page is asked for with; empty or none after the last one.
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

/// What changed, as `GET /api/v1/nodes?watch=true` says it, a line each.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum NodeEvent {
    /// There is a node.
    Added(KubeNode),
    /// It is another than before.
    Modified(KubeNode),
    /// There is none any more.
    Deleted(KubeNode),
    /// Nothing changed up to this version.
    Bookmark(KubeNode),
    /// The cluster does not say what changed.
    Error(Failure),
}

/// Why not: an object `Status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Failure {
    /// As of HTTP; 410 where the version is too old.
    pub code: u16,
    /// In words.
    pub message: String,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct KubeNode {
    pub(super) metadata: ObjectMeta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectMeta {
    pub(super) name: String,
    pub(super) resource_version: String,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
    effect: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    allocatable: BTreeMap<String, String>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

impl NodeEvent {
    /// From where changes are heard after this one.
    pub(super) fn version(&self) -> Option<&str> {
        match self {
            Self::Added(node) | Self::Modified(node) | Self::Deleted(node) | Self::Bookmark(node) => {
                Some(&node.metadata.resource_version)
            }
            Self::Error(_) => None,
        }
    }
}

impl KubeNode {
    /// Its name in the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The node that it is here; `None` where its name can not be made one, being too long. What is said of it in no known
    /// way is left out: amounts that are none count as nothing.
    #[must_use]
    pub fn node(&self) -> Option<Node> {
        let labels = &self.metadata.labels;
        let named = |label: &str| name_of(labels.get(label)?);
        let id = NodeId::new(name_of(&self.metadata.name)?.as_str()).ok()?;
        let cpu = MilliCpu::new(u32::try_from(self.amount("cpu")).unwrap_or(u32::MAX));
        let memory = ByteSize::from_bytes(self.amount("memory") / 1000);
        let mut node = Node::new(id, self.tier()).resources(Resources { cpu, memory });
        node.class = named("node.kubernetes.io/instance-type");
        node.site = named("topology.kubernetes.io/zone");
        node.zone = named("topology.kubernetes.io/region").and_then(|region| Zone::new(region.as_str()).ok());
        for (kind, amount) in &self.status.allocatable {
            let kind = match kind.as_str() {
                "nvidia.com/gpu" => Accelerator::Cuda,
                kind if kind.ends_with("/npu") => Accelerator::Npu,
                _ => continue,
            };
            let units = u16::try_from(thousandths(amount).unwrap_or_default() / 1000).unwrap_or(u16::MAX);
            if units > 0 {
                node = node.accelerators(kind, units);
            }
        }
        let features = labels.iter().filter(|(_, value)| *value == "true");
        let features = features.filter_map(|(label, _)| label.strip_prefix(FEATURE));
        let features = features.filter_map(|feature| name_of(feature.strip_prefix("cpu-cpuid.").unwrap_or(feature)));
        node.labels = named("kubernetes.io/arch").into_iter().chain(features).take(MOST_LABELS).collect();
        Some(node)
    }

    /// What the cluster wants of it, where taints of `tolerated` keys mean nothing.
    #[must_use]
    pub fn intent(&self, tolerated: &[String]) -> Intent {
        let taints = || self.spec.taints.iter().filter(|taint| !tolerated.contains(&taint.key));
        if taints().any(|taint| taint.effect == "NoExecute") {
            Intent::Drain
        } else if self.spec.unschedulable || taints().any(|taint| taint.effect == "NoSchedule") {
            Intent::Cordon
        } else {
            Intent::Serve
        }
    }

    /// Whether the cluster hears of it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.r#type == "Ready" && condition.status == "True")
    }

    fn tier(&self) -> Tier {
        match self.metadata.labels.get(TIER).map(String::as_str) {
            Some("device") => Tier::Device,
            Some("edge") => Tier::Edge,
            Some("region") => Tier::Region,
            Some("cloud") => Tier::Cloud,
            _ if self.metadata.labels.contains_key(EDGE) => Tier::Edge,
            _ => Tier::Cloud,
        }
    }

    fn amount(&self, of: &str) -> u64 {
        self.status.allocatable.get(of).and_then(|amount| thousandths(amount)).unwrap_or_default()
    }
}

/// `text` as a name, with `-` for what no name has.
pub(super) fn name_of(text: &str) -> Option<Name> {
    let known = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let text: String = text.chars().take(MAX_NAME + 1).map(|c| known(c.to_ascii_lowercase())).collect();
    Name::new(text.trim_start_matches('-')).ok()
}
