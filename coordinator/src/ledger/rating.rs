//! From quantities to money, in whole numbers.
//!
//! A line of an invoice costs `quantity · price / (base units · per units)` micro-dollars. All that is kept exactly: a
//! price is a whole number of pico-dollars for one unit of its dimension, and so a line is a whole number of parts of
//! size `1 / (base units · 10⁶)` micro-dollars. It is rounded once, here, to the nearest micro-dollar, and to the even
//! one of two that are equally near. What rounding took from a line or gave to it is carried to the next line of the
//! same project and dimension, so that the sum of lines is never further than half a micro-dollar from the exact sum.
//! Each invoice begins with nothing carried.

use crate::state::ledger::rate::{Dimension, Price};

/// Parts of a micro-dollar in which prices are whole.
const PICO: i128 = 1_000_000;

/// The amount is beyond what can be computed: more than 10²⁰ dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amount is out of range")]
pub struct OutOfRange;

/// Rates the lines of one project and dimension, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rating {
    /// Parts of one micro-dollar.
    parts: i128,
    /// What rounding left so far, in parts: at least -½ and at most ½ micro-dollar.
    carried: i128,
}

impl Rating {
    /// Nothing carried.
    pub fn new(dimension: Dimension) -> Self {
        Self { parts: i128::from(dimension.base_units()) * PICO, carried: 0 }
    }

    /// What a line costs, in micro-dollars.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub fn line(&mut self, quantity: i128, price: Price) -> Result<i64, OutOfRange> {
        let exact = quantity.checked_mul(i128::from(price.pico_dollars())).ok_or(OutOfRange)?;
        let exact = exact.checked_add(self.carried).ok_or(OutOfRange)?;
        let rounded = divide_half_even(exact, self.parts);
        self.carried = exact - rounded * self.parts;
        i64::try_from(rounded).map_err(|_| OutOfRange)
    }
}

/// The nearest whole number, the even one of two. `divisor` is positive.
pub(crate) fn divide_half_even(value: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (value.div_euclid(divisor), value.rem_euclid(divisor));
    let is_up = match (divisor - rest).cmp(&rest) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => quotient % 2 != 0,
        std::cmp::Ordering::Greater => false,
    };
    quotient + i128::from(is_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_hour_at_list_price_costs_it() {
        let mut rating = Rating::new(Dimension::VmHours);
        assert_eq!(rating.line(3_600, Price::each(150_000)), Ok(150_000));
        assert_eq!(rating.carried, 0);
        let mut storage = Rating::new(Dimension::StorageGb);
        let price = Price { micro_dollars: 27_397, per_units: 1_000 };
        // 20 GiB for 730 hours at 27.397 micro-dollars for each.
        assert_eq!(storage.line(20 * (1 << 30) * 3_600 * 730, price), Ok(399_996));
    }

    #[test]
    fn halves_go_to_the_even_neighbour_and_are_carried() {
        // 12 seconds at 150 micro-dollars an hour are half a micro-dollar.
        let mut rating = Rating::new(Dimension::VmHours);
        let price = Price::each(150);
        let amounts: Vec<_> = (0..4).map(|_| rating.line(12, price).unwrap()).collect();
        assert_eq!(amounts, [0, 1, 0, 1]);
        for (value, rounded) in [(5, 2), (15, 8), (-5, -2), (-15, -8), (6, 3), (-6, -3), (0, 0)] {
            assert_eq!(divide_half_even(value, 2), rounded, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_counted_is_said() {
        let mut rating = Rating::new(Dimension::Migrations);
        assert_eq!(rating.line(i128::MAX, Price::each(2)), Err(OutOfRange));
        assert_eq!(rating.line(1 << 64, Price::each(1)), Err(OutOfRange));
    }

    proptest! {
        #[test]
        fn lines_never_drift_from_the_exact_sum(
            lines in proptest::collection::vec((-(1i128 << 60)..1 << 60, 0..1_000_000u64, 0..7u32), 1..30),
        ) {
            let mut rating = Rating::new(Dimension::TransferGb);
            let (mut exact, mut rounded) = (0, 0);
            for (quantity, micro_dollars, tens) in lines {
                let price = Price { micro_dollars, per_units: 10u64.pow(tens) };
                rounded += i128::from(rating.line(quantity, price).unwrap());
                exact += quantity * i128::from(price.pico_dollars());
                let parts = rating.parts;
                prop_assert!(2 * (exact - rounded * parts).abs() <= parts);
            }
        }
    }
}
