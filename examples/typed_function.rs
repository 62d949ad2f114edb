//! Functions of WIT types, called with JSON and with values: `cargo run --release --example typed_function`
//!
//! Two components that know nothing of each other: one in Rust chooses the largest of some frames, one in C writes a
//! caption. The fabric also says beforehand whether one takes what the other gives (feature `check`).

use std::{error::Error, sync::Arc};

use scf::{
    core::{Function, FunctionName, MediaType, Name, Payload, Value, Workflow},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

const COMPONENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components");

/// A record of WIT, its fields in any order.
fn frame(camera: &str, width: u32, height: u32) -> Value {
    Value::record([
        ("camera", Value::from(camera)),
        ("width", Value::from(width)),
        ("height", Value::from(height)),
        ("kind", Value::Enum("colour".into())),
        ("label", Value::none()),
    ])
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let wasm = WasmFactory::builder().cache(std::env::temp_dir().join("scf-typed")).build()?;
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
    for (name, file, export) in [
        ("largest", "frames", "scf:frames/select@0.1.0#largest"),
        ("caption", "caption", "caption"),
        ("caption-small", "caption", "caption-small"),
    ] {
        let bytes = std::fs::read(format!("{COMPONENTS}/{file}.wasm"))?;
        fabric.deploy(Function::component(FunctionName::new(name)?, bytes, export)).await?;
    }
    let [largest, caption, small] =
        [FunctionName::new("largest")?, FunctionName::new("caption")?, FunctionName::new("caption-small")?];

    let frames = [frame("front", 640, 480), frame("yard", 1920, 1080)].into_iter().collect();
    let choice = fabric.call_values(&largest, &[frames]).await?.ok_or("largest gives a value")?;
    println!("with values: {:?} of {:?} pixels", choice.field("others"), choice.field("area"));
    println!("             {:?}", fabric.call_values(&caption, &[choice]).await?);

    let json = |text: &'static str| Payload::new(text).with_media(MediaType::JSON);
    let frames = r#"[{"camera": "gate", "width": 800, "height": 600, "kind": "grey", "label": "the gate"}]"#;
    let outcome = fabric.call(&largest, json(frames)).await?;
    println!("with JSON:   {}", str::from_utf8(&outcome.payload.bytes)?);

    for bad in [
        r#"[{"camera": "gate", "width": "wide", "height": 600, "kind": "grey", "label": null}]"#,
        r#"[{"camera": "gate", "width": 800, "height": 600, "kind": "sepia", "label": null}]"#,
        r#"[{"camera": "gate", "width": 800, "kind": "grey", "label": null}]"#,
        "[]",
    ] {
        match fabric.call(&largest, json(bad)).await {
            Ok(_) => return Err("that was no list of frames".into()),
            Err(error) => println!("refused:     {error}"),
        }
    }

    for to in [&caption, &small] {
        match fabric.check(&largest, to) {
            Ok(()) => println!("check:       {to} takes what {largest} gives"),
            Err(error) => println!("check:       {error}"),
        }
        let name = Name::new("captions")?;
        match fabric.deploy_workflow(Workflow::new(name).then(largest.clone()).then(to.clone())) {
            Ok(()) => println!("workflow:    {largest} then {to} is deployed"),
            Err(error) => println!("workflow:    {error}"),
        }
    }
    Ok(())
}
