//! Asks a model that is resident in the host, through wasi:nn.

use tensor::Tensor as Message;

use self::bindings::wasi::nn::{
    errors::Error,
    graph::{ExecutionTarget, Graph, GraphEncoding, load, load_by_name},
    tensor::{Tensor, TensorType},
};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "infer", generate_all });
}

struct Infer;

impl bindings::Guest for Infer {
    fn infer(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let end = input.iter().position(|&byte| byte == b'\n').ok_or("the name of the model is missing")?;
        let name = std::str::from_utf8(&input[..end]).map_err(|_| "the name of the model is no text")?;
        let graph = find(name)?;
        let session = graph.init_execution_context().map_err(explain)?;
        let message = Message::parse(&input[end + 1..]).map_err(|error| format!("tensor.{error}"))?;
        let values: Vec<u8> = message
            .f32_values()
            .map_err(|error| format!("tensor.{error}"))?
            .flat_map(f32::to_le_bytes)
            .collect();
        let tensor = Tensor::new(message.dims(), TensorType::Fp32, &values);
        let outputs = session.compute(vec![("input".into(), tensor)]).map_err(explain)?;
        let (_, output) = outputs.into_iter().next().ok_or("the model gave nothing")?;
        let values: Vec<f32> = output.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        Ok(tensor::encode_f32(&output.dimensions(), &values))
    }
}

bindings::export!(Infer with_types_in bindings);

/// The model of that name; `gpu:` before it asks for one that runs on a GPU, which only `load` can say.
fn find(name: &str) -> Result<Graph, String> {
    match name.strip_prefix("gpu:") {
        Some(name) => load(&[name.as_bytes().to_vec()], GraphEncoding::Autodetect, ExecutionTarget::Gpu),
        None => load_by_name(name),
    }
    .map_err(explain)
}

fn explain(error: Error) -> String {
    format!("{:?}: {}", error.code(), error.data())
}
