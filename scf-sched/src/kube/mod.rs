//! The nodes of a Kubernetes or K3s cluster as units of the inventory.
//!
//! [`KubeApi`] asks the cluster's API for its nodes and hears what changes about them; a [`NodeMirror`] makes units of
//! them. The first does I/O, on a tokio runtime; the second is as pure as the inventory.
//!
//! | of the cluster | here |
//! |---|---|
//! | `metadata.name` | the node's name, with `-` for what no name has |
//! | label `node-role.kubernetes.io/edge`, which KubeEdge sets | [`Tier::Edge`](scf_core::Tier::Edge); otherwise cloud |
//! | label `scf/tier` | the tier, whatever else is said |
//! | `status.allocatable`: `cpu`, `memory` | resources |
//! | `status.allocatable`: `nvidia.com/gpu`, `…/npu` | accelerators |
//! | labels `topology.kubernetes.io/zone` and `…/region` | site and zone |
//! | label `node.kubernetes.io/instance-type` | class |
//! | label `kubernetes.io/arch`, and those of Node Feature Discovery that are `true` | labels: `arm64`, `avx2`, `pci-10de-present` |
//! | `spec.unschedulable`, taints `NoSchedule` and `NoExecute` | cordoned, and drained |
//! | condition `Ready` | heard of |

mod api;
mod mirror;
mod node;
mod quantity;

pub use api::{KubeApi, KubeError, KubeNews};
pub use mirror::{MirrorError, NodeMirror};
pub use node::{Failure, KubeNode, NodeEvent};
