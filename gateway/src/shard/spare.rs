//! Output buffers that are between two connections.

/// Buffers that wait at the most, and bytes that they may have together and each. Less than a turn needs
/// costs twice: what is freed is given back to the system, and comes back page by page.
const BUFFERS_MAX: usize = 256;
const BYTES_MAX: usize = 32 << 20;
const BYTES_EACH_MAX: usize = 256 << 10;

/// Output buffers that connections have emptied. A connection has one only while it has something
/// to write: it costs nothing while it is idle, and nothing is allocated for what it says next.
#[derive(Debug)]
pub(crate) struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

impl SpareBuffers {
    /// None yet; they may have a quarter of what all output may have.
    pub(crate) fn new(output_bytes_max: usize) -> Self {
        Self { buffers: Vec::new(), bytes: 0, bytes_max: (output_bytes_max / 4).min(BYTES_MAX) }
    }

    /// An empty buffer; the one that was given back last, which the caches may still hold.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let fits = self.buffers.len() < BUFFERS_MAX && self.bytes + bytes <= self.bytes_max;
        if fits && bytes > 0 && bytes <= BYTES_EACH_MAX {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_within_the_bounds() {
        let mut spare = SpareBuffers::new(usize::MAX);
        assert_eq!(spare.take().capacity(), 0);
        spare.give(vec![1; 100]);
        let buffer = spare.take();
        assert!(buffer.is_empty() && buffer.capacity() >= 100);
        spare.give(vec![0; BYTES_EACH_MAX + 1]);
        assert_eq!(spare.take().capacity(), 0, "too large to be kept");
        for _ in 0..BUFFERS_MAX + 1 {
            spare.give(vec![0; 100]);
        }
        assert_eq!(spare.buffers.len(), BUFFERS_MAX);
        let mut spare = SpareBuffers::new(usize::MAX);
        for _ in 0..200 {
            spare.give(vec![0; BYTES_EACH_MAX]);
        }
        assert_eq!(spare.bytes, BYTES_MAX);
    }
}
