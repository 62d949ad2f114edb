//! JSON as values, led by the type; the table is in the documentation of `wasm`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use scf_core::ValueKind;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use wasmtime::component::Val;

use super::{
    place::{Place, Step, quoted},
    shape::{Names, Shape},
};

/// What an array of numbers that stands for `list<u8>` is made of.
static U8: Shape = Shape::Plain(ValueKind::U8);

/// Reads the parameters of a function.
///
/// An object by name; or, for a single parameter, its bare value. An object of which the first key is the name of
/// the single parameter is by name, unless the parameter is of a type that has such a key itself.
pub(super) fn read<'s>(
    names: &'s Names,
    shapes: &'s [Shape],
    text: &[u8],
    place: &Place<'s>,
) -> Result<Vec<Val>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let values = match shapes {
        [] if text.trim_ascii().is_empty() => return Ok(Vec::new()),
        [shape] if first_key(text).is_none_or(|key| key != names.get(0) || shape.has_key(&key)) => {
            let read = || Of { shape, place }.deserialize(&mut json);
            vec![place.at(Step::Field(names.get(0)), read)?]
        }
        _ => json.deserialize_any(Params { names, shapes, place })?,
    };
    json.end()?;
    Ok(values)
}

impl Shape {
    /// Whether `null` is a value of it: then an option of it needs another form.
    pub(super) const fn is_nullable(&self) -> bool {
        matches!(self, Self::Option(_))
    }

    /// Whether it may be written as an object that has this key.
    fn has_key(&self, key: &str) -> bool {
        match self {
            Self::Record(names, _) | Self::Variant(names, _) => names.position(key).is_some(),
            Self::Result(..) => matches!(key, "ok" | "err"),
            Self::Option(value) if value.is_nullable() => key == "some",
            Self::Option(value) => value.has_key(key),
            _ => false,
        }
    }
}

/// The first key, if the text is an object.
fn first_key(text: &[u8]) -> Option<String> {
    struct First<'k>(&'k mut Option<String>);
    impl<'de> Visitor<'de> for First<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            *self.0 = map.next_key()?;
            // Nothing behind the key is looked at.
            Err(A::Error::custom("enough"))
        }
    }
    if text.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let mut key = None;
    // What is wrong is found when the text is read for its values.
    let _ = serde_json::Deserializer::from_slice(text).deserialize_any(First(&mut key));
    key
}

/// The parameters by name.
struct Params<'p, 's> {
    names: &'s Names,
    shapes: &'s [Shape],
    place: &'p Place<'s>,
}

