//! Components that begin where their initialisation ended.
//!
//! A guest that takes long to become ready (an interpreter that reads its library, a table that is computed once) is
//! initialised here, and a component is written whose memories and globals begin as they were then: every isolate of
//! that is ready when its memory is mapped. Wizer instruments the component so that its state can be read and writes
//! it anew; what comes out is a component like any other, to be deployed, or compiled and signed for gateways.
//!
//! A snapshot is taken between calls. What is kept: memories, how far they have grown, and mutable globals. Tables are
//! what the component's own element segments make of them, so components that change them otherwise are refused. The
//! host's side of a guest is not kept, so one that has anything open of it is refused too.

use std::sync::Arc;

use bytes::Bytes;
use scf_core::{ByteSize, Code, Function, FunctionName, InvokeError, LimitKind, MediaType, Payload, PrepareError};
use thiserror::Error;
use tokio::{runtime::Handle, task, time};
use wasmparser::{CanonicalFunction, Parser, Payload as Part};
use wasmtime_wizer::{ComponentContext, Wizer};

use super::{
    artefact::is_artefact,
    factory::{PAGE, WasmFactory},
    live::Live,
    program::{Export, Program},
    snapshot_state::State,
    world::Plan,
};
use crate::{escape::escape, spread::Apart};

/// Pages that a memory grows by while it is read.
const READ: u64 = 4;

/// Why no snapshot was taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The function cannot be made ready, with or without a snapshot.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The component has something whose state cannot be kept.
    #[error("no snapshot of {function} can be taken: {problem}")]
    Unsupported {
        /// Whose component it is.
        function: FunctionName,
        /// What it has.
        problem: String,
    },
    /// The initialisation did not come to its end, or refused.
    #[error(transparent)]
    Init(#[from] InvokeError),
    /// After the initialisation the guest has something open that the host keeps: a file, a stream, a bucket, a model.
    #[error("no snapshot of {function} can be taken: it has something open that the host keeps")]
    Open {
        /// Whose guest it is.
        function: FunctionName,
    },
    /// The component would be larger than those that are accepted.
    #[error("the snapshot of {function} has {size}, the limit is {limit}")]
    TooLarge {
        /// Whose snapshot it is.
        function: FunctionName,
        /// How large it is.
        size: ByteSize,
        /// What [`WasmBuilder::code_size`](super::WasmBuilder::code_size) allows.
        limit: ByteSize,
    },
}

impl WasmFactory {
    /// Instantiates `function`'s component, calls its export `init` with `input`, and gives a component that begins as
    /// that instance is then. It exports the same, `init` included.
    ///
    /// `init` is named like the export of a function, and takes and gives the same; to one without parameters, give
    /// [`Payload::default`]. A function that warms up as it serves can be its own `init`. What `init` gives is dropped;
    /// an error that it gives is [`InvokeError::Refused`] in [`SnapshotError::Init`].
    ///
    /// `init` runs under the function's limits and grants, outside of any call: its clocks stand, what it reads of
    /// random numbers is the same for every snapshot unless the function is granted true ones, and services and
    /// other functions refuse it. Secrets that it reads would be in the component: it can read none.
    ///
    /// Runs on the blocking threads of the tokio runtime that it is called on, for as long as compiling the component
    /// and `init` take. Dropping the future leaves that to end by itself.
    ///
    /// # Errors
    /// [`SnapshotError`]; of components with nested modules, several memories, resources of their own, or
    /// instructions that change tables, [`SnapshotError::Unsupported`].
    pub async fn snapshot(&self, function: &Function, init: &str, input: Payload) -> Result<Bytes, SnapshotError> {
        let name = function.name.clone();
        let (factory, function, init) = (self.clone(), function.clone(), init.to_owned());
        let runtime = Handle::current();
        let taken = task::spawn_blocking(move || runtime.block_on(factory.take(function, &init, input)));
        taken.await.map_err(|error| PrepareError::Host { function: name, source: error.into() })?
    }

