//! Functions of other types than bytes: from Rust, C, JavaScript and Python, and written out.

use std::path::Path;

use scf_core::{ByteSize, Function, InvokeError, IsolateFactory, Limits, MediaType, Payload, PrepareError, Value};
use scf_runtime::{Profile, WasmFactory};

use crate::{
    support::{name, run},
    wasm::{component, factory, guest},
};

const LARGEST: &str = "scf:frames/select@0.1.0#largest";

fn json(text: &str) -> Payload {
    Payload::new(text.to_owned()).with_media(MediaType::JSON)
}

fn values(values: &[Value]) -> Payload {
    Payload::new(postcard::to_stdvec(values).unwrap()).with_media(MediaType::VALUES)
}

async fn problem(function: &Function) -> String {
    match factory().prepare(function).await.unwrap_err() {
        PrepareError::Export { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

fn frame(camera: &str, width: u32) -> Value {
    Value::record([
        // In any order.
        ("width", Value::from(width)),
        ("camera", Value::from(camera)),
        ("height", Value::from(2u32)),
        ("kind", Value::Enum("grey".into())),
        ("label", Value::some("the door")),
    ])
}

#[tokio::test]
async fn a_function_of_an_interface_is_called_with_json() {
    let frames = r#"[{"camera": "a", "width": 2, "height": 3, "kind": "grey", "label": null},
                     {"camera": "b", "width": 4, "height": 5, "kind": "colour", "label": "door"}]"#;
    for export in [LARGEST, "scf:frames/select#largest"] {
        let reply = run(&factory(), &guest("frames", export), json(frames)).await.unwrap();
        assert_eq!(reply.payload.media, MediaType::JSON);
        assert_eq!(
            reply.payload.bytes,
            r#"{"frame":{"camera":"b","width":4,"height":5,"kind":"colour","label":"door"},"area":20,"others":["a"]}"#
        );
    }
}

#[tokio::test]
async fn a_function_is_called_with_values() {
    let frames = [frame("a", 1), frame("b", 7)].into_iter().collect();
    let reply = run(&factory(), &guest("frames", LARGEST), values(&[frames])).await.unwrap();
    assert_eq!(reply.payload.media, MediaType::VALUES);
    let [choice] = &*postcard::from_bytes::<Vec<Value>>(&reply.payload.bytes).unwrap() else { panic!("one value") };
    assert_eq!(choice.field("area"), Some(&Value::from(14u64)));
    assert_eq!(choice.field("frame").unwrap().field("label"), Some(&Value::some("the door")));
    assert_eq!(choice.field("others"), Some(&[Value::from("a")].into_iter().collect()));
}

#[tokio::test]
async fn what_is_declared_as_output_is_given_whatever_the_call_is_made_with() {
    let largest = guest("frames", LARGEST).gives(MediaType::JSON);
    let frames = [frame("a", 1)].into_iter().collect();
    let reply = run(&factory(), &largest, values(&[frames])).await.unwrap();
    assert_eq!(reply.payload.media, MediaType::JSON);
    assert!(reply.payload.bytes.starts_with(b"{\"frame\":{\"camera\":\"a\""), "{:?}", reply.payload.bytes);
}

#[tokio::test]
async fn a_field_that_is_not_of_its_type_is_named_and_the_function_is_not_called() {
    let frames = r#"[{"camera": "a", "width": "wide", "height": 3, "kind": "grey", "label": null}]"#;
    let error = run(&factory(), &guest("frames", LARGEST), json(frames)).await.unwrap_err();
    assert_eq!(error.to_string(), "function frames: frames[0].width: expected u32, found \"wide\"");
    let error = run(&factory(), &guest("frames", LARGEST), "not said to be JSON").await.unwrap_err();
    assert!(matches!(&error, InvokeError::Media { given, .. } if given == MediaType::OCTETS.as_str()), "{error}");
}

#[tokio::test]
async fn the_error_of_a_result_refuses_the_call() {
    let error = run(&factory(), &guest("frames", LARGEST), json("[]")).await.unwrap_err();
    let message = "no frames to choose from".into();
    assert_eq!(error, InvokeError::Refused { function: name("frames"), message });
}

#[tokio::test]
async fn a_guest_in_c_takes_what_a_guest_in_rust_gives() {
    let frames = [frame("a", 1), frame("b", 7), frame("c", 7)].into_iter().collect();
    let choice = run(&factory(), &guest("frames", LARGEST), values(&[frames])).await.unwrap();
    let caption = run(&factory(), &guest("caption", "caption"), choice.payload).await.unwrap();
    let text: Vec<Value> = postcard::from_bytes(&caption.payload.bytes).unwrap();
    assert_eq!(text, [Value::from("the door: 7x2 in grey, the largest of 3")]);
}

#[tokio::test]
async fn a_function_on_bytes_is_called_with_a_value_all_the_same() {
    let reply = run(&factory(), &guest("echo", "echo"), values(&[Value::Bytes("abc".into())])).await.unwrap();
    let given: Vec<Value> = postcard::from_bytes(&reply.payload.bytes).unwrap();
    assert_eq!(given, [Value::Bytes("abc".into())]);
    // JSON is bytes to it.
    let reply = run(&factory(), &guest("echo", "echo"), json("[1]")).await.unwrap();
    assert_eq!(reply.payload.bytes, "[1]");
}

#[tokio::test]
async fn a_function_on_bytes_that_is_declared_to_give_json_is_taken_at_its_word() {
    let echo = guest("echo", "echo").gives(MediaType::JSON);
    let reply = run(&factory(), &echo, values(&[Value::Bytes("[1]".into())])).await.unwrap();
    assert_eq!(reply.payload.bytes, "[1]");
}

/// A component whose `f` gives its only parameter, of `ty`, back in its flat form of one `core` value.
fn identity(ty: &str, core: &str) -> Function {
    component(
        "f",
        &format!(
            r#"(component
              (core module $m (func (export "run") (param {core}) (result {core}) (local.get 0)))
              (core instance $i (instantiate $m))
              {ty}
              (func (export "f") (param "x" $t) (result $t) (canon lift (core func $i "run"))))"#
        ),
    )
}

#[tokio::test]
async fn scalars_enums_and_flags_cross_the_border_of_the_guest_unchanged() {
    for (ty, core, inputs) in [
        ("(type $t u8)", "i32", &["255"][..]),
        ("(type $t s64)", "i64", &["-9223372036854775808"]),
        ("(type $t u64)", "i64", &["18446744073709551615"]),
        ("(type $t f64)", "f64", &["0.1", "\"NaN\"", "-0.0"]),
        ("(type $t char)", "i32", &["\"ß\""]),
        ("(type $t bool)", "i32", &["true"]),
        ("(type $e (enum \"red\" \"green\")) (export $t \"e\" (type $e))", "i32", &["\"green\""]),
        ("(type $fl (flags \"r\" \"w\" \"x\")) (export $t \"fl\" (type $fl))", "i32", &["[\"r\",\"x\"]", "[]"]),
    ] {
        let function = identity(ty, core);
        for input in inputs {
            let reply = run(&factory(), &function, json(input)).await.unwrap();
            assert_eq!(reply.payload.bytes, input.as_bytes(), "{ty}");
        }
    }
}

#[tokio::test]
async fn a_parameter_that_nobody_outside_can_pass_is_named_when_deployed() {
    let resource = r#"(component
        (type $r (resource (rep i32)))
        (core module $m (func (export "run") (param i32)))
        (core instance $i (instantiate $m))
        (export $door "door" (type $r))
        (func (export "f") (param "which" (own $door)) (canon lift (core func $i "run"))))"#;
    let said = problem(&component("f", resource)).await;
    assert!(said.contains("parameter \"which\": a resource cannot be passed from outside"), "{said}");
}

