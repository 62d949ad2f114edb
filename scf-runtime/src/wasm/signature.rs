//! Which exports can be called as functions.

use std::fmt::Write;

use wasmtime::{
    Engine,
    component::{
        Component,
        types::{ComponentFunc, ComponentItem, Type},
    },
};

/// What a function's export gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// `func(list<u8>) -> list<u8>`.
    Plain,
    /// `func(list<u8>) -> result<list<u8>, string>`.
    Fallible,
    /// The interface of a handler of HTTP requests.
    #[cfg(feature = "wasi-http")]
    Http,
}

const WANTED: &str = "func(list<u8>) -> result<list<u8>, string> or func(list<u8>) -> list<u8>";

impl Signature {
    /// The signature of a function that the component's world exports, or what is wrong with it.
    pub(super) fn of(component: &Component, export: &str, engine: &Engine) -> Result<Self, String> {
        let world = component.component_type();
        match world.get_export(engine, export).map(|found| found.ty) {
            Some(ComponentItem::ComponentFunc(function)) => Self::of_function(&function)
                .ok_or_else(|| format!("is {}, where a function is {WANTED}", describe_function(&function))),
            Some(other) => Err(format!("is {}, where a function is {WANTED}", describe_item(&other))),
            None => {
                let mut problem = String::from("is not there; the component exports");
                let names = world.exports(engine).map(|(name, _)| name).take(8);
                let mut separator = " ";
                for name in names {
                    // Writing to a string does not fail.
                    let _ = write!(problem, "{separator}{name:?}");
                    separator = ", ";
                }
                if separator == " " {
                    problem.push_str(" nothing");
                }
                Err(problem)
            }
        }
    }

    fn of_function(function: &ComponentFunc) -> Option<Self> {
        let mut params = function.params();
        let mut results = function.results();
        let (input, output) = (params.next()?.1, results.next()?);
        if function.async_() || params.len() > 0 || results.len() > 0 || !is_bytes(&input) {
            return None;
        }
        match &output {
            output if is_bytes(output) => Some(Self::Plain),
            Type::Result(result) => {
                let ok = result.ok().is_some_and(|ok| is_bytes(&ok));
                let err = matches!(result.err(), Some(Type::String));
                (ok && err).then_some(Self::Fallible)
            }
            _ => None,
        }
    }
}

fn is_bytes(of: &Type) -> bool {
    matches!(of, Type::List(list) if matches!(list.ty(), Type::U8))
}

fn describe_function(function: &ComponentFunc) -> String {
    let params: Vec<_> = function.params().map(|(_, of)| describe(&of)).collect();
    let results: Vec<_> = function.results().map(|of| describe(&of)).collect();
    let arrow = if results.is_empty() { "" } else { " -> " };
    let kind = if function.async_() { "async func" } else { "func" };
    format!("{kind}({}){arrow}{}", params.join(", "), results.join(", "))
}

const fn describe_item(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::ComponentInstance(_) => "an interface",
        ComponentItem::Component(_) => "a component",
        ComponentItem::Module(_) => "a core module",
        ComponentItem::CoreFunc(_) => "a core function",
        ComponentItem::Type(_) => "a type",
        ComponentItem::Resource(_) => "a resource",
        _ => "something else",
    }
}

/// The type as WIT writes it, named types by their kind.
fn describe(of: &Type) -> String {
    let name = match of {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::List(list) => return format!("list<{}>", describe(&list.ty())),
        Type::Option(option) => return format!("option<{}>", describe(&option.ty())),
        Type::Tuple(tuple) => {
            let parts: Vec<_> = tuple.types().map(|part| describe(&part)).collect();
            return format!("tuple<{}>", parts.join(", "));
        }
        Type::Result(result) => {
            let part = |of: Option<Type>| of.map_or_else(|| "_".to_owned(), |of| describe(&of));
            return format!("result<{}, {}>", part(result.ok()), part(result.err()));
        }
        Type::Record(_) => "a record",
        Type::Variant(_) => "a variant",
        Type::Enum(_) => "an enum",
        Type::Flags(_) => "flags",
        Type::Own(_) | Type::Borrow(_) => "a resource",
        _ => "another type",
    };
    name.into()
}
