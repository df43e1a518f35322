//! The content hash of a block: as that of a page, over 64 KiB.

use xxhash_rust::xxh3::xxh3_128_with_secret;

use super::BLOCK_BYTES;
use crate::pages::hash::{SECRET_BYTES, secret};

/// What a block holds, as 128 bits. Comparable only between equal seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash(pub(super) u128);

impl BlockHash {
    /// The block of zeros, under every seed.
    pub const ZERO: Self = Self(0);
}

/// Hashes blocks under one seed. Source and target of a migration must use the same.
#[derive(Clone)]
pub struct BlockHasher {
    secret: [u8; SECRET_BYTES],
    zero_block: u128,
}

impl std::fmt::Debug for BlockHasher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BlockHasher").finish_non_exhaustive()
    }
}

impl BlockHasher {
    /// A hasher under this seed, which the caller draws at random for each migration.
    pub fn new(seed: u64) -> Self {
        let secret = secret(seed);
        let zero_block = xxh3_128_with_secret(&[0; BLOCK_BYTES], &secret);
        Self { secret, zero_block }
    }

    /// The hash of a block's bytes. A block full of zeros is [`BlockHash::ZERO`].
    pub fn hash(&self, block: &[u8; BLOCK_BYTES]) -> BlockHash {
        let hash = xxh3_128_with_secret(block, &self.secret);
        if hash == self.zero_block { BlockHash::ZERO } else { BlockHash(hash) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zeros_are_zero_and_the_seed_matters() {
        let mut block = [0; BLOCK_BYTES];
        assert_eq!(BlockHasher::new(17).hash(&block), BlockHash::ZERO);
        block[BLOCK_BYTES - 1] = 1;
        let hash = |seed| BlockHasher::new(seed).hash(&block);
        assert_ne!(hash(1), BlockHash::ZERO);
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
