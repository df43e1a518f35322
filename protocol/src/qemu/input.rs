//! The bounded buffer between a socket and a parser.
//!
//! The shell reads into [`InputBuffer::space`], says how much came, and the parser borrows items
//! from [`InputBuffer::unread`]. Bytes move only when the tail of an unfinished item is carried to
//! the front, so a page is copied once: by the kernel.

use super::item::ITEM_BYTES_MAX;

/// Large enough that the carried tail (at most one item, 64 KiB) is small beside what is read.
pub const INPUT_BYTES: usize = 256 * 1024;

const _: () = assert!(INPUT_BYTES >= 2 * ITEM_BYTES_MAX);

/// See the module.
#[derive(Debug)]
pub struct InputBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for InputBuffer {
    fn default() -> Self {
        Self { bytes: vec![0; INPUT_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl InputBuffer {
    /// An empty buffer of [`INPUT_BYTES`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to read into. Never empty as long as the parser was asked until it wanted more, because
    /// an unfinished item is at most half of the buffer.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// Says that `count` bytes were put at the front of the last [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.end = self.bytes.len().min(self.end.saturating_add(count));
    }

    /// What has not been consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Gives up the first `count` unread bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
    }

    /// Copies as much of `chunk` as fits and returns how much that was. For input that is already
    /// in memory; a socket should read into [`Self::space`].
    pub fn append(&mut self, chunk: &[u8]) -> usize {
        let space = self.space();
        let count = space.len().min(chunk.len());
        space[..count].copy_from_slice(&chunk[..count]);
        self.filled(count);
        count
    }
}
