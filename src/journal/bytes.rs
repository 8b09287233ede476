//! Little-endian reading and writing of the journal's own formats. Reading never panics, whatever the
//! bytes are.

use bytes::Bytes;

/// Bytes that are no value of ours: which part was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be read")]
pub struct Unreadable(pub &'static str);

/// Appends values to a buffer.
pub trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_raw(&mut self, value: &[u8]);

    /// Length as u32, then the bytes.
    fn put_bytes(&mut self, value: &[u8]) {
        // Commits are far below 4 GiB (`COMMIT_BYTES_MAX`), and so is every part of one.
        self.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.put_raw(value);
    }

    fn put_str(&mut self, value: &str) {
        self.put_bytes(value.as_bytes());
    }

    /// 0, or 1 and the text.
    fn put_optional(&mut self, value: Option<&str>) {
        match value {
            None => self.put_u8(0),
            Some(text) => {
                self.put_u8(1);
                self.put_str(text);
            }
        }
    }
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_raw(&mut self, value: &[u8]) {
        self.extend_from_slice(value);
    }
}

/// Takes values off the front of a slice.
pub struct Take<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Take<'a> {
    /// Reads `bytes`, which are a `what`.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Unreadable(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let mut value = [0; N];
        value.copy_from_slice(self.raw(N)?);
        Ok(value)
    }

    pub fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    pub fn u16(&mut self) -> Result<u16, Unreadable> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub fn u64(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length followed by that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = self.u32()? as usize;
        self.raw(len)
    }

    pub fn owned(&mut self) -> Result<Bytes, Unreadable> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    pub fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable(self.what))
    }

    pub fn optional(&mut self) -> Result<Option<&'a str>, Unreadable> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            _ => Err(Unreadable(self.what)),
        }
    }

    /// A count of things that take at least `each` bytes, so that a wrong count cannot make us reserve
    /// more than the bytes at hand.
    pub fn count(&mut self, each: usize) -> Result<usize, Unreadable> {
        let count = self.u32()? as usize;
        if count.saturating_mul(each) > self.rest.len() { Err(Unreadable(self.what)) } else { Ok(count) }
    }

    /// Refuses bytes left over.
    pub fn end(self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable(self.what)) }
    }
}
