//! State of another node.

mod client;
mod message;
mod server;

pub use client::RemoteState;
pub use server::StateServer;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use scf_core::{
        Batch, Clock, Commit, Durability, Fence, FunctionName, InvocationId, ManualClock, NodeId, Scope, StateBackend,
        StateError, Subject, Timestamp, Transport as _, conformance,
    };

    use super::*;
    use crate::{
        disk::MemoryDisk,
        loopback::{Cut, Loopback},
        redb::RedbState,
    };

    fn pair(clock: ManualClock) -> (Arc<Loopback>, RemoteState) {
        let net = Arc::new(Loopback::default());
        let (node, home) = (NodeId::new("edge").unwrap(), NodeId::new("home").unwrap());
        let builder = RedbState::builder().clock(Arc::new(clock.clone()));
        let backend = Arc::new(builder.on(Arc::new(MemoryDisk::new())).unwrap());
        net.attach(&home, Subject::State, Arc::new(StateServer::new(backend, Arc::new(clock)))).unwrap();
        let remote = RemoteState::new(Arc::clone(&net) as _, node, home);
        (net, remote)
    }

    fn scope() -> Scope {
        Scope { function: FunctionName::new("f").unwrap(), key: "k".into() }
    }

    #[tokio::test]
    async fn passes_the_suite_with_leases_on_the_homes_clock() {
        let make = |clock| async move { Arc::new(pair(clock).1) as Arc<dyn StateBackend> };
        conformance::state::state_backend(make).await;
    }

    #[tokio::test]
    async fn a_cut_way_changes_nothing_and_a_lost_answer_leaves_a_commit_unknown() {
        let (net, remote) = pair(ManualClock::new());
        let batch = || Batch::new(scope()).put("v", "1").invocation(InvocationId::new(1), "done");
        net.cut(Cut::Before);
        let unsent = remote.commit(batch()).await;
        assert!(matches!(unsent, Err(StateError::Unavailable { .. })), "{unsent:?}");
        net.cut(Cut::After);
        assert_eq!(remote.commit(batch()).await, Err(StateError::Unknown { scope: scope() }));
        let read = remote.get(&scope(), "v").await;
        assert!(matches!(read, Err(StateError::Unavailable { .. })), "{read:?}");
        let fence = Fence { epoch: 1, nonce: 1 };
        let renewed = remote.renew(&scope(), fence, Duration::from_secs(1), Timestamp::default()).await;
        assert_eq!(renewed, Err(StateError::Unknown { scope: scope() }));
        net.heal();
        assert_eq!(remote.commit(batch()).await, Ok(Commit::Duplicate { result: "done".into() }));
        assert_eq!(remote.head(&scope(), Timestamp::default()).await.unwrap().version.get(), 1);
    }

    #[tokio::test]
    async fn a_home_with_less_durability_refuses_what_it_cannot_give() {
        let net = Arc::new(Loopback::default());
        let (node, home) = (NodeId::new("edge").unwrap(), NodeId::new("home").unwrap());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let server = StateServer::new(Arc::new(crate::MemoryState::new()), clock);
        net.attach(&home, Subject::State, Arc::new(server)).unwrap();
        let remote = RemoteState::new(net, node, home);
        let refused = remote.commit(Batch::new(scope()).put("v", "1")).await;
        let (asked, given) = (Durability::Durable, Durability::Memory);
        assert_eq!(refused, Err(StateError::Durability { asked, given }));
    }
}
