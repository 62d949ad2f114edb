use std::sync::Arc;

use scf_core::{InvocationQueue, conformance};

use super::*;
use crate::{MemoryDisk, RedbQueue, RedbState};

#[tokio::test]
async fn in_memory_it_passes_the_suite() {
    let make = |clock| async move {
        Arc::new(MemoryQueue::new(Arc::new(clock), QueueConfig::default())) as Arc<dyn InvocationQueue>
    };
    conformance::queue::invocation_queue(make).await;
}

#[tokio::test]
async fn beside_the_state_it_passes_the_suite() {
    let make = |clock| async move {
        let state = Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap());
        Arc::new(RedbQueue::open(state, Arc::new(clock), QueueConfig::default()).await.unwrap()) as _
    };
    conformance::queue::invocation_queue(make).await;
}
