//! `wasi:nn` for guests: models that are resident in the host and shared by all isolates.
//!
//! A guest loads a model by name; that costs a look-up, since the host keeps the model and every isolate uses the
//! same one. Models have one input, `input`, and one output, `output`; a guest may give the input any name.
#![expect(unreachable_pub, reason = "the generated bindings re-export the resources, which takes pub")]

use std::{fmt, sync::Arc};

use scf_core::{Accelerator, Activation, DType, Function, ModelError, ModelName, Node, PrepareError, TensorSpec};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::bindings::wasi::nn::{
    errors::{self, ErrorCode},
    graph::{self, ExecutionTarget, GraphBuilder, GraphEncoding},
    inference,
    tensor::{self, TensorType},
};
use super::{Plan, Services};
use crate::{escape::escape, wasm::run::Run};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/nn",
        world: "ml",
        with: {
            "wasi:nn/tensor.tensor": super::Tensor,
            "wasi:nn/graph.graph": super::Graph,
            "wasi:nn/inference.graph-execution-context": super::Session,
            "wasi:nn/errors.error": super::Failure,
        },
        imports: {
            "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
            default: trappable,
        },
    });
}

/// The name of the one output.
const OUTPUT: &str = "output";
/// Handles that a call may have open at the same time.
const HANDLES: usize = 1000;

/// Adds `wasi:nn` to a linker; `view` finds what a call has of it.
pub(in crate::wasm) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> &mut Models,
) -> wasmtime::Result<()> {
    tensor::add_to_linker::<T, Here>(linker, view)?;
    graph::add_to_linker::<T, Here>(linker, view)?;
    inference::add_to_linker::<T, Here>(linker, view)?;
    errors::add_to_linker::<T, Here>(linker, view)
}

struct Here;

impl HasData for Here {
    type Data<'a> = &'a mut Models;
}

/// What one isolate has of `wasi:nn`.
pub(in crate::wasm) struct Models {
    /// What the function is granted, and what there is.
    plan: Arc<Plan>,
    /// Where the call runs; none before the first call.
    node: Option<Arc<Node>>,
    /// What inference uses is the call's.
    run: Arc<Run>,
    /// Bytes that the isolate's tensors may still come to.
    left: u64,
    table: ResourceTable,
}

impl Models {
    /// For an isolate that serves a call on `node`.
    pub(super) fn new(plan: &Arc<Plan>, node: Option<&Arc<Node>>, run: &Arc<Run>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let left = plan.memory.bytes();
        Self { plan: Arc::clone(plan), node: node.cloned(), run: Arc::clone(run), left, table }
    }

    /// For another call that the same isolate serves.
    pub(super) fn renew(&mut self, node: Option<&Arc<Node>>) {
        self.node = node.cloned();
    }
}

/// Checks that what `function` is granted of models is there.
pub(super) fn check(function: &Function, services: &Services) -> Result<(), PrepareError> {
    for model in &function.grants.models {
        let problem = match &services.inference {
            None => "this factory has no models: call WasmBuilder::inference",
            Some(inference) if inference.describe(model).is_none() => "no such model is resident here",
            Some(_) => continue,
        };
        let (function, grant) = (function.name.clone(), format!("models {model}"));
        return Err(PrepareError::Grant { function, grant, problem: problem.into() });
    }
    Ok(())
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("granted", &self.plan.grants.models).finish_non_exhaustive()
    }
}

/// A tensor of a guest, kept by the host.
#[derive(Debug)]
pub struct Tensor {
    dimensions: Vec<u32>,
    of: TensorType,
    data: bytes::Bytes,
}

/// A resident model that a guest has a handle of.
#[derive(Debug)]
pub struct Graph(ModelName);

/// A guest's handle to run a resident model by.
#[derive(Debug)]
pub struct Session(ModelName);

/// What a guest is told about what failed.
#[derive(Debug)]
pub struct Failure {
    code: ErrorCode,
    data: String,
}

