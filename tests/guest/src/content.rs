//! The numbers that pages and blocks are filled with, and the sum that tells whether they are whole.

/// A small generator (xorshift64*, Vigna 2014): quick under emulation, and its bytes do not compress.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that depends on every part of the seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        // Never nought, from which the generator would not move.
        Self(scatter(seed ^ scatter(stream ^ 0x6a09_e667_f3bc_c909)) | 1)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound` (which must not be nought), as evenly as a load generator needs.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        (wide >> 64) as usize
    }
}

/// One word's share of the sum: differs by place, so that two swapped words change it. The sum of
/// all shares can be corrected for one changed word without reading the others.
pub fn share(place: usize, word: u64) -> u64 {
    scatter(word ^ (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The sum over all words.
pub fn sum(words: &[u64]) -> u64 {
    words
        .iter()
        .enumerate()
        .fold(0, |sum: u64, (place, &word)| sum.wrapping_add(share(place, word)))
}

/// Fills the words with bytes that do not compress.
pub fn fill_random(words: &mut [u64], random: &mut Random) {
    for word in words {
        *word = random.next();
    }
}

/// Fills the words with something like a table in memory: one unlike word in eight.
pub fn fill_structured(words: &mut [u64], random: &mut Random) {
    for (row, chunk) in words.chunks_mut(8).enumerate() {
        chunk.fill(0x0000_0100_0000_0000 | row as u64);
        chunk[0] = random.next();
    }
}

fn scatter(word: u64) -> u64 {
    let word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_sees_a_changed_and_a_swapped_word() {
        let mut words = [0; 509];
        fill_random(&mut words, &mut Random::new(1, 2));
        let whole = sum(&words);
        words.swap(3, 400);
        assert_ne!(sum(&words), whole);
        words.swap(3, 400);
        words[77] ^= 1;
        assert_ne!(sum(&words), whole);
    }

    #[test]
    fn the_sum_can_be_corrected_for_one_word() {
        let mut words = [7; 16];
        let whole = sum(&words);
        words[5] = 99;
        assert_eq!(sum(&words), whole.wrapping_sub(share(5, 7)).wrapping_add(share(5, 99)));
    }

    #[test]
    fn seeds_differ() {
        let first = |seed, stream| Random::new(seed, stream).next();
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(0, 0), 0);
    }

    #[test]
    fn below_stays_below() {
        let mut random = Random::new(3, 3);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }
}