    async fn take(&self, mut function: Function, init: &str, input: Payload) -> Result<Bytes, SnapshotError> {
        let unsupported = |problem: String| SnapshotError::Unsupported { function: function.name.clone(), problem };
        let Code::Component { bytes, .. } = &function.code else {
            return Err(unsupported(format!("it is {}, not a component", function.code.kind())));
        };
        if is_artefact(bytes) {
            return Err(unsupported("it is machine code; take the snapshot of the component, then sign that".into()));
        }
        let (shared, source) = (&self.shared, bytes.clone());
        shared.sources.screen(&source).map_err(|refusal| refusal.of(&function))?;
        if defines_resources(&source) {
            return Err(unsupported("it defines resources, of which a snapshot has no handles".into()));
        }
        let mut wizer = Wizer::new();
        wizer.init_func(init).keep_init_func(true);
        let instrumented = wizer.instrument_component(&source);
        let (context, instrumented) = instrumented.map_err(|error| unsupported(escape(&format!("{error:#}"))))?;

        let limit = function.limits.memory;
        let spare = ByteSize::from_bytes(limit.bytes().saturating_add(READ * PAGE));
        function.limits.memory = spare.min(shared.machine.memory);
        (function.input, function.output) = (MediaType::OCTETS, MediaType::OCTETS);
        let loaded = self.load(&instrumented.into()).await.map_err(|refusal| refusal.of(&function))?;
        let world = Plan::of(&function, &loaded.component, &shared.machine.engine, &shared.services).await?;
        let program = Arc::new(shared.program(&function, init, loaded, world)?);
        let mut live = Live::unused(&Arc::new(Apart(Arc::clone(&program))));
        let done = initialise(&program, &mut live, limit, input);
        let state = match time::timeout(function.limits.wall, done).await {
            Ok(instance) => instance?,
            Err(_) => return Err(program.limit(LimitKind::Wall).into()),
        };
        if live.has_open() {
            return Err(SnapshotError::Open { function: function.name });
        }
        let snapshot = read(&wizer, &context, &program, &mut live, state).await?;
        let (size, limit) = (ByteSize::from_bytes(snapshot.len() as u64), shared.size);
        if size > limit {
            return Err(SnapshotError::TooLarge { function: function.name, size, limit });
        }
        shared.sources.screen(&snapshot).map_err(|refusal| refusal.of(&function))?;
        Ok(snapshot.into())
    }
}

/// Instantiates and calls `init`. The memory must then be within `limit`, of which some was added for reading it.
async fn initialise(
    program: &Program,
    live: &mut Live,
    limit: ByteSize,
    input: Payload,
) -> Result<wasmtime::component::Instance, SnapshotError> {
    let callable = match &program.export {
        Export::Function(callable) => callable,
        #[cfg(feature = "wasi-http")]
        Export::Handler(_) => {
            let problem = "a handler of HTTP requests cannot be called to initialise it".into();
            return Err(SnapshotError::Unsupported { function: program.function.clone(), problem });
        }
    };
    let input = if input.bytes.is_empty() && callable.typed.takes_nothing() {
        Payload::new("{}").with_media(MediaType::JSON)
    } else {
        input
    };
    let refused = |refusal| SnapshotError::Init(program.refuse(refusal));
    let params = program.read(callable, &input).map_err(refused)?;
    let ended = live.alone(program, async |store| {
        let instance = program.pre.instantiate_async(&mut *store).await?;
        let function = instance.get_func(&mut *store, callable.index);
        let function = function.expect("the export was looked up when the program was made");
        let output = program.run(callable, store, function, params, &input).await?;
        Ok((instance, output))
    });
    let ended = ended.await;
    let (instance, output) = ended.map_err(|error| program.explain(&error, live))?;
    output.map_err(refused)?;
    match live.refused() {
        Some(limit) => Err(program.limit(limit).into()),
        None if live.usage().memory > limit => Err(program.limit(LimitKind::Memory).into()),
        None => Ok(instance),
    }
}

/// Reads the state of an instance and writes the component that begins with it.
async fn read(
    wizer: &Wizer,
    context: &ComponentContext<'_>,
    program: &Program,
    live: &mut Live,
    instance: wasmtime::component::Instance,
) -> Result<Vec<u8>, SnapshotError> {
    let read = live.alone(program, async |store| {
        let mut state = State::new(store, instance);
        let component = wizer.snapshot_component(context, &mut state).await?;
        state.finish().map(|()| component)
    });
    let read = read.await;
    read.map_err(|error| match program.explain(&error, live) {
        limit @ InvokeError::Limit { .. } => limit.into(),
        _ => SnapshotError::Unsupported {
            function: program.function.clone(),
            problem: escape(&format!("its state cannot be read: {error:#}")),
        },
    })
}

/// Whether a component makes handles of resources of its own.
fn defines_resources(component: &[u8]) -> bool {
    let makes = |part: Part<'_>| match part {
        Part::ComponentCanonicalSection(functions) => {
            functions.into_iter().any(|function| matches!(function, Ok(CanonicalFunction::ResourceNew { .. })))
        }
        _ => false,
    };
    Parser::new(0).parse_all(component).any(|part| part.is_ok_and(makes))
}