impl<'de> Visitor<'de> for Params<'_, '_> {
    type Value = Vec<Val>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", self.names.list())
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<Val>, E> {
        match self.shapes {
            [] => Ok(Vec::new()),
            _ => Err(self.place.fail_at(Step::Field(self.names.get(0)), "missing")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Val>, A::Error> {
        fields("parameter", self.names, self.shapes, self.place, map)
    }
}

/// A value of a type.
#[derive(Clone, Copy)]
struct Of<'p, 's> {
    shape: &'s Shape,
    place: &'p Place<'s>,
}

impl Of<'_, '_> {
    fn unexpected<E: Error>(&self, found: &str) -> E {
        self.place.unexpected(&self.shape.expected(), found)
    }

    fn integer<E: Error>(&self, number: i128) -> Result<Val, E> {
        let Shape::Plain(kind) = self.shape else { return Err(self.unexpected(&number.to_string())) };
        let value = match kind {
            ValueKind::S8 => number.try_into().ok().map(Val::S8),
            ValueKind::U8 => number.try_into().ok().map(Val::U8),
            ValueKind::S16 => number.try_into().ok().map(Val::S16),
            ValueKind::U16 => number.try_into().ok().map(Val::U16),
            ValueKind::S32 => number.try_into().ok().map(Val::S32),
            ValueKind::U32 => number.try_into().ok().map(Val::U32),
            ValueKind::S64 => number.try_into().ok().map(Val::S64),
            ValueKind::U64 => number.try_into().ok().map(Val::U64),
            // An integer of 64 bits is not too large for either.
            ValueKind::F32 => Some(Val::Float32(number as f32)),
            ValueKind::F64 => Some(Val::Float64(number as f64)),
            _ => None,
        };
        value.ok_or_else(|| self.unexpected(&number.to_string()))
    }
}

impl<'de> DeserializeSeed<'de> for Of<'_, '_> {
    type Value = Val;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Val, D::Error> {
        self.place.charge(1, 0)?;
        match self.shape {
            Shape::Option(_) => deserializer.deserialize_option(self),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Of<'_, '_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape.expected())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Val, E> {
        match self.shape {
            Shape::Plain(ValueKind::Bool) => Ok(Val::Bool(truth)),
            _ => Err(self.unexpected(if truth { "true" } else { "false" })),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Val, E> {
        self.integer(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Val, E> {
        self.integer(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Val, E> {
        match self.shape {
            Shape::Plain(ValueKind::F64) => Ok(Val::Float64(number)),
            Shape::Plain(ValueKind::F32) if (number as f32).is_finite() => Ok(Val::Float32(number as f32)),
            _ => Err(self.unexpected(&format!("{number:?}"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Val, E> {
        let Self { shape, place } = self;
        let special = || match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        let value = match shape {
            Shape::Plain(ValueKind::String) => {
                place.charge(0, text.len())?;
                Some(Val::String(text.into()))
            }
            Shape::Plain(ValueKind::Char) => {
                let mut chars = text.chars();
                chars.next().filter(|_| chars.next().is_none()).map(Val::Char)
            }
            Shape::Plain(ValueKind::F32) => special().map(|number| Val::Float32(number as f32)),
            Shape::Plain(ValueKind::F64) => special().map(Val::Float64),
            Shape::Bytes => {
                place.charge(text.len() / 4 * 3, text.len())?;
                let bytes = STANDARD.decode(text);
                let bytes = bytes.map_err(|error| place.fail(format!("expected base64: {error}")))?;
                Some(Val::List(bytes.into_iter().map(Val::U8).collect()))
            }
            Shape::Enum(cases) => {
                cases.position(text).ok_or_else(|| place.unknown("case", text, cases))?;
                place.charge(0, text.len())?;
                Some(Val::Enum(text.into()))
            }
            Shape::Variant(cases, values) => {
                let at = cases.position(text).ok_or_else(|| place.unknown("case", text, cases))?;
                if values[at].is_some() {
                    return Err(place.fail_at(Step::Field(cases.get(at)), "the case needs a value"));
                }
                place.charge(0, text.len())?;
                Some(Val::Variant(text.into(), None))
            }
            _ => None,
        };
        value.ok_or_else(|| self.unexpected(&quoted(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<Val, E> {
        match self.shape {
            Shape::Option(_) => Ok(Val::Option(None)),
            _ => Err(self.unexpected("null")),
        }
    }

    fn visit_none<E: Error>(self) -> Result<Val, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Val, D::Error> {
        let Shape::Option(shape) = self.shape else { return Err(self.unexpected("a value")) };
        if shape.is_nullable() {
            return deserializer.deserialize_any(self);
        }
        let value = Of { shape, place: self.place }.deserialize(deserializer)?;
        Ok(Val::Option(Some(Box::new(value))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Val, A::Error> {
        let Self { shape, place } = self;
        match shape {
            Shape::List(element) => elements(element, place, seq).map(Val::List),
            Shape::Bytes => elements(&U8, place, seq).map(Val::List),
            Shape::Tuple(parts) => {
                let mut values = Vec::with_capacity(parts.len());
                for (at, shape) in parts.iter().enumerate() {
                    match place.at(Step::Index(at), || seq.next_element_seed(Of { shape, place }))? {
                        Some(value) => values.push(value),
                        None => return Err(place.fail_at(Step::Index(at), "missing")),
                    }
                }
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(Val::Tuple(values)),
                    Some(_) => Err(self.unexpected("more")),
                }
            }
            Shape::Flags(flags) => {
                let mut set = vec![false; flags.len()];
                while let Some(at) = seq.next_element_seed(Name { what: "flag", names: flags, place })? {
                    set[at] = true;
                }
                let set = flags.iter().zip(set).filter(|(_, is_set)| *is_set).map(|(name, _)| name.to_owned());
                let set: Vec<_> = set.collect();
                place.charge(set.len(), set.iter().map(String::len).sum())?;
                Ok(Val::Flags(set))
            }
            _ => Err(self.unexpected("an array")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Val, A::Error> {
        let Self { shape, place } = self;
        let value = match shape {
            Shape::Record(names, shapes) => {
                let values = fields("field", names, shapes, place, map)?;
                let named = names.iter().zip(values).map(|(name, value)| (name.to_owned(), value));
                return Ok(Val::Record(named.collect()));
            }
            Shape::Variant(cases, values) => {
                let at = map.next_key_seed(Name { what: "case", names: cases, place })?;
                let at = at.ok_or_else(|| self.unexpected::<A::Error>("an empty object"))?;
                let case = cases.get(at);
                let Some(shape) = &values[at] else {
                    return Err(place.fail_at(Step::Field(case), "the case has no value; it is written as a string"));
                };
                place.charge(0, case.len())?;
                let value = place.at(Step::Field(case), || map.next_value_seed(Of { shape, place }))?;
                Val::Variant(case.to_owned(), Some(Box::new(value)))
            }
            Shape::Result(ok, err) => match map.next_key::<String>()?.as_deref() {
                Some("ok") => Val::Result(Ok(self.part("ok", ok.as_deref(), &mut map)?)),
                Some("err") => Val::Result(Err(self.part("err", err.as_deref(), &mut map)?)),
                other => return Err(self.unexpected(&other.map_or_else(|| "an empty object".into(), quoted))),
            },
            Shape::Option(shape) if shape.is_nullable() => match map.next_key::<String>()?.as_deref() {
                Some("some") => Val::Option(self.part("some", Some(shape), &mut map)?),
                other => return Err(self.unexpected(&other.map_or_else(|| "an empty object".into(), quoted))),
            },
            _ => return Err(self.unexpected("an object")),
        };
        match map.next_key::<String>()? {
            None => Ok(value),
            Some(more) => Err(self.unexpected(&format!("more: {}", quoted(&more)))),
        }
    }
}

impl<'s> Of<'_, 's> {
    /// The value of a key of a result or an option.
    fn part<'de, A: MapAccess<'de>>(
        &self,
        key: &'static str,
        shape: Option<&'s Shape>,
        map: &mut A,
    ) -> Result<Option<Box<Val>>, A::Error> {
        let place = self.place;
        place.at(Step::Field(key), || match shape {
            Some(shape) => map.next_value_seed(Of { shape, place }).map(|value| Some(Box::new(value))),
            None => map.next_value::<()>().map(|()| None).map_err(|_| place.fail("expected null")),
        })
    }
}

fn elements<'de, 's, A: SeqAccess<'de>>(shape: &'s Shape, place: &Place<'s>, mut seq: A) -> Result<Vec<Val>, A::Error> {
    let mut values = Vec::new();
    while let Some(value) = place.at(Step::Index(values.len()), || seq.next_element_seed(Of { shape, place }))? {
        values.push(value);
    }
    Ok(values)
}

/// The values of an object that has all names and no others, in the order of the names.
fn fields<'de, 's, A: MapAccess<'de>>(
    what: &'static str,
    names: &'s Names,
    shapes: &'s [Shape],
    place: &Place<'s>,
    mut map: A,
) -> Result<Vec<Val>, A::Error> {
    place.charge(names.len(), names.bytes())?;
    let mut values = vec![None; shapes.len()];
    while let Some(at) = map.next_key_seed(Name { what, names, place })? {
        let name = Step::Field(names.get(at));
        if values[at].is_some() {
            return Err(place.fail_at(name, "given twice"));
        }
        values[at] = Some(place.at(name, || map.next_value_seed(Of { shape: &shapes[at], place }))?);
    }
    let missing = |name| place.fail_at(Step::Field(name), "missing");
    names.iter().zip(values).map(|(name, value)| value.ok_or_else(|| missing(name))).collect()
}

/// One of some names, as its position.
struct Name<'p, 's> {
    what: &'static str,
    names: &'s Names,
    place: &'p Place<'s>,
}

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string: one of {}", self.names.list())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<usize, E> {
        let at = self.names.position(text);
        at.ok_or_else(|| self.place.unknown(self.what, text, self.names))
    }
}
