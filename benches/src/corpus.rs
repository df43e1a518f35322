//! Pages like those of a running machine: every other one does not compress, the rest is like text. The same in
//! every run, so that figures of two versions compare.

use novacron_protocol::pages::{BATCH_PAGES_MAX, PAGE_BYTES};

/// What the text-like pages are made of.
const WORDS: [&str; 16] = [
    "the ", "page ", "of ", "a ", "kernel ", "struct ", "buffer ", "= ", "0x0000 ", "return ",
    "if ", "inode ", "socket ", "\n", "lock ", "task ",
];

/// Bytes of so many pages.
pub fn pages(count: usize) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(count * PAGE_BYTES);
    for number in 0..count {
        let end = bytes.len() + PAGE_BYTES;
        if number % 2 == 0 {
            fill_text(&mut bytes, end, &mut random);
        } else {
            fill_random(&mut bytes, end, &mut random);
        }
    }
    bytes
}

/// The same, cut into the payloads of whole batches.
pub fn batches(count: usize) -> Vec<Vec<u8>> {
    let bytes = pages(count * BATCH_PAGES_MAX);
    bytes.chunks(BATCH_PAGES_MAX * PAGE_BYTES).map(<[u8]>::to_vec).collect()
}

fn fill_text(bytes: &mut Vec<u8>, end: usize, random: &mut Random) {
    while bytes.len() < end {
        let choice = (random.next() >> 60) as usize;
        bytes.extend_from_slice(WORDS[choice].as_bytes());
    }
    bytes.truncate(end);
}

fn fill_random(bytes: &mut Vec<u8>, end: usize, random: &mut Random) {
    while bytes.len() < end {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(end);
}

/// xorshift64* (Vigna 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_is_whole_pages_and_always_the_same() {
        let bytes = pages(7);
        assert_eq!(bytes.len(), 7 * PAGE_BYTES);
        assert_eq!(bytes, pages(7));
    }

    #[test]
    fn half_of_the_pages_are_text() {
        let is_text = |page: &[u8]| page.iter().all(u8::is_ascii);
        let found: Vec<bool> = pages(4).chunks(PAGE_BYTES).map(is_text).collect();
        assert_eq!(found, [true, false, true, false]);
    }

    #[test]
    fn batches_are_full() {
        let batches = batches(3);
        assert_eq!(batches.len(), 3);
        assert!(batches.iter().all(|batch| batch.len() == BATCH_PAGES_MAX * PAGE_BYTES));
    }
}
