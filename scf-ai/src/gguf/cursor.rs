//! A place in a file that moves on as fields are read.

/// Reads little-endian fields one after the other and never past the end of the file.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Where something is in the part of a file that describes it: the first 4 GiB.
pub(super) type Offset = u32;

impl<'a> Cursor<'a> {
    /// At a place within the file.
    pub(super) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) fn offset(&self) -> Result<Offset, String> {
        Offset::try_from(self.at).map_err(|_| "is described beyond the first 4 GiB".into())
    }

    pub(super) const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What is left of the file.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("is cut off: {n} bytes where {} are left", self.left()))?;
        Ok(&self.bytes[std::mem::replace(&mut self.at, end)..end])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and as many bytes of UTF-8.
    pub(super) fn text(&mut self, limit: usize) -> Result<&'a str, String> {
        let length = self.u64()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= limit);
        let length = length.ok_or_else(|| format!("has a text longer than {limit} bytes"))?;
        str::from_utf8(self.take(length)?).map_err(|_| "has a text that is no UTF-8".into())
    }
}
