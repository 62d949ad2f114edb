//! WIT types as this crate walks over them: read once when a function is deployed, from what the engine knows of
//! the compiled component, so that it works without a compiler and without WIT text.

use std::fmt::Write;

use scf_core::ValueKind;
use wasmtime::component::types::Type;

/// Deepest nesting of a type.
const DEPTH: u8 = 48;
/// What the spelled-out types of one function may take in memory, in bytes: types share parts, and a few lines of
/// WIT can stand for millions of them.
pub(super) const SPELLED_OUT: usize = 256 << 10;
/// Names that a message lists.
const LISTED: usize = 8;

/// A type, spelled out.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A number, a text, a truth value.
    Plain(ValueKind),
    /// `list<u8>`.
    Bytes,
    List(Box<Self>),
    Record(Names, Box<[Self]>),
    Tuple(Box<[Self]>),
    Variant(Names, Box<[Option<Self>]>),
    Enum(Names),
    Option(Box<Self>),
    Result(Option<Box<Self>>, Option<Box<Self>>),
    Flags(Names),
}

/// The fields of a record, the cases of a variant: in their order, and found by name in logarithmic time.
#[derive(Clone, Debug)]
pub(super) struct Names {
    names: Box<[Box<str>]>,
    sorted: Box<[u32]>,
}

impl Names {
    pub(super) fn new(names: Vec<Box<str>>) -> Self {
        let mut sorted: Box<[u32]> = (0u32..).take(names.len()).collect();
        sorted.sort_unstable_by_key(|&at| &names[at as usize]);
        Self { names: names.into(), sorted }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Bytes of all names together.
    pub(super) fn bytes(&self) -> usize {
        self.names.iter().map(|name| name.len()).sum()
    }

    pub(super) fn get(&self, at: usize) -> &str {
        &self.names[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let found = self.sorted.binary_search_by_key(&name, |&at| &self.names[at as usize]).ok()?;
        Some(self.sorted[found] as usize)
    }

    /// The names, the first few of them, for messages.
    pub(super) fn list(&self) -> String {
        let mut list = self.iter().take(LISTED).collect::<Vec<_>>().join(", ");
        if self.len() > LISTED {
            list.push_str(", …");
        }
        list
    }
}

impl Shape {
    /// What a value has to be, for messages.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Plain(kind) => kind.as_str().into(),
            Self::Bytes => "list<u8>".into(),
            Self::List(element) => format!("list<{}>", element.short()),
            Self::Record(..) => "a record".into(),
            Self::Tuple(parts) => format!("a tuple of {}", parts.len()),
            Self::Variant(cases, _) | Self::Enum(cases) => format!("one of {}", cases.list()),
            Self::Option(value) => format!("option<{}>", value.short()),
            Self::Result(..) => "ok or err".into(),
            Self::Flags(flags) => format!("flags of {}", flags.list()),
        }
    }

    fn short(&self) -> &'static str {
        match self {
            Self::Plain(kind) => kind.as_str(),
            Self::Bytes => "list<u8>",
            Self::List(_) => "list",
            Self::Record(..) => "record",
            Self::Tuple(_) => "tuple",
            Self::Variant(..) => "variant",
            Self::Enum(_) => "enum",
            Self::Option(_) => "option",
            Self::Result(..) => "result",
            Self::Flags(_) => "flags",
        }
    }
}

/// Reads types until what they take in memory is used up.
pub(super) struct Reader {
    left: usize,
}

impl Reader {
    pub(super) const fn new() -> Self {
        Self { left: SPELLED_OUT }
    }

    /// The shape of a type, or what of it cannot be passed from outside: a resource, a stream.
    pub(super) fn read(&mut self, of: &Type) -> Result<Shape, String> {
        self.at(of, DEPTH)
    }

    fn at(&mut self, of: &Type, depth: u8) -> Result<Shape, String> {
        self.charge(size_of::<Shape>())?;
        let Some(depth) = depth.checked_sub(1) else { return Err(format!("its type nests deeper than {DEPTH}")) };
        let plain = |kind| Ok(Shape::Plain(kind));
        let outside = |what: &str| Err(format!("{what} cannot be passed from outside"));
        match of {
            Type::Bool => plain(ValueKind::Bool),
            Type::S8 => plain(ValueKind::S8),
            Type::U8 => plain(ValueKind::U8),
            Type::S16 => plain(ValueKind::S16),
            Type::U16 => plain(ValueKind::U16),
            Type::S32 => plain(ValueKind::S32),
            Type::U32 => plain(ValueKind::U32),
            Type::S64 => plain(ValueKind::S64),
            Type::U64 => plain(ValueKind::U64),
            Type::Float32 => plain(ValueKind::F32),
            Type::Float64 => plain(ValueKind::F64),
            Type::Char => plain(ValueKind::Char),
            Type::String => plain(ValueKind::String),
            Type::List(list) => match list.ty() {
                Type::U8 => Ok(Shape::Bytes),
                element => Ok(Shape::List(Box::new(self.at(&element, depth)?))),
            },
            Type::Record(record) => {
                let names = self.names(record.fields().map(|field| field.name))?;
                let fields = record.fields().map(|field| within(field.name, self.at(&field.ty, depth)));
                Ok(Shape::Record(names, fields.collect::<Result<_, _>>()?))
            }
            Type::Tuple(tuple) => {
                let parts = tuple.types().map(|part| self.at(&part, depth));
                Ok(Shape::Tuple(parts.collect::<Result<_, _>>()?))
            }
            Type::Variant(variant) => {
                let names = self.names(variant.cases().map(|case| case.name))?;
                let cases = variant.cases().map(|case| {
                    self.charge(size_of::<Shape>())?;
                    case.ty.map(|of| within(case.name, self.at(&of, depth))).transpose()
                });
                Ok(Shape::Variant(names, cases.collect::<Result<_, _>>()?))
            }
            Type::Enum(cases) => Ok(Shape::Enum(self.names(cases.names())?)),
            Type::Flags(flags) => Ok(Shape::Flags(self.names(flags.names())?)),
            Type::Option(option) => Ok(Shape::Option(Box::new(self.at(&option.ty(), depth)?))),
            Type::Result(result) => {
                let mut part = |of: Option<Type>| of.map(|of| self.at(&of, depth).map(Box::new)).transpose();
                Ok(Shape::Result(part(result.ok())?, part(result.err())?))
            }
            Type::Own(_) | Type::Borrow(_) => outside("a resource"),
            Type::Future(_) => outside("a future"),
            Type::Stream(_) => outside("a stream"),
            Type::ErrorContext => outside("an error context"),
            Type::Map(_) => outside("a map"),
            Type::FixedLengthList(_) => outside("a list of fixed length"),
        }
    }

    pub(super) fn names<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Result<Names, String> {
        let names = names.map(|name| {
            self.charge(size_of::<Box<str>>() + size_of::<u32>() + name.len())?;
            Ok(name.into())
        });
        Ok(Names::new(names.collect::<Result<_, String>>()?))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| format!("its types take more than {} KiB spelled out", SPELLED_OUT >> 10))?;
        Ok(())
    }
}

/// Puts the field in front of what is wrong in it.
fn within<T>(field: &str, read: Result<T, String>) -> Result<T, String> {
    read.map_err(|problem| {
        let mut path = String::new();
        // Writing to a string does not fail.
        let _ = write!(path, "{field}: {problem}");
        path
    })
}
