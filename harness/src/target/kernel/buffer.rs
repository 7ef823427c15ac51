//! Buffers for direct IO: bytes at an address that every device can take.

use oracle::operation::BLOCK_BYTES;

/// Bytes whose address is a multiple of the page size.
#[derive(Debug, Default)]
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
}

impl AlignedBuffer {
    /// The first `len` bytes; their content is arbitrary.
    pub(super) fn take(&mut self, len: usize) -> &mut [u8] {
        let page = BLOCK_BYTES as usize;
        if self.memory.len() < len + page {
            self.memory.resize(len + page, 0);
        }
        let start = self.memory.as_ptr().align_offset(page);
        &mut self.memory[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_aligned() {
        let mut buffer = AlignedBuffer::default();
        for len in [0, 1, 512, 100_000, 4096] {
            let bytes = buffer.take(len);
            assert_eq!((bytes.len(), bytes.as_ptr() as usize % 4096), (len, 0));
        }
    }
}
