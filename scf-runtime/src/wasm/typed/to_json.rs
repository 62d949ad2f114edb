//! Values as JSON, led by the type; the table is in the documentation of `wasm`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use wasmtime::component::Val;

use super::shape::Shape;

/// A value to be written as JSON.
#[derive(Clone, Copy)]
pub(super) struct AsJson<'a>(pub(super) &'a Shape, pub(super) &'a Val);

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0, self.1) {
            (_, Val::Bool(truth)) => serializer.serialize_bool(*truth),
            (_, Val::S8(number)) => serializer.serialize_i8(*number),
            (_, Val::U8(number)) => serializer.serialize_u8(*number),
            (_, Val::S16(number)) => serializer.serialize_i16(*number),
            (_, Val::U16(number)) => serializer.serialize_u16(*number),
            (_, Val::S32(number)) => serializer.serialize_i32(*number),
            (_, Val::U32(number)) => serializer.serialize_u32(*number),
            (_, Val::S64(number)) => serializer.serialize_i64(*number),
            (_, Val::U64(number)) => serializer.serialize_u64(*number),
            (_, Val::Float32(number)) if number.is_finite() => serializer.serialize_f32(*number),
            (_, Val::Float64(number)) if number.is_finite() => serializer.serialize_f64(*number),
            (_, Val::Float32(number)) => serializer.serialize_str(special(f64::from(*number))),
            (_, Val::Float64(number)) => serializer.serialize_str(special(*number)),
            (_, Val::Char(char)) => serializer.serialize_char(*char),
            (_, Val::String(text) | Val::Enum(text) | Val::Variant(text, None)) => serializer.serialize_str(text),
            (Shape::Bytes, Val::List(values)) => {
                let bytes: Vec<u8> = bytes(values).collect();
                serializer.serialize_str(&STANDARD.encode(bytes))
            }
            (Shape::List(shape), Val::List(values)) => {
                serializer.collect_seq(values.iter().map(|value| AsJson(shape, value)))
            }
            (Shape::Record(_, shapes), Val::Record(fields)) => {
                let fields = shapes.iter().zip(fields).map(|(shape, (name, value))| (name, AsJson(shape, value)));
                serializer.collect_map(fields)
            }
            (Shape::Tuple(shapes), Val::Tuple(values)) => {
                serializer.collect_seq(shapes.iter().zip(values).map(|(shape, value)| AsJson(shape, value)))
            }
            (Shape::Variant(cases, shapes), Val::Variant(case, Some(value))) => {
                let shape = cases.position(case).and_then(|at| shapes[at].as_ref()).ok_or_else(astray)?;
                only(serializer, case, &AsJson(shape, value))
            }
            (Shape::Option(_), Val::Option(None)) => serializer.serialize_unit(),
            (Shape::Option(shape), Val::Option(Some(value))) if shape.is_nullable() => {
                only(serializer, "some", &AsJson(shape, value))
            }
            (Shape::Option(shape), Val::Option(Some(value))) => AsJson(shape, value).serialize(serializer),
            (Shape::Result(ok, err), Val::Result(result)) => {
                let (key, shape, value) = match result {
                    Ok(value) => ("ok", ok, value),
                    Err(value) => ("err", err, value),
                };
                match shape.as_deref().zip(value.as_deref()) {
                    Some((shape, value)) => only(serializer, key, &AsJson(shape, value)),
                    None => only(serializer, key, &()),
                }
            }
            (Shape::Flags(_), Val::Flags(flags)) => serializer.collect_seq(flags),
            _ => Err(astray()),
        }
    }
}

/// What a `list<u8>` has.
pub(super) fn bytes(values: &[Val]) -> impl ExactSizeIterator<Item = u8> {
    values.iter().map(|value| if let Val::U8(byte) = value { *byte } else { 0 })
}

/// The engine gives values of the function's own types.
fn astray<E: Error>() -> E {
    E::custom("a value is not of its type")
}

fn only<S: Serializer>(serializer: S, key: &str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

const fn special(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number.is_sign_positive() {
        "Infinity"
    } else {
        "-Infinity"
    }
}
