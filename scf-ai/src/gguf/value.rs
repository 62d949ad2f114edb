//! Values of metadata.

use super::cursor::Cursor;

/// Longest text in bytes, templates of chats included.
const MAX_TEXT: usize = 1 << 20;

/// A value, its texts and arrays not copied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// Texts of which each was checked.
    Texts(Texts<'a>),
    /// Numbers of 32 bits.
    Words(&'a [[u8; 4]]),
    /// An array of something else, which nothing here asks for.
    Other,
}

/// An array of texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Texts<'a> {
    pub(crate) const fn len(self) -> usize {
        self.count
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut at = Cursor::new(self.bytes, 0);
        (0..self.count).map_while(move |_| at.text(MAX_TEXT).ok())
    }
}

impl<'a> Value<'a> {
    /// Reads a type and a value of it.
    pub(super) fn read(at: &mut Cursor<'a>) -> Result<Self, String> {
        match at.u32()? {
            8 => at.text(MAX_TEXT).map(Self::Text),
            9 => Self::array(at),
            kind => {
                let size = size(kind).ok_or_else(|| format!("is of type {kind}, which there is not"))?;
                number(kind, at.take(size)?)
            }
        }
    }

    fn array(at: &mut Cursor<'a>) -> Result<Self, String> {
        let (kind, count) = (at.u32()?, at.u64()?);
        if kind == 9 {
            return Err("is an array of arrays".into());
        }
        // A text takes at least its length.
        let least =
            size(kind).or_else(|| (kind == 8).then_some(8)).ok_or_else(|| format!("is an array of type {kind}"))?;
        let bytes = usize::try_from(count).ok().and_then(|n| n.checked_mul(least)).filter(|n| *n <= at.left());
        let bytes = bytes.ok_or_else(|| format!("says {count} elements, which do not fit into the file"))?;
        if kind != 8 {
            let elements = at.take(bytes)?;
            return Ok(if least == 4 { Self::Words(elements.as_chunks().0) } else { Self::Other });
        }
        let count = bytes / least;
        let texts = at.rest();
        let before = at.position();
        for _ in 0..count {
            at.text(MAX_TEXT)?;
        }
        Ok(Self::Texts(Texts { bytes: &texts[..at.position() - before], count }))
    }

    pub(crate) fn unsigned(self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => value.try_into().ok(),
            _ => None,
        }
    }

    pub(crate) const fn float(self) -> Option<f64> {
        match self {
            Self::Float(value) if value.is_finite() => Some(value),
            _ => None,
        }
    }

    pub(crate) const fn bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) const fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) const fn texts(self) -> Option<Texts<'a>> {
        match self {
            Self::Texts(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) const fn words(self) -> Option<&'a [[u8; 4]]> {
        match self {
            Self::Words(values) => Some(values),
            _ => None,
        }
    }
}

/// Bytes of a value of the type; `None` where they are not always as many, or there is no such type.
const fn size(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// A number of which `bytes` are those of its type.
fn number<'a>(kind: u32, bytes: &[u8]) -> Result<Value<'a>, String> {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let word = u64::from_le_bytes(wide);
    Ok(match kind {
        0 | 2 | 4 | 10 => Value::Unsigned(word),
        1 => Value::Signed((word as i8).into()),
        3 => Value::Signed((word as i16).into()),
        5 => Value::Signed((word as i32).into()),
        6 => Value::Float(f32::from_bits(word as u32).into()),
        7 if word <= 1 => Value::Bool(word == 1),
        7 => return Err(format!("is {word}, neither true nor false")),
        11 => Value::Signed(word as i64),
        _ => Value::Float(f64::from_bits(word)),
    })
}
