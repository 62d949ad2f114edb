//! Values of WIT types, as typed functions take and give them.

mod read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A value of a WIT type.
///
/// Which function takes which value is known to the node that runs it: a value that does not fit is refused there,
/// with the path of the field. Travels as `application/vnd.scf.values`
/// ([`MediaType::VALUES`](crate::MediaType::VALUES)): a list of values in postcard, one per parameter; a result is a
/// list of one value, or of none.
///
/// ```
/// use scf_core::Value;
///
/// let size = Value::record([("width", Value::from(640u32)), ("height", Value::from(480u32))]);
/// assert_eq!(size.field("width"), Some(&Value::U32(640)));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::exhaustive_enums, reason = "the types of WIT; a caller must see all of them")]
pub enum Value {
    /// `bool`.
    Bool(bool),
    /// `s8`.
    S8(i8),
    /// `u8`.
    U8(u8),
    /// `s16`.
    S16(i16),
    /// `u16`.
    U16(u16),
    /// `s32`.
    S32(i32),
    /// `u32`.
    U32(u32),
    /// `s64`.
    S64(i64),
    /// `u64`.
    U64(u64),
    /// `f32`.
    F32(f32),
    /// `f64`.
    F64(f64),
    /// `char`.
    Char(char),
    /// `string`.
    String(String),
    /// `list<u8>`.
    Bytes(Bytes),
    /// `list` of anything; of `u8` it does as well as [`Value::Bytes`].
    List(Vec<Self>),
    /// `record`: the fields by name, in any order.
    Record(Vec<(String, Self)>),
    /// `tuple`.
    Tuple(Vec<Self>),
    /// `variant`: the case by name, and what it has.
    Variant(String, Option<Box<Self>>),
    /// `enum`: the case by name.
    Enum(String),
    /// `option`.
    Option(Option<Box<Self>>),
    /// `result`.
    Result(Result<Option<Box<Self>>, Option<Box<Self>>>),
    /// `flags`: those that are set, by name.
    Flags(Vec<String>),
}

/// The kinds of [`Value`], in their order; the position is what a value begins with when it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "as the values")]
pub enum ValueKind {
    /// [`Value::Bool`].
    Bool,
    /// [`Value::S8`].
    S8,
    /// [`Value::U8`].
    U8,
    /// [`Value::S16`].
    S16,
    /// [`Value::U16`].
    U16,
    /// [`Value::S32`].
    S32,
    /// [`Value::U32`].
    U32,
    /// [`Value::S64`].
    S64,
    /// [`Value::U64`].
    U64,
    /// [`Value::F32`].
    F32,
    /// [`Value::F64`].
    F64,
    /// [`Value::Char`].
    Char,
    /// [`Value::String`].
    String,
    /// [`Value::Bytes`].
    Bytes,
    /// [`Value::List`].
    List,
    /// [`Value::Record`].
    Record,
    /// [`Value::Tuple`].
    Tuple,
    /// [`Value::Variant`].
    Variant,
    /// [`Value::Enum`].
    Enum,
    /// [`Value::Option`].
    Option,
    /// [`Value::Result`].
    Result,
    /// [`Value::Flags`].
    Flags,
}

impl ValueKind {
    /// The names, in their order, as serde names the variants of [`Value`].
    pub const NAMES: [&str; 22] = [
        "Bool", "S8", "U8", "S16", "U16", "S32", "U32", "S64", "U64", "F32", "F64", "Char", "String", "Bytes", "List",
        "Record", "Tuple", "Variant", "Enum", "Option", "Result", "Flags",
    ];

    /// The kind as WIT names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::S8 => "s8",
            Self::U8 => "u8",
            Self::S16 => "s16",
            Self::U16 => "u16",
            Self::S32 => "s32",
            Self::U32 => "u32",
            Self::S64 => "s64",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Char => "char",
            Self::String => "string",
            Self::Bytes => "list<u8>",
            Self::List => "list",
            Self::Record => "record",
            Self::Tuple => "tuple",
            Self::Variant => "variant",
            Self::Enum => "enum",
            Self::Option => "option",
            Self::Result => "result",
            Self::Flags => "flags",
        }
    }
}

