//! The engine's values as [`Value`](scf_core::Value)s in postcard, without an intermediate, led by the type.

use scf_core::ValueKind;
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeSeq, SerializeTupleVariant},
};
use wasmtime::component::Val;

use super::{shape::Shape, to_json::bytes};

/// A value to be written as a [`Value`](scf_core::Value).
#[derive(Clone, Copy)]
pub(super) struct AsValue<'a>(pub(super) &'a Shape, pub(super) &'a Val);

impl Serialize for AsValue<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        fn variant<S: Serializer>(
            to: S,
            kind: ValueKind,
            value: &(impl Serialize + ?Sized),
        ) -> Result<S::Ok, S::Error> {
            to.serialize_newtype_variant("Value", kind as u32, ValueKind::NAMES[kind as usize], value)
        }
        fn maybe<'a>(shape: Option<&'a Shape>, value: &'a Option<Box<Val>>) -> Option<AsValue<'a>> {
            shape.zip(value.as_deref()).map(|(shape, value)| AsValue(shape, value))
        }
        match (self.0, self.1) {
            (_, Val::Bool(truth)) => variant(to, ValueKind::Bool, truth),
            (_, Val::S8(number)) => variant(to, ValueKind::S8, number),
            (_, Val::U8(number)) => variant(to, ValueKind::U8, number),
            (_, Val::S16(number)) => variant(to, ValueKind::S16, number),
            (_, Val::U16(number)) => variant(to, ValueKind::U16, number),
            (_, Val::S32(number)) => variant(to, ValueKind::S32, number),
            (_, Val::U32(number)) => variant(to, ValueKind::U32, number),
            (_, Val::S64(number)) => variant(to, ValueKind::S64, number),
            (_, Val::U64(number)) => variant(to, ValueKind::U64, number),
            (_, Val::Float32(number)) => variant(to, ValueKind::F32, number),
            (_, Val::Float64(number)) => variant(to, ValueKind::F64, number),
            (_, Val::Char(char)) => variant(to, ValueKind::Char, char),
            (_, Val::String(text)) => variant(to, ValueKind::String, text),
            (Shape::Bytes, Val::List(values)) => {
                let bytes: Vec<u8> = bytes(values).collect();
                variant(to, ValueKind::Bytes, &Octets(&bytes))
            }
            (Shape::List(shape), Val::List(values)) => {
                variant(to, ValueKind::List, &Seq(|| values.iter().map(|value| AsValue(shape, value))))
            }
            (Shape::Record(_, shapes), Val::Record(fields)) => {
                let fields = || shapes.iter().zip(fields).map(|(shape, (name, value))| (name, AsValue(shape, value)));
                variant(to, ValueKind::Record, &Seq(fields))
            }
            (Shape::Tuple(shapes), Val::Tuple(values)) => {
                let parts = || shapes.iter().zip(values).map(|(shape, value)| AsValue(shape, value));
                variant(to, ValueKind::Tuple, &Seq(parts))
            }
            (Shape::Variant(cases, shapes), Val::Variant(case, value)) => {
                let shape = cases.position(case).and_then(|at| shapes[at].as_ref());
                let mut to = to.serialize_tuple_variant("Value", ValueKind::Variant as u32, "Variant", 2)?;
                to.serialize_field(case)?;
                to.serialize_field(&maybe(shape, value))?;
                to.end()
            }
            (_, Val::Enum(case)) => variant(to, ValueKind::Enum, case),
            (Shape::Option(shape), Val::Option(value)) => variant(to, ValueKind::Option, &maybe(Some(shape), value)),
            (Shape::Result(ok, err), Val::Result(result)) => {
                let result = match result {
                    Ok(value) => Ok(maybe(ok.as_deref(), value)),
                    Err(value) => Err(maybe(err.as_deref(), value)),
                };
                variant(to, ValueKind::Result, &result)
            }
            (_, Val::Flags(flags)) => variant(to, ValueKind::Flags, flags),
            _ => Err(Error::custom("a value is not of its type")),
        }
    }
}

/// A list whose elements are made while they are written.
struct Seq<F>(F);

impl<I: ExactSizeIterator<Item: Serialize>, F: Fn() -> I> Serialize for Seq<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let elements = (self.0)();
        let mut seq = serializer.serialize_seq(Some(elements.len()))?;
        for element in elements {
            seq.serialize_element(&element)?;
        }
        seq.end()
    }
}

struct Octets<'a>(&'a [u8]);

impl Serialize for Octets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
