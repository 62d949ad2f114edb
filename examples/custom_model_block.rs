//! A vendor's own model block beside ours: `cargo run --release --example custom_model_block`
//!
//! The last block of EfficientNet-Lite0 is replaced by one that keeps its tensors in the memory of a (here
//! emulated) NPU, which computes in 16-bit fixed point. It passes the same suite as every block, and planners
//! place it like any other.

use std::{any::Any, error::Error, sync::Arc, time::Duration};

use scf::{
    ai::{Device, LatencyOptimal, codec_cost, efficientnet_lite0},
    core::{
        Activation, Bandwidth, BlockCost, BlockGraph, BoxError, Bytes, DType, DeviceTensor, EdgeCost, FormCost,
        ModelBlock, ModelError, ModelName, NodeId, Path, Slowdown, SplitPlanner, SplitProblem, SplitSpent, TensorSpec,
        Timestamp, WireForm, conformance,
    },
};

/// Fractional bits of the NPU's numbers.
const FRACTION: u32 = 10;

/// A tensor in the NPU's memory: fixed point, as no other maker's block could read it.
#[derive(Debug)]
struct NpuTensor(Vec<i16>);

impl DeviceTensor for NpuTensor {
    fn download(&self) -> Result<Bytes, BoxError> {
        let float = |&q: &i16| (f32::from(q) / (1 << FRACTION) as f32).to_le_bytes();
        Ok(self.0.iter().flat_map(float).collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The mean over the picture: what is left of an image when only its features are asked for.
#[derive(Debug)]
struct NpuPool;

impl ModelBlock for NpuPool {
    fn name(&self) -> &str {
        "npu-pool"
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        match input.shape[..] {
            [1, h, w, c] if input.dtype == DType::F32 && h * w * c > 0 => Ok(TensorSpec::new(DType::F32, &[1, c])),
            _ => Err(ModelError::Shape { block: "npu-pool".into(), takes: "f32 1 h w c".into(), given: input.clone() }),
        }
    }

    fn cost(&self, input: &TensorSpec) -> BlockCost {
        BlockCost { flops: input.elements().unwrap_or(0) as u64, ..BlockCost::default() }
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        let output = self.output(&input.spec)?;
        // An upload: elements of another maker come as bytes.
        let failed = |error| ModelError::Block { block: "npu-pool".into(), source: BoxError::from(error) };
        let bytes = input.bytes().map_err(failed)?;
        let fixed = |b: &[u8; 4]| (f32::from_le_bytes(*b) * (1 << FRACTION) as f32) as i16;
        let channels = output.shape[1];
        let mut sums = vec![0i32; channels];
        for pixel in bytes.as_chunks().0.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, b)| *sum += i32::from(fixed(b)));
        }
        let pixels = (input.spec.shape[1] * input.spec.shape[2]) as i32;
        let mean = sums.iter().map(|&sum| (sum / pixels) as i16).collect();
        Ok(Activation::on_device(output, Arc::new(NpuTensor(mean))))
    }
}

fn input(spec: &TensorSpec) -> Result<Activation, Box<dyn Error>> {
    let elements = (0..spec.elements().unwrap_or(0)).flat_map(|i| ((i % 500) as f32 / 100.0 - 2.0).to_le_bytes());
    Ok(Activation::new(spec.clone(), elements.collect::<Bytes>())?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let lite0 = efficientnet_lite0(&std::fs::read("examples/assets/efficientnet-lite0.safetensors")?, Device::Cpu)?;
    let pixels = input(&lite0.edges()[17])?;
    conformance::model::model_block(|| Arc::new(NpuPool), || pixels.clone());
    println!("npu-pool passes the suite of model blocks");

    let mut blocks = lite0.blocks()[..17].to_vec();
    blocks.push(Arc::new(NpuPool));
    let graph = BlockGraph::chain(ModelName::new("lite0-features")?, lite0.input.clone(), blocks)?;
    let features = graph.run(0..18, input(&graph.input)?)?;
    println!("a picture has {} features", features.spec.shape[1]);

    // A camera eight times slower than the cloud, where a block's operations take their time at 20 GFLOP/s.
    let (names, slowdowns) = ([&NodeId::new("camera")?, &NodeId::new("cloud")?], [Slowdown::new(8.0), Slowdown::NONE]);
    let cost = graph.blocks().iter().zip(graph.edges()).map(|(block, spec)| block.cost(spec).flops);
    let cloud: Vec<_> = cost.map(|flops| Duration::from_nanos(flops / 20)).collect();
    let times: Vec<_> = cloud.iter().map(|&time| slowdowns[0].stretch(time)).chain(cloud.iter().copied()).collect();
    let (form, result) = (WireForm::Exact, features.spec.size().unwrap_or_default());
    let cost = |spec| [FormCost { form, size: form.size(spec).unwrap_or_default(), codec: codec_cost(spec, form) }];
    let forms: Vec<_> = graph.edges()[..18].iter().map(cost).collect();
    let edges: Vec<_> = forms.iter().map(|forms| EdgeCost { forms }).collect();
    let (names, slowdowns, waits) = (&names, &slowdowns, &[Duration::ZERO; 2]);
    let (nodes, blocks, first, times, paths, edges) = (2, 18, 0, &times[..], &[None; 4], &edges[..]);
    let (draws, spent) = (&[], SplitSpent::NOTHING);
    let problem =
        SplitProblem { nodes, names, slowdowns, blocks, first, times, waits, paths, edges, result, draws, spent };
    for mbit in [1, 10, 100, 1000] {
        let (latency, bandwidth) = (Duration::from_millis(5), Bandwidth::from_mbit_per_s(mbit));
        let paths = &[Some(Path { latency, bandwidth, measured: Timestamp::default() }); 4];
        let plan = LatencyOptimal.plan(&SplitProblem { paths, ..problem })?;
        let parts = plan.segments.iter().map(|s| format!("{} {}..{}", names[s.node], s.from, s.to));
        println!("at {mbit:4} Mbit/s in {:.1?}: {}", plan.predicted, parts.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
