//! Which exports can be called as functions.

use std::fmt::Write;

use scf_core::Function;
use wasmtime::{
    Engine,
    component::{
        Component, ComponentExportIndex,
        types::{ComponentFunc, ComponentInstance, ComponentItem, Type},
    },
};

use super::typed::Typed;

/// How a function's export is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// `func(list<u8>) -> list<u8>`, with the payload's bytes.
    Plain,
    /// `func(list<u8>) -> result<list<u8>, string>`, with the payload's bytes.
    Fallible,
    /// Any other type, by its values.
    Typed,
}

/// An export that can be called.
#[derive(Debug)]
pub(super) struct Callable {
    pub(super) signature: Signature,
    pub(super) typed: Typed,
    pub(super) index: ComponentExportIndex,
}

impl Callable {
    /// The function that `export` names: one of the component's world, or one of an exported interface as
    /// `acme:image/codec@1.0.0#resize`, of which the version may be left out when there is one. Or what is wrong.
    pub(super) fn of(
        component: &Component,
        function: &Function,
        export: &str,
        engine: &Engine,
    ) -> Result<Self, String> {
        let (item, index) = match export.rsplit_once('#') {
            None => component.get_export(None, export).ok_or_else(|| missing(component, engine))?,
            Some((interface, name)) => {
                let (instance, index) = interface_of(component, interface, engine)?;
                component.get_export(Some(&index), name).ok_or_else(|| {
                    let functions = instance.exports(engine).filter_map(|(name, found)| {
                        matches!(found.ty, ComponentItem::ComponentFunc(_)).then_some(name)
                    });
                    format!("is not there; the interface has{}", list(functions))
                })?
            }
        };
        let ComponentItem::ComponentFunc(found) = item else {
            return Err(format!("is {}, not a function", describe_item(&item)));
        };
        let typed = Typed::of(&found, &function.input, &function.output);
        let typed = typed.map_err(|problem| format!("is {}: it {problem}", describe_function(&found)))?;
        let signature = Signature::of_function(&found).unwrap_or(Signature::Typed);
        Ok(Self { signature, typed, index })
    }
}

/// The exported interface of that name; without a version: of the only version.
fn interface_of(
    component: &Component,
    interface: &str,
    engine: &Engine,
) -> Result<(ComponentInstance, ComponentExportIndex), String> {
    let world = component.component_type();
    let is_named = |name: &str| match name.split_once('@') {
        Some((base, _)) => name == interface || base == interface,
        None => name == interface,
    };
    let names: Vec<_> = world.exports(engine).map(|(name, _)| name.to_owned()).filter(|name| is_named(name)).collect();
    match &*names {
        [] => Err(missing(component, engine)),
        [name] => match component.get_export(None, &**name) {
            Some((ComponentItem::ComponentInstance(instance), index)) => Ok((instance, index)),
            _ => Err(format!("has {name:?} for an interface, which is none")),
        },
        names => Err(format!("is there in several versions; name one:{}", list(names.iter().map(String::as_str)))),
    }
}

fn missing(component: &Component, engine: &Engine) -> String {
    let world = component.component_type();
    format!("is not there; the component exports{}", list(world.exports(engine).map(|(name, _)| name)))
}

/// The first few of some names.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::new();
    let mut separator = " ";
    for name in names.take(8) {
        // Writing to a string does not fail.
        let _ = write!(list, "{separator}{name:?}");
        separator = ", ";
    }
    if list.is_empty() {
        list.push_str(" nothing");
    }
    list
}

impl Signature {
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
