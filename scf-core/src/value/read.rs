//! Values from whatever serde reads, nesting no deeper than a stack can bear.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, EnumAccess, Error, SeqAccess, VariantAccess, Visitor},
};

use super::{Value, ValueKind};

/// How deep values nest at most.
const DEPTH: u8 = 64;

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(DEPTH).deserialize(deserializer)
    }
}

/// Reads a value that may nest so deep.
#[derive(Clone, Copy)]
struct Nested(u8);

impl Nested {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let left = self.0.checked_sub(1);
        left.map(Self).ok_or_else(|| E::custom(format_args!("a value nests deeper than {DEPTH}")))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_enum("Value", &ValueKind::NAMES, self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (kind, content) = data.variant::<ValueKind>()?;
        let inner = self.inner()?;
        Ok(match kind {
            ValueKind::Bool => Value::Bool(content.newtype_variant()?),
            ValueKind::S8 => Value::S8(content.newtype_variant()?),
            ValueKind::U8 => Value::U8(content.newtype_variant()?),
            ValueKind::S16 => Value::S16(content.newtype_variant()?),
            ValueKind::U16 => Value::U16(content.newtype_variant()?),
            ValueKind::S32 => Value::S32(content.newtype_variant()?),
            ValueKind::U32 => Value::U32(content.newtype_variant()?),
            ValueKind::S64 => Value::S64(content.newtype_variant()?),
            ValueKind::U64 => Value::U64(content.newtype_variant()?),
            ValueKind::F32 => Value::F32(content.newtype_variant()?),
            ValueKind::F64 => Value::F64(content.newtype_variant()?),
            ValueKind::Char => Value::Char(content.newtype_variant()?),
            ValueKind::String => Value::String(content.newtype_variant()?),
            ValueKind::Bytes => Value::Bytes(content.newtype_variant()?),
            ValueKind::List => Value::List(content.newtype_variant_seed(Each(inner))?),
            ValueKind::Record => Value::Record(content.newtype_variant_seed(Each(Named(inner)))?),
            ValueKind::Tuple => Value::Tuple(content.newtype_variant_seed(Each(inner))?),
            ValueKind::Variant => {
                let (case, value) = content.tuple_variant(2, Pair(Text, Maybe(inner)))?;
                Value::Variant(case, value)
            }
            ValueKind::Enum => Value::Enum(content.newtype_variant()?),
            ValueKind::Option => Value::Option(content.newtype_variant_seed(Maybe(inner))?),
            ValueKind::Result => Value::Result(content.newtype_variant_seed(Outcome(inner))?),
            ValueKind::Flags => Value::Flags(content.newtype_variant()?),
        })
    }
}

/// A string.
#[derive(Clone, Copy)]
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

/// A field of a record.
#[derive(Clone, Copy)]
struct Named(Nested);

impl<'de> DeserializeSeed<'de> for Named {
    type Value = (String, Value);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_tuple(2, Pair(Text, self.0))
    }
}

/// Two things of which each is read by its own seed.
struct Pair<A, B>(A, B);

impl<'de, A: DeserializeSeed<'de>, B: DeserializeSeed<'de>> Visitor<'de> for Pair<A, B> {
    type Value = (A::Value, B::Value);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name and a value")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let missing = |at| S::Error::invalid_length(at, &"two elements");
        let first = seq.next_element_seed(self.0)?.ok_or_else(|| missing(0))?;
        let second = seq.next_element_seed(self.1)?.ok_or_else(|| missing(1))?;
        Ok((first, second))
    }
}

/// A list of what a seed reads.
struct Each<S>(S);

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Each<S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for Each<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // Grows as elements come: a length alone reserves nothing.
        let mut all = Vec::new();
        while let Some(next) = seq.next_element_seed(self.0)? {
            all.push(next);
        }
        Ok(all)
    }
}

/// A value or none.
struct Maybe(Nested);

impl<'de> DeserializeSeed<'de> for Maybe {
    type Value = Option<Box<Value>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Maybe {
    type Value = Option<Box<Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or none")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(|value| Some(Box::new(value)))
    }
}

/// What a `result` has.
struct Outcome(Nested);

/// How serde writes a [`Result`].
#[derive(Deserialize)]
enum OkOrErr {
    Ok,
    Err,
}

impl<'de> DeserializeSeed<'de> for Outcome {
    type Value = Result<Option<Box<Value>>, Option<Box<Value>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_enum("Result", &["Ok", "Err"], self)
    }
}

impl<'de> Visitor<'de> for Outcome {
    type Value = Result<Option<Box<Value>>, Option<Box<Value>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ok or Err")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        let (which, content) = data.variant::<OkOrErr>()?;
        let value = content.newtype_variant_seed(Maybe(self.0))?;
        Ok(match which {
            OkOrErr::Ok => Ok(value),
            OkOrErr::Err => Err(value),
        })
    }
}