impl Failure {
    fn new(code: ErrorCode, data: impl Into<String>) -> Self {
        Self { code, data: data.into() }
    }

    fn of(error: &ModelError) -> Self {
        let code = match error {
            ModelError::NotFound { .. } => ErrorCode::NotFound,
            ModelError::Shape { .. } => ErrorCode::InvalidArgument,
            ModelError::Device { .. } => ErrorCode::UnsupportedOperation,
            _ => ErrorCode::RuntimeError,
        };
        Self::new(code, escape(&error.to_string()))
    }
}

/// What a guest is answered; the outer result ends it.
type Answer<T> = wasmtime::Result<Result<T, Resource<Failure>>>;

const fn element(of: TensorType) -> Option<DType> {
    match of {
        TensorType::Fp32 => Some(DType::F32),
        TensorType::Fp16 => Some(DType::F16),
        TensorType::U8 => Some(DType::U8),
        _ => None,
    }
}

const fn tensor_type(of: DType) -> Option<TensorType> {
    match of {
        DType::F32 => Some(TensorType::Fp32),
        DType::F16 => Some(TensorType::Fp16),
        DType::U8 => Some(TensorType::U8),
        _ => None,
    }
}

impl Models {
    /// Hands `result` to the guest.
    fn answer<T: Send + 'static>(&mut self, result: Result<T, Failure>) -> Answer<Resource<T>> {
        Ok(match result {
            Ok(value) => Ok(self.table.push(value)?),
            Err(failure) => Err(self.table.push(failure)?),
        })
    }

    /// Keeps a tensor, if the call's tensors together are not larger than the guest's memory may be.
    fn keep(&mut self, tensor: Tensor) -> wasmtime::Result<Resource<Tensor>> {
        let size = tensor.data.len() as u64;
        let left = self.left.checked_sub(size);
        self.left = left.ok_or_else(|| wasmtime::Error::msg("tensors of the guest are over its memory limit"))?;
        Ok(self.table.push(tensor)?)
    }

    fn take(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Tensor> {
        let tensor = self.table.delete(tensor)?;
        self.left += tensor.data.len() as u64;
        Ok(tensor)
    }

    fn find(&self, name: &str) -> Result<ModelName, Failure> {
        let refused = |code| Failure::new(code, format!("model {:?}", escape(name)));
        let model = ModelName::new(name).map_err(|_| refused(ErrorCode::NotFound))?;
        if !self.plan.grants.models.contains(&model) {
            return Err(Failure::new(ErrorCode::Security, format!("model {model} is not in the function's grants")));
        }
        let host = self.plan.services.inference.as_ref().ok_or_else(|| {
            Failure::new(ErrorCode::UnsupportedOperation, "this host has no models: WasmBuilder::inference")
        })?;
        host.describe(&model).map(|_| model).ok_or_else(|| refused(ErrorCode::NotFound))
    }

    async fn infer(&mut self, model: &ModelName, input: Tensor) -> Result<Tensor, Failure> {
        let Some(dtype) = element(input.of) else {
            let problem = format!("tensors of {:?} are not taken; f32, f16 and u8 are", input.of);
            return Err(Failure::new(ErrorCode::UnsupportedOperation, problem));
        };
        let shape: Vec<usize> = input.dimensions.iter().map(|&size| size as usize).collect();
        let activation = Activation::new(TensorSpec::new(dtype, &shape), input.data)
            .map_err(|error| Failure::new(ErrorCode::InvalidArgument, error.to_string()))?;
        let Some(host) = self.plan.services.inference.clone() else { return Err(Failure::of(&not_found(model))) };
        let inferred = host.run(model, activation).await.map_err(|error| Failure::of(&error))?;
        self.run.charge(inferred.usage.cpu);
        let output = inferred.output;
        let failed = |problem: String| Failure::new(ErrorCode::RuntimeError, problem);
        let data = output.bytes().map_err(|error| failed(error.to_string()))?;
        let of = tensor_type(output.spec.dtype).ok_or_else(|| failed("the output has no type of wasi:nn".into()))?;
        let dimensions = output.spec.shape.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect();
        Ok(Tensor { dimensions, of, data })
    }
}

