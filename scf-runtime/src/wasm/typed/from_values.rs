//! [`Value`](scf_core::Value)s in postcard as the engine's values, without an intermediate, led by the type.

use std::fmt;

use scf_core::ValueKind;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, EnumAccess, Error, SeqAccess, VariantAccess, Visitor},
};
use wasmtime::component::Val;

use super::{
    place::{Place, Step},
    shape::{Names, Shape},
};

static U8: Shape = Shape::Plain(ValueKind::U8);

/// Reads a list of as many values as there are parameters.
pub(super) fn read<'s>(
    names: &'s Names,
    shapes: &'s [Shape],
    bytes: &[u8],
    place: &Place<'s>,
) -> Result<Vec<Val>, postcard::Error> {
    let mut postcard = postcard::Deserializer::from_bytes(bytes);
    let values = Params { names, shapes, place }.deserialize(&mut postcard)?;
    match postcard.finalize()? {
        [] => Ok(values),
        _ => Err(place.fail("there is more behind the values")),
    }
}

#[derive(Clone, Copy)]
struct Params<'p, 's> {
    names: &'s Names,
    shapes: &'s [Shape],
    place: &'p Place<'s>,
}

impl<'de> DeserializeSeed<'de> for Params<'_, '_> {
    type Value = Vec<Val>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Val>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Params<'_, '_> {
    type Value = Vec<Val>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Val>, A::Error> {
        let Self { names, shapes, place } = self;
        let given = seq.size_hint().unwrap_or(shapes.len());
        if given != shapes.len() {
            return Err(place.fail(format!("expected {} values, found {given}", shapes.len())));
        }
        let mut values = Vec::with_capacity(shapes.len());
        for (name, shape) in names.iter().zip(shapes) {
            values.extend(place.at(Step::Field(name), || seq.next_element_seed(Of { shape, place }))?);
        }
        Ok(values)
    }
}

/// A value of a type.
#[derive(Clone, Copy)]
struct Of<'p, 's> {
    shape: &'s Shape,
    place: &'p Place<'s>,
}

impl<'de> DeserializeSeed<'de> for Of<'_, '_> {
    type Value = Val;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Val, D::Error> {
        self.place.charge(1, 0)?;
        deserializer.deserialize_enum("Value", &ValueKind::NAMES, self)
    }
}

impl<'de> Visitor<'de> for Of<'_, '_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape.expected())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Val, A::Error> {
        let Self { shape, place } = self;
        let (kind, content) = data.variant::<ValueKind>()?;
        Ok(match (shape, kind) {
            (Shape::Plain(wanted), found) if *wanted == found => match found {
                ValueKind::Bool => Val::Bool(content.newtype_variant()?),
                ValueKind::S8 => Val::S8(content.newtype_variant()?),
                ValueKind::U8 => Val::U8(content.newtype_variant()?),
                ValueKind::S16 => Val::S16(content.newtype_variant()?),
                ValueKind::U16 => Val::U16(content.newtype_variant()?),
                ValueKind::S32 => Val::S32(content.newtype_variant()?),
                ValueKind::U32 => Val::U32(content.newtype_variant()?),
                ValueKind::S64 => Val::S64(content.newtype_variant()?),
                ValueKind::U64 => Val::U64(content.newtype_variant()?),
                ValueKind::F32 => Val::Float32(content.newtype_variant()?),
                ValueKind::F64 => Val::Float64(content.newtype_variant()?),
                ValueKind::Char => Val::Char(content.newtype_variant()?),
                _ => {
                    let text: &str = content.newtype_variant()?;
                    place.charge(0, text.len())?;
                    Val::String(text.to_owned())
                }
            },
            (Shape::Bytes, ValueKind::Bytes) => {
                let bytes: &[u8] = content.newtype_variant()?;
                place.charge(bytes.len(), 0)?;
                Val::List(bytes.iter().copied().map(Val::U8).collect())
            }
            (Shape::Bytes, ValueKind::List) => Val::List(content.newtype_variant_seed(Each { shape: &U8, place })?),
            (Shape::List(shape), ValueKind::List) => Val::List(content.newtype_variant_seed(Each { shape, place })?),
            (Shape::Record(names, shapes), ValueKind::Record) => {
                Val::Record(content.newtype_variant_seed(Fields { names, shapes, place })?)
            }
            (Shape::Tuple(shapes), ValueKind::Tuple) => {
                Val::Tuple(content.newtype_variant_seed(Parts { shapes, place })?)
            }
            (Shape::Variant(names, shapes), ValueKind::Variant) => {
                content.tuple_variant(2, Case { names, shapes, place })?
            }
            (Shape::Enum(names), ValueKind::Enum) => {
                let case: &str = content.newtype_variant()?;
                names.position(case).ok_or_else(|| place.unknown("case", case, names))?;
                place.charge(0, case.len())?;
                Val::Enum(case.to_owned())
            }
            (Shape::Option(shape), ValueKind::Option) => {
                Val::Option(content.newtype_variant_seed(Maybe { shape: Some(shape), place })?)
            }
            (Shape::Result(ok, err), ValueKind::Result) => {
                Val::Result(content.newtype_variant_seed(Outcome { ok: ok.as_deref(), err: err.as_deref(), place })?)
            }
            (Shape::Flags(names), ValueKind::Flags) => {
                let mut set = vec![false; names.len()];
                for name in content.newtype_variant::<Vec<&str>>()? {
                    set[names.position(name).ok_or_else(|| place.unknown("flag", name, names))?] = true;
                }
                let set = names.iter().zip(set).filter(|(_, is_set)| *is_set).map(|(name, _)| name.to_owned());
                let set: Vec<_> = set.collect();
                place.charge(set.len(), set.iter().map(String::len).sum())?;
                Val::Flags(set)
            }
            (shape, found) => return Err(place.unexpected(&shape.expected(), found.as_str())),
        })
    }
}

