//! Runs an ONNX file by tract: `tract-arm MODEL INPUT i64|f32 SHAPE`, for `../inference`. INPUT is the bytes of the one
//! input, SHAPE its sizes with commas between. Answers each line of the standard input with the nanoseconds that one
//! inference took and the elements that it gave.

use std::{
    error::Error,
    io::{BufRead as _, Write as _},
    time::Instant,
};

use tract_onnx::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, kind, shape] = &arguments[..] else { return Err("tract-arm MODEL INPUT i64|f32 SHAPE".into()) };
    let shape = shape.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let kind = match kind.as_str() {
        "i64" => DatumType::I64,
        "f32" => DatumType::F32,
        other => return Err(format!("no kind {other}").into()),
    };
    let bytes = std::fs::read(input)?;
    let input = match kind {
        DatumType::I64 => Tensor::from_shape(&shape, &numbers(&bytes, i64::from_le_bytes))?,
        _ => Tensor::from_shape(&shape, &numbers(&bytes, f32::from_le_bytes))?,
    };
    let fact = InferenceFact::dt_shape(kind, &shape);
    let model = tract_onnx::onnx().model_for_path(model)?.with_input_fact(0, fact)?.into_optimized()?.into_runnable()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let input = input.clone();
        let start = Instant::now();
        let outputs = model.run(tvec!(input.into_tvalue()))?;
        let took = start.elapsed().as_nanos();
        let output = outputs[0].cast_to::<f32>()?;
        let elements: Vec<String> = output.to_plain_array_view::<f32>()?.iter().map(f32::to_string).collect();
        println!("{took} {}", elements.join(" "));
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn numbers<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}