fn not_found(model: &ModelName) -> ModelError {
    ModelError::NotFound { model: model.clone() }
}

impl tensor::Host for Models {}

impl tensor::HostTensor for Models {
    fn new(&mut self, dimensions: Vec<u32>, of: TensorType, data: Vec<u8>) -> wasmtime::Result<Resource<Tensor>> {
        self.keep(Tensor { dimensions, of, data: data.into() })
    }

    fn dimensions(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&tensor)?.dimensions.clone())
    }

    fn ty(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<TensorType> {
        Ok(self.table.get(&tensor)?.of)
    }

    fn data(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&tensor)?.data.to_vec())
    }

    fn drop(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<()> {
        self.take(tensor)?;
        Ok(())
    }
}

impl graph::Host for Models {
    fn load(&mut self, _: Vec<GraphBuilder>, _: GraphEncoding, target: ExecutionTarget) -> Answer<Resource<Graph>> {
        let node = self.node.as_ref();
        let there = |accelerator| node.is_some_and(|node| node.units_of(accelerator) > 0);
        let missing = match target {
            ExecutionTarget::Gpu if !there(Accelerator::Cuda) && !there(Accelerator::Metal) => Some("GPU"),
            ExecutionTarget::Tpu if !there(Accelerator::Npu) => Some("TPU"),
            _ => None,
        };
        let problem = missing.map_or_else(
            || "models are resident: load them by name".to_owned(),
            |device| {
                let node = node.map_or_else(|| "here".to_owned(), |node| node.id.to_string());
                format!("node {node} has no {device}")
            },
        );
        self.answer(Err(Failure::new(ErrorCode::UnsupportedOperation, problem)))
    }

    fn load_by_name(&mut self, name: String) -> Answer<Resource<Graph>> {
        let graph = self.find(&name).map(Graph);
        self.answer(graph)
    }
}

impl graph::HostGraph for Models {
    fn init_execution_context(&mut self, graph: Resource<Graph>) -> Answer<Resource<Session>> {
        let session = Session(self.table.get(&graph)?.0.clone());
        self.answer(Ok(session))
    }

    fn drop(&mut self, graph: Resource<Graph>) -> wasmtime::Result<()> {
        self.table.delete(graph)?;
        Ok(())
    }
}

impl inference::Host for Models {}

impl inference::HostGraphExecutionContext for Models {
    async fn compute(
        &mut self,
        session: Resource<Session>,
        inputs: Vec<(String, Resource<Tensor>)>,
    ) -> Answer<Vec<(String, Resource<Tensor>)>> {
        let model = self.table.get(&session)?.0.clone();
        let given = inputs.len();
        // The guest gave its handles away: they are gone whatever comes of it.
        let tensors = inputs.into_iter().map(|(_, tensor)| self.take(tensor));
        let mut tensors = tensors.collect::<wasmtime::Result<Vec<_>>>()?;
        let result = match (tensors.pop(), given) {
            (Some(input), 1) => self.infer(&model, input).await,
            _ => {
                let problem = format!("model {model} takes one tensor, not {given}");
                Err(Failure::new(ErrorCode::InvalidArgument, problem))
            }
        };
        Ok(match result {
            Ok(output) => Ok(vec![(OUTPUT.to_owned(), self.keep(output)?)]),
            Err(failure) => Err(self.table.push(failure)?),
        })
    }

    fn drop(&mut self, session: Resource<Session>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}

impl errors::Host for Models {}

impl errors::HostError for Models {
    fn code(&mut self, failure: Resource<Failure>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&failure)?.code)
    }

    fn data(&mut self, failure: Resource<Failure>) -> wasmtime::Result<String> {
        Ok(self.table.get(&failure)?.data.clone())
    }

    fn drop(&mut self, failure: Resource<Failure>) -> wasmtime::Result<()> {
        self.table.delete(failure)?;
        Ok(())
    }
}
