//! The types of a function as its component's bytes have them, compared by structure.

use std::collections::HashSet;

use scf_core::{Code, Function, FunctionName};
use wac_types::{DefinedType, FuncType, ItemKind, Package, PrimitiveType, SubtypeChecker, Types, ValueType};

use super::CheckError;
use crate::escape::escape;

/// How a WebAssembly component begins: magic, version, layer.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// What a function takes and gives.
pub(super) struct Signature {
    function: FunctionName,
    types: Types,
    of: FuncType,
}

impl Signature {
    /// Reads it from the component, which takes about a millisecond per MiB.
    pub(super) fn of(function: &Function) -> Result<Self, CheckError> {
        let name = &function.name;
        let untyped = |kind| CheckError::NotTyped { function: name.clone(), kind };
        let Code::Component { bytes, export } = &function.code else { return Err(untyped(function.code.kind())) };
        if !bytes.starts_with(COMPONENT) {
            return Err(untyped("signed artefact"));
        }
        let mut types = Types::default();
        let package = Package::from_bytes(name.as_str(), None, bytes.to_vec(), &mut types);
        let problem = |problem: &str| CheckError::Types { function: name.clone(), problem: escape(problem) };
        let package = package.map_err(|error| problem(&format!("{error:#}")))?;
        let exports = &types[package.ty()].exports;
        let found = match export.rsplit_once('#') {
            None => exports.get(export),
            Some((interface, function)) => {
                let is_named = |name: &str| name == interface || name.split('@').next() == Some(interface);
                let found = exports.iter().find(|(name, _)| is_named(name));
                match found {
                    Some((_, ItemKind::Instance(instance))) => types[*instance].exports.get(function),
                    _ => None,
                }
            }
        };
        let Some(ItemKind::Func(id)) = found else { return Err(problem(&format!("{export:?} is no function"))) };
        Ok(Self { function: name.clone(), of: types[*id].clone(), types })
    }

    /// Whether this function's result is what `to` takes.
    pub(super) fn fits(&self, to: &Self) -> Result<(), CheckError> {
        let mismatch = |problem: String| {
            let (from, to) = (self.function.clone(), to.function.clone());
            Err(CheckError::Mismatch { from, to, problem: escape(&problem) })
        };
        let mut params = to.of.params.values();
        let (Some(&param), None) = (params.next(), params.next()) else {
            return mismatch(format!("it takes {} parameters, and is given one value", to.of.params.len()));
        };
        let Some(value) = self.value() else { return mismatch("there is no value".into()) };
        let mut seen = HashSet::new();
        let mut checker = SubtypeChecker::new(&mut seen);
        let (value, param) = (ItemKind::Value(value), ItemKind::Value(param));
        match checker.is_subtype(value, &self.types, param, &to.types) {
            Ok(()) => Ok(()),
            Err(error) => mismatch(format!("{error:#}")),
        }
    }

    /// What a caller is given: of a `result`, its value.
    fn value(&self) -> Option<ValueType> {
        match self.of.result.map(|result| self.resolve(result))? {
            ValueType::Defined(id) => match &self.types[id] {
                DefinedType::Result { ok, .. } => *ok,
                _ => Some(ValueType::Defined(id)),
            },
            other => Some(other),
        }
    }

    /// The type that an alias stands for.
    fn resolve(&self, mut of: ValueType) -> ValueType {
        while let ValueType::Defined(id) = of {
            let DefinedType::Alias(other) = &self.types[id] else { break };
            of = *other;
        }
        of
    }

    /// Whether it is a function on bytes, which is given payloads as they are.
    pub(super) fn is_on_bytes(&self) -> bool {
        let is_bytes = |of: ValueType| match self.resolve(of) {
            ValueType::Defined(id) => {
                matches!(self.types[id], DefinedType::List(ValueType::Primitive(PrimitiveType::U8)))
            }
            _ => false,
        };
        let mut params = self.of.params.values();
        let takes_bytes = params.next().is_some_and(|&param| is_bytes(param)) && params.next().is_none();
        takes_bytes && self.value().is_some_and(is_bytes)
    }
}
