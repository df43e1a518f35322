//! Choices that a seed decides: a failed campaign is begun again with the same faults in the same order. Processes and
//! networks are not decided by it.

/// Xorshift, which is enough for choosing faults and values.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `sides`, which is not zero.
    pub fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // `sides` is a count of few things.
        (self.0 % sides as u64) as usize
    }
}
