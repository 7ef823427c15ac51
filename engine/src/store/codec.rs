//! Bytes of the medium, little endian, read with bounds checks and written in order.
//!
//! Promises: a read beyond the end is `None`, never a panic. It must never know what the bytes
//! mean.

/// Reads fields in order from a slice.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// The next `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes as a number.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes as a number.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes as a number.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next 16 bytes.
    pub(crate) fn uuid(&mut self) -> Option<[u8; 16]> {
        self.array()
    }

    /// The next 32 bytes.
    pub(crate) fn digest(&mut self) -> Option<[u8; 32]> {
        self.array()
    }

    /// Whether all bytes that were not read are zero.
    pub(crate) fn is_rest_zero(&self) -> bool {
        // As memory, not byte by byte: all are zero if the first is and each is as the one before.
        self.rest
            .split_first()
            .is_none_or(|(first, after)| *first == 0 && *after == self.rest[..after.len()])
    }

    /// Whether every byte was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Writes fields in order into a buffer that is large enough by construction.
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer from the beginning of `bytes`.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Writer { bytes, at: 0 }
    }

    /// Appends bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Appends a byte.
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// Appends two bytes.
    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends four bytes.
    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_no_more() {
        let mut bytes = [0; 15];
        let mut writer = Writer::new(&mut bytes);
        writer.u8(1);
        writer.u16(0x0203);
        writer.u32(4);
        writer.u64(5);
        let mut reader = Reader::new(&bytes);
        let read = (reader.u8(), reader.u16(), reader.u32(), reader.u64());
        assert_eq!(read, (Some(1), Some(0x0203), Some(4), Some(5)));
        assert!(reader.is_at_end());
        assert_eq!((reader.u8(), reader.digest(), reader.bytes(1)), (None, None, None));
        assert_eq!(bytes[1..3], [3, 2], "little endian");
    }
}
