//! Whole numbers in two bytes: exact below 2,048, beyond that rounded to eleven binary digits, so at most 1/2,048 off.
//!
//! Whoever looks at a curve sees no difference, and every value costs the same, whatever it is: so the room that history
//! takes is known beforehand.

/// A number in two bytes, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short(pub u16);

/// Digits that are kept beside the first one.
const DIGITS: u32 = 10;
const FIRST: u64 = 1 << DIGITS;

impl Short {
    /// No value.
    pub const NONE: Self = Self(u16::MAX);

    /// The number that is next to a value.
    pub fn of(value: u64) -> Self {
        if value < FIRST {
            return Self(value as u16);
        }
        let shift = value.ilog2() - DIGITS;
        let half = (1_u128 << shift) >> 1;
        let rounded = (u128::from(value) + half) >> shift;
        // What is rounded up to one digit more is the first number with a greater exponent.
        let (shift, digits) = match rounded == u128::from(2 * FIRST) {
            true if shift < 63 - DIGITS => (shift + 1, 0),
            true => (shift, FIRST as u16 - 1),
            false => (shift, (rounded as u64 - FIRST) as u16),
        };
        Self(((shift as u16 + 1) << DIGITS) | digits)
    }

    /// A value, or none.
    pub fn of_some(value: Option<u64>) -> Self {
        value.map_or(Self::NONE, Self::of)
    }

    /// The value.
    pub fn value(self) -> Option<u64> {
        let (exponent, digits) = (u32::from(self.0) >> DIGITS, u64::from(self.0) % FIRST);
        match exponent {
            0 => Some(digits),
            1..=54 => Some((FIRST + digits) << (exponent - 1)),
            _ => None,
        }
    }
}

/// A value as it is kept.
pub fn kept(value: u64) -> u64 {
    Short::of(value).value().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_number_comes_back_and_they_are_in_order() {
        let values: Vec<u64> = (0..=(54 << DIGITS) + FIRST as u16 - 1)
            .map(|bits| Short(bits).value().unwrap())
            .collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
        for (bits, value) in values.iter().enumerate() {
            assert_eq!(Short::of(*value), Short(bits as u16), "{value}");
        }
        assert_eq!(Short::NONE.value(), None);
    }

    proptest! {
        #[test]
        fn values_are_hardly_changed(digits in any::<u64>(), shift in 0_u32..64) {
            let value = digits >> shift;
            let kept = kept(value);
            let off = u128::from(kept.abs_diff(value));
            prop_assert!(off * 2048 <= u128::from(value), "{} became {}", value, kept);
            prop_assert!(value >= 2048 || kept == value);
        }
    }
}