impl Value {
    /// A record of named fields.
    pub fn record<N: Into<String>>(fields: impl IntoIterator<Item = (N, Self)>) -> Self {
        Self::Record(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// An option that has `value`.
    #[must_use]
    pub fn some(value: impl Into<Self>) -> Self {
        Self::Option(Some(Box::new(value.into())))
    }

    /// An option without a value.
    #[must_use]
    pub const fn none() -> Self {
        Self::Option(None)
    }

    /// The field of a record; `None` when this is no record or has no such field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Self::Record(fields) = self else { return None };
        fields.iter().find_map(|(field, value)| (field == name).then_some(value))
    }

    /// What kind of value it is.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::Bool(_) => ValueKind::Bool,
            Self::S8(_) => ValueKind::S8,
            Self::U8(_) => ValueKind::U8,
            Self::S16(_) => ValueKind::S16,
            Self::U16(_) => ValueKind::U16,
            Self::S32(_) => ValueKind::S32,
            Self::U32(_) => ValueKind::U32,
            Self::S64(_) => ValueKind::S64,
            Self::U64(_) => ValueKind::U64,
            Self::F32(_) => ValueKind::F32,
            Self::F64(_) => ValueKind::F64,
            Self::Char(_) => ValueKind::Char,
            Self::String(_) => ValueKind::String,
            Self::Bytes(_) => ValueKind::Bytes,
            Self::List(_) => ValueKind::List,
            Self::Record(_) => ValueKind::Record,
            Self::Tuple(_) => ValueKind::Tuple,
            Self::Variant(..) => ValueKind::Variant,
            Self::Enum(_) => ValueKind::Enum,
            Self::Option(_) => ValueKind::Option,
            Self::Result(_) => ValueKind::Result,
            Self::Flags(_) => ValueKind::Flags,
        }
    }
}

macro_rules! from {
    ($($kind:ident($type:ty)),*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$kind(value.into())
            }
        })*
    };
}

from! {
    Bool(bool), S8(i8), U8(u8), S16(i16), U16(u16), S32(i32), U32(u32), S64(i64), U64(u64), F32(f32), F64(f64),
    Char(char), String(String), String(&str), Bytes(Bytes)
}

impl FromIterator<Self> for Value {
    /// A list.
    fn from_iter<I: IntoIterator<Item = Self>>(values: I) -> Self {
        Self::List(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, in their order.
    fn all() -> Vec<Value> {
        vec![
            Value::from(true),
            Value::from(-1i8),
            Value::from(1u8),
            Value::from(-2i16),
            Value::from(2u16),
            Value::from(-3i32),
            Value::from(3u32),
            Value::from(i64::MIN),
            Value::from(u64::MAX),
            Value::from(0.5f32),
            Value::from(-0.25f64),
            Value::from('ß'),
            Value::from("text"),
            Value::from(Bytes::from_static(b"\0\xff")),
            [Value::from(1u32), Value::from(2u32)].into_iter().collect(),
            Value::record([("width", Value::from(4u8)), ("name", Value::none())]),
            Value::Tuple(vec![Value::from(false), Value::some('a')]),
            Value::Variant("circle".into(), Some(Box::new(Value::from(1.5f32)))),
            Value::Enum("red".into()),
            Value::some(Value::none()),
            Value::Result(Err(Some(Box::new(Value::from("no"))))),
            Value::Flags(vec!["read".into(), "write".into()]),
        ]
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let text = serde_json::to_string(&all()).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), all());
    }

    #[test]
    fn a_value_is_written_under_the_name_and_position_of_its_kind() {
        for (position, value) in all().into_iter().enumerate() {
            let written = serde_json::to_value(&value).unwrap();
            let name = written.as_object().unwrap().keys().next().unwrap().clone();
            assert_eq!(ValueKind::NAMES[position], name);
            assert_eq!(value.kind() as usize, position);
            assert_eq!(serde_json::to_value(value.kind()).unwrap(), name);
        }
    }

    #[test]
    fn what_nests_without_end_is_refused_before_the_stack_is_full() {
        let deep = format!("{}null{}", r#"{"Option":"#.repeat(100), "}".repeat(100));
        let error = serde_json::from_str::<Value>(&deep).unwrap_err();
        assert!(error.to_string().starts_with("a value nests deeper than 64"), "{error}");
    }
}