#[derive(Clone, Copy)]
struct Each<'p, 's> {
    shape: &'s Shape,
    place: &'p Place<'s>,
}

impl<'de> DeserializeSeed<'de> for Each<'_, '_> {
    type Value = Vec<Val>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Val>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Each<'_, '_> {
    type Value = Vec<Val>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Val>, A::Error> {
        let Self { shape, place } = self;
        let mut values = Vec::new();
        while let Some(value) = place.at(Step::Index(values.len()), || seq.next_element_seed(Of { shape, place }))? {
            values.push(value);
        }
        Ok(values)
    }
}

#[derive(Clone, Copy)]
struct Parts<'p, 's> {
    shapes: &'s [Shape],
    place: &'p Place<'s>,
}

impl<'de> DeserializeSeed<'de> for Parts<'_, '_> {
    type Value = Vec<Val>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Val>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Parts<'_, '_> {
    type Value = Vec<Val>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tuple")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Val>, A::Error> {
        let Self { shapes, place } = self;
        let given = seq.size_hint().unwrap_or(shapes.len());
        if given != shapes.len() {
            return Err(place.unexpected(&format!("a tuple of {}", shapes.len()), &format!("one of {given}")));
        }
        let mut values = Vec::with_capacity(shapes.len());
        for (at, shape) in shapes.iter().enumerate() {
            values.extend(place.at(Step::Index(at), || seq.next_element_seed(Of { shape, place }))?);
        }
        Ok(values)
    }
}

#[derive(Clone, Copy)]
struct Fields<'p, 's> {
    names: &'s Names,
    shapes: &'s [Shape],
    place: &'p Place<'s>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_, '_> {
    type Value = Vec<(String, Val)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = Vec<(String, Val)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fields")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Self { names, shapes, place } = self;
        place.charge(names.len(), names.bytes())?;
        let mut values = vec![None; shapes.len()];
        while let Some((at, value)) = seq.next_element_seed(Field(self))? {
            let name = Step::Field(names.get(at));
            if values[at].replace(value).is_some() {
                return Err(place.fail_at(name, "given twice"));
            }
        }
        let missing = |name| place.fail_at(Step::Field(name), "missing");
        let named = names.iter().zip(values);
        named.map(|(name, value)| Ok((name.to_owned(), value.ok_or_else(|| missing(name))?))).collect()
    }
}

struct Field<'p, 's>(Fields<'p, 's>);

impl<'de> DeserializeSeed<'de> for Field<'_, '_> {
    type Value = (usize, Val);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_tuple(2, self)
    }
}

impl<'de> Visitor<'de> for Field<'_, '_> {
    type Value = (usize, Val);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field and its value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Fields { names, shapes, place } = self.0;
        let name: &str = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let at = names.position(name).ok_or_else(|| place.unknown("field", name, names))?;
        let read = || seq.next_element_seed(Of { shape: &shapes[at], place });
        let value = place.at(Step::Field(names.get(at)), read)?;
        Ok((at, value.ok_or_else(|| A::Error::invalid_length(1, &self))?))
    }
}

struct Case<'p, 's> {
    names: &'s Names,
    shapes: &'s [Option<Shape>],
    place: &'p Place<'s>,
}

impl<'de> Visitor<'de> for Case<'_, '_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a case")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Val, A::Error> {
        let Self { names, shapes, place } = self;
        let name: &str = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let at = names.position(name).ok_or_else(|| place.unknown("case", name, names))?;
        place.charge(0, name.len())?;
        let value = place
            .at(Step::Field(names.get(at)), || seq.next_element_seed(Maybe { shape: shapes[at].as_ref(), place }))?;
        match (value.flatten(), &shapes[at]) {
            (None, Some(_)) => Err(place.fail_at(Step::Field(names.get(at)), "the case needs a value")),
            (value, _) => Ok(Val::Variant(name.to_owned(), value)),
        }
    }
}

/// A value or none; always none where there is no type.
struct Maybe<'p, 's> {
    shape: Option<&'s Shape>,
    place: &'p Place<'s>,
}

impl<'de> DeserializeSeed<'de> for Maybe<'_, '_> {
    type Value = Option<Box<Val>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Maybe<'_, '_> {
    type Value = Option<Box<Val>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or none")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Self { shape, place } = self;
        let Some(shape) = shape else { return Err(place.fail("has no value")) };
        Of { shape, place }.deserialize(deserializer).map(|value| Some(Box::new(value)))
    }
}

struct Outcome<'p, 's> {
    ok: Option<&'s Shape>,
    err: Option<&'s Shape>,
    place: &'p Place<'s>,
}

/// How serde writes a [`Result`].
#[derive(Deserialize)]
enum Which {
    Ok,
    Err,
}

impl<'de> DeserializeSeed<'de> for Outcome<'_, '_> {
    type Value = Result<Option<Box<Val>>, Option<Box<Val>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_enum("Result", &["Ok", "Err"], self)
    }
}

impl<'de> Visitor<'de> for Outcome<'_, '_> {
    type Value = Result<Option<Box<Val>>, Option<Box<Val>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ok or err")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        let place = self.place;
        let (which, content) = data.variant::<Which>()?;
        let (key, shape) = match which {
            Which::Ok => ("ok", self.ok),
            Which::Err => ("err", self.err),
        };
        let value = place.at(Step::Field(key), || {
            let value = content.newtype_variant_seed(Maybe { shape, place })?;
            if value.is_none() && shape.is_some() { Err(place.fail("needs a value")) } else { Ok(value) }
        })?;
        Ok(match which {
            Which::Ok => Ok(value),
            Which::Err => Err(value),
        })
    }
}
