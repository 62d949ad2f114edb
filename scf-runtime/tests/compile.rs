//! Compilation in a process of its own. This program is the compiler too, so it has its own `main`.

use std::{error::Error, fmt::Write, time::Duration};

use scf_core::{ByteSize, Function, FunctionName, IsolateFactory, PrepareError};
use scf_runtime::{CodeLimits, CompileError, Compiler, CompilerCommand, WasmBuilder, WasmFactory, compiler_main};

/// A function that lives in a component around the fields of a module.
fn around(fields: &str) -> Function {
    let text = format!(
        r#"(component
          (core module $m (memory (export "memory") 1) {fields}
            (func (export "run") (param i32 i32) (result i32) (i32.const 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
    );
    Function::component(FunctionName::new("f").unwrap(), wat::parse_str(text).unwrap(), "f")
}

fn child(command: CompilerCommand) -> WasmBuilder {
    let limits = CodeLimits { functions: 1_000_000, body: ByteSize::from_mib(8), ..CodeLimits::DEFAULT };
    WasmFactory::builder().instances(2).code_limits(limits).compiler(Compiler::Child(command))
}

/// This program, however busy the machine is.
fn patient() -> CompilerCommand {
    CompilerCommand::this_program().wall(Duration::from_secs(600))
}

async fn refused(command: CompilerCommand, function: &Function) -> (PrepareError, WasmFactory) {
    let factory = child(command).build().unwrap();
    (factory.prepare(function).await.unwrap_err(), factory)
}

fn cause(error: &PrepareError) -> &CompileError {
    error.source().and_then(|source| source.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
}

/// One function of many operations, which takes the compiler seconds.
fn bomb() -> Function {
    let mut body = String::from("(func (param i32) (result i32) (local.get 0)");
    for number in 0..400_000 {
        write!(body, " i32.const {number} i32.add i32.clz").unwrap();
    }
    body.push(')');
    around(&body)
}

/// The factory is as good as before.
async fn still_compiles(factory: &WasmFactory) {
    factory.prepare(&around("")).await.unwrap();
    assert_eq!(factory.counters().compiled, 1);
}

async fn a_component_is_compiled_in_a_child_and_cached() {
    let dir = tempfile::tempdir().unwrap();
    let cached = || child(patient()).cache(dir.path()).build().unwrap();
    let (first, second) = (cached(), cached());
    let prepared = first.prepare(&around("")).await.unwrap();
    assert_eq!((first.counters().compiled, first.counters().deserialised), (1, 1));
    drop(prepared.instantiate().await.unwrap());
    second.prepare(&around("")).await.unwrap();
    assert_eq!((second.counters().compiled, second.counters().loaded), (0, 1));
}

async fn a_bomb_is_ended_by_its_cpu_limit() {
    let (error, factory) = refused(patient().cpu(Duration::from_secs(1)), &bomb()).await;
    assert!(matches!(error, PrepareError::InvalidCode { .. }), "{error:?}");
    assert!(matches!(cause(&error), CompileError::Cpu { limit } if *limit == Duration::from_secs(1)), "{error:?}");
    still_compiles(&factory).await;
}

async fn a_bomb_is_killed_when_its_time_is_over() {
    let wall = Duration::from_millis(300);
    let (error, _) = refused(CompilerCommand::this_program().wall(wall), &bomb()).await;
    assert!(matches!(cause(&error), CompileError::Wall { limit } if *limit == wall), "{error:?}");
}

async fn a_bomb_does_not_get_more_memory_than_its_limit() {
    let memory = ByteSize::from_mib(192);
    let (error, _) = refused(patient().memory(memory), &bomb()).await;
    assert!(matches!(cause(&error), CompileError::Ended { memory: limit, .. } if *limit == memory), "{error:?}");
}

async fn the_screen_is_before_the_child() {
    let functions = around(&"(func)".repeat(100_000));
    let builder = WasmFactory::builder().instances(2);
    // No such program: were it started, the error would be another.
    let factory = builder.compiler(Compiler::Child(CompilerCommand::new("/nowhere"))).build().unwrap();
    let error = factory.prepare(&functions).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "functions: 100002, where 20000 is the limit");
}

async fn a_program_that_is_no_compiler_is_named_as_one() {
    let (error, _) = refused(CompilerCommand::new("/bin/echo").argument("moved to another room"), &around("")).await;
    assert!(matches!(error, PrepareError::Host { .. }), "{error:?}");
    assert!(matches!(cause(&error), CompileError::NoCompiler), "{error:?}");
}

async fn a_program_that_is_not_there_is_named() {
    let (error, _) = refused(CompilerCommand::new("/nowhere"), &around("")).await;
    assert!(matches!(cause(&error), CompileError::Start { program, .. } if program.ends_with("nowhere")), "{error:?}");
}

fn main() {
    compiler_main();
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    macro_rules! tests {
        ($($test:ident)*) => {$(
            if only.as_ref().is_none_or(|only| stringify!($test).contains(only.as_str())) {
                runtime.block_on($test());
                println!("test {} ... ok", stringify!($test));
            }
        )*};
    }
    tests! {
        a_component_is_compiled_in_a_child_and_cached
        a_bomb_is_ended_by_its_cpu_limit
        a_bomb_is_killed_when_its_time_is_over
        a_bomb_does_not_get_more_memory_than_its_limit
        the_screen_is_before_the_child
        a_program_that_is_no_compiler_is_named_as_one
        a_program_that_is_not_there_is_named
    }
}
