//! The content hash of a page: xxh3-128 under a secret drawn for each migration.
//!
//! It decides that a page need not be sent again, so two contents with one hash would be a silent
//! fault: 2⁻¹²⁸ for each pair by chance. The secret keeps a guest from choosing pages that collide.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_secret};

use super::{PAGE_BYTES, Page};

/// xxh3 wants at least 136 bytes; this is its own default length.
pub(crate) const SECRET_BYTES: usize = 192;

/// What a page holds, as 128 bits. Comparable only between equal seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub(super) u128);

impl ContentHash {
    /// The page of zeros, under every seed.
    pub const ZERO_PAGE: Self = Self(0);
}

/// The secret of a migration, spread over the length that xxh3 wants.
pub(crate) fn secret(seed: u64) -> [u8; SECRET_BYTES] {
    let mut secret = [0; SECRET_BYTES];
    for (word, number) in secret.chunks_exact_mut(8).zip(0_u64..) {
        word.copy_from_slice(&xxh3_64_with_seed(&number.to_le_bytes(), seed).to_le_bytes());
    }
    secret
}

/// Hashes pages under one seed. Source and target of a migration must use the same.
#[derive(Clone)]
pub struct PageHasher {
    secret: [u8; SECRET_BYTES],
    zero_page: u128,
}

impl std::fmt::Debug for PageHasher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PageHasher").finish_non_exhaustive()
    }
}

impl PageHasher {
    /// A hasher under this seed, which the caller draws at random for each migration.
    pub fn new(seed: u64) -> Self {
        let secret = secret(seed);
        let zero_page = xxh3_128_with_secret(&[0; PAGE_BYTES], &secret);
        Self { secret, zero_page }
    }

    /// The hash of a page. A page full of zeros is [`ContentHash::ZERO_PAGE`] however it came.
    pub fn hash(&self, page: Page<'_>) -> ContentHash {
        match page {
            Page::Zero => ContentHash::ZERO_PAGE,
            Page::Data(bytes) => self.hash_bytes(bytes),
        }
    }

    /// The hash of a page's bytes.
    pub fn hash_bytes(&self, bytes: &[u8; PAGE_BYTES]) -> ContentHash {
        let hash = xxh3_128_with_secret(bytes, &self.secret);
        if hash == self.zero_page { ContentHash::ZERO_PAGE } else { ContentHash(hash) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Incompressible bytes.
    pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
        let words = (0_u64..)
            .flat_map(|number| xxh3_64_with_seed(&number.to_le_bytes(), seed).to_le_bytes());
        words.take(length).collect()
    }

    #[test]
    fn zero_bytes_are_the_zero_page() {
        let hasher = PageHasher::new(17);
        assert_eq!(hasher.hash(Page::Data(&[0; PAGE_BYTES])), hasher.hash(Page::Zero));
        let mut page = [0; PAGE_BYTES];
        page[4095] = 1;
        assert_ne!(hasher.hash(Page::Data(&page)), ContentHash::ZERO_PAGE);
    }

    #[test]
    fn the_seed_matters() {
        let page = [7; PAGE_BYTES];
        let hash = |seed| PageHasher::new(seed).hash_bytes(&page);
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
