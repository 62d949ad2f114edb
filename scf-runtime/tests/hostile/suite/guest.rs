//! Hostile guests, written out as WebAssembly text.

use scf_core::{Function, FunctionName};

/// WASI as component imports, lowered into an instance `$host`.
const HOST: &str = include_str!("host.wat");
/// The same as imports of the core module.
const HOST_IMPORTS: &str = include_str!("host_imports.wat");

/// What every hostile function is deployed as.
pub(crate) fn hostile() -> FunctionName {
    FunctionName::new("hostile").unwrap()
}

/// A component of the text.
pub(crate) fn component(text: &str) -> Function {
    let binary = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Function::component(hostile(), binary, "f")
}

/// A component that exports `f: func(list<u8>) -> result<list<u8>, string>`.
///
/// Its result area is at 0: case, pointer, length. From 4096 the allocator hands out what is asked for and never
/// takes it back.
#[derive(Clone)]
pub(crate) struct Guest {
    memory: String,
    realloc: String,
    own_realloc: Option<String>,
    fields: String,
    run: String,
    post: Option<String>,
    options: &'static str,
    host: bool,
}

impl Guest {
    /// With the body of the function `(param $in i32) (param $len i32) (result i32)`.
    pub(crate) fn new(run: impl Into<String>) -> Self {
        let realloc = "(global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.get $next) (global.set $next (i32.add (global.get $next) (local.get $size)))"
            .into();
        Self {
            memory: "1".into(),
            realloc,
            own_realloc: None,
            fields: String::new(),
            run: run.into(),
            post: None,
            options: "",
            host: false,
        }
    }

    /// Pages that the memory begins with, and the most that it declares.
    pub(crate) fn memory(mut self, pages: impl Into<String>) -> Self {
        self.memory = pages.into();
        self
    }

    /// Fields of the core module: functions, tables, globals, data.
    pub(crate) fn fields(mut self, fields: impl Into<String>) -> Self {
        self.fields = fields.into();
        self
    }

    /// Body of the allocator `(param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)`,
    /// which has the memory and the global `$next`.
    pub(crate) fn realloc(mut self, body: impl Into<String>) -> Self {
        self.realloc = body.into();
        self
    }

    /// An allocator for what the function is given that lives in the core module and may call the host.
    pub(crate) fn own_realloc(mut self, body: impl Into<String>) -> Self {
        self.own_realloc = Some(body.into());
        self
    }

    /// Body of a post-return function.
    pub(crate) fn post(mut self, body: impl Into<String>) -> Self {
        self.post = Some(body.into());
        self
    }

    /// Options of the lift, such as the encoding of strings.
    pub(crate) fn options(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }

    /// Imports WASI.
    pub(crate) fn host(mut self) -> Self {
        self.host = true;
        self
    }

    pub(crate) fn build(&self) -> Function {
        let Self { memory, realloc, fields, run, options, .. } = self;
        let (host, imports, with) = match self.host {
            true => (HOST, HOST_IMPORTS, "(with \"host\" (instance $host))"),
            false => ("", "", ""),
        };
        let alloc = "(param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)";
        let (own, lifts_with) = match &self.own_realloc {
            Some(body) => (format!("(func (export \"realloc\") {alloc} {body})"), "(core func $m \"realloc\")"),
            None => (String::new(), "$realloc"),
        };
        let (post, after) = match &self.post {
            Some(body) => {
                (format!("(func (export \"post\") (param i32) {body})"), "(post-return (core func $m \"post\"))")
            }
            None => (String::new(), ""),
        };
        component(&format!(
            r#"(component
              (core module $libc
                (memory (export "memory") {memory})
                (global $next (mut i32) (i32.const 4096))
                (func (export "realloc") {alloc} {realloc}))
              (core instance $libc (instantiate $libc))
              (alias core export $libc "memory" (core memory $memory))
              (alias core export $libc "realloc" (core func $realloc))
              {host}
              (core module $m
                (import "libc" "memory" (memory 1))
                (import "libc" "realloc" (func $realloc {alloc}))
                {imports}
                {fields}
                {own}
                {post}
                (func (export "run") (param $in i32) (param $len i32) (result i32) {run}))
              (core instance $m (instantiate $m (with "libc" (instance $libc)) {with}))
              (func (export "f") (param "input" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $m "run") (memory $memory) (realloc {lifts_with}) {after} {options})))"#
        ))
    }
}

/// Code that answers with the four bytes of `value`.
pub(crate) fn answer(value: &str) -> String {
    format!(
        "(i32.store (i32.const 32) {value}) (i32.store (i32.const 0) (i32.const 0)) \
         (i32.store (i32.const 4) (i32.const 32)) (i32.store (i32.const 8) (i32.const 4)) (i32.const 0)"
    )
}

/// Code that answers with `case` 0 for bytes and 1 for a refusal, and what is at `pointer` for `length`.
pub(crate) fn give(case: u32, pointer: &str, length: &str) -> String {
    format!(
        "(i32.store (i32.const 0) (i32.const {case})) (i32.store (i32.const 4) {pointer}) \
         (i32.store (i32.const 8) {length}) (i32.const 0)"
    )
}