#[tokio::test]
async fn types_that_stand_for_millions_of_parts_are_refused_when_deployed() {
    let mut types = String::from("(type $t0 (tuple u8 u8 u8 u8))");
    for level in 1..8 {
        let below = format!("$t{}", level - 1);
        types.push_str(&format!("(type $t{level} (tuple {below} {below} {below} {below}))"));
    }
    let bomb = format!(
        r#"(component
          (core module $m (memory (export "m") 1)
            (func (export "run") (param i32))
            (func (export "r") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          {types}
          (func (export "f") (param "x" $t7)
            (canon lift (core func $i "run") (memory (core memory $i "m")) (realloc (core func $i "r")))))"#
    );
    let said = problem(&component("f", &bomb)).await;
    assert!(said.contains("its types take more than 256 KiB spelled out"), "{said}");
}

#[tokio::test]
async fn what_an_interface_has_is_said_of_a_function_that_is_not_there() {
    assert_eq!(
        problem(&guest("frames", "scf:frames/select#smallest")).await,
        "is not there; the interface has \"largest\""
    );
    assert_eq!(
        problem(&guest("frames", "scf:frames/choose#largest")).await,
        "is not there; the component exports \"scf:frames/select@0.1.0\""
    );
    assert_eq!(problem(&guest("frames", "scf:frames/select@0.1.0")).await, "is an interface, not a function");
}

#[tokio::test]
async fn a_type_that_only_bytes_can_have_is_refused_of_other_parameters() {
    let said = problem(&guest("frames", LARGEST).takes(MediaType::new("image/png"))).await;
    assert!(said.ends_with("it is declared to take image/png, which only a list<u8> or a string can be"), "{said}");
}

/// A guest that `examples/guests/build --large` made.
fn interpreted(file: &str, export: &str) -> Function {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/guests/target/large").join(file);
    let bytes = std::fs::read(built.with_extension("wasm")).expect("run examples/guests/build --large first");
    let limits = Limits { memory: ByteSize::from_mib(128), ..Limits::default() };
    Function::component(name(file), bytes, export).limits(limits)
}

async fn greets(file: &str) {
    // They take long to compile: once is enough.
    let cache = tempfile::tempdir().unwrap();
    let factory = WasmFactory::builder()
        .cache(cache.path().join("components"))
        .profile(Profile::Server)
        .instances(4)
        .memory(ByteSize::from_mib(128))
        .code_size(ByteSize::from_mib(40))
        .build()
        .unwrap();
    let greet = interpreted(file, "greet");
    let text = run(&factory, &greet, "Zoë").await.unwrap().payload;
    assert_eq!((&*text.bytes, text.media), ("hello, Zoë".as_bytes(), MediaType::TEXT));
    assert_eq!(run(&factory, &greet, json("{\"name\": \"Ada\"}")).await.unwrap().payload.bytes, "\"hello, Ada\"");
    let introduce = interpreted(file, "introduce");
    let card = |name: &str| json(&format!(r#"{{"name": "{name}", "languages": ["C", "WIT"], "age": 36}}"#));
    let reply = run(&factory, &introduce, card("Ada")).await.unwrap();
    assert_eq!(reply.payload.bytes, "\"Ada, 36: C, WIT\"");
    let refused = run(&factory, &introduce, card("")).await.unwrap_err();
    assert_eq!(refused, InvokeError::Refused { function: name(file), message: "a card without a name".into() });
}

#[tokio::test]
#[ignore = "needs examples/guests/build --large"]
async fn a_guest_in_javascript_runs_as_it_was_built() {
    greets("javascript").await;
}

#[tokio::test]
#[ignore = "needs examples/guests/build --large"]
async fn a_guest_in_python_runs_as_it_was_built() {
    greets("python").await;
}
