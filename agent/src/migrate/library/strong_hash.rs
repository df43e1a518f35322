//! What a content is known by in a catalogue.

use novacron_protocol::pages::PAGE_BYTES;

/// BLAKE3 of a page under a key that only its catalogue has, cut to 128 bits. Nobody can make two contents with one
/// hash, also a guest that sees how long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StrongHash([u8; 16]);

impl StrongHash {
    /// Of a page.
    pub fn of(key: &[u8; blake3::KEY_LEN], content: &[u8; PAGE_BYTES]) -> Self {
        let hash = blake3::keyed_hash(key, content);
        let (first, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
        Self(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_and_every_byte_matter() {
        let mut page = [7; PAGE_BYTES];
        let hash = StrongHash::of(&[1; 32], &page);
        assert_ne!(hash, StrongHash::of(&[2; 32], &page));
        page[4095] ^= 1;
        assert_ne!(hash, StrongHash::of(&[1; 32], &page));
    }
}
