//! What is kept of several values: mean, least and most. Pure.

use super::short;

/// Mean, least and most of what was measured in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollup {
    /// The mean.
    pub average: u64,
    /// The least.
    pub minimum: u64,
    /// The most.
    pub maximum: u64,
}

impl Rollup {
    /// Of one value.
    pub fn of_one(value: u64) -> Self {
        Self { average: value, minimum: value, maximum: value }
    }

    /// Of those that there are; none if there are none. The mean of stretches is the mean of their means, however many
    /// values each of them had.
    pub fn of(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let (mut count, mut sum) = (0_u128, 0_u128);
        let (mut minimum, mut maximum) = (u64::MAX, 0);
        for part in parts {
            count += 1;
            sum += u128::from(part.average);
            minimum = minimum.min(part.minimum);
            maximum = maximum.max(part.maximum);
        }
        let mean = (sum + count / 2).checked_div(count)?;
        // A mean of 64-bit numbers is one.
        let average = u64::try_from(mean).unwrap_or(u64::MAX);
        Some(Self { average, minimum, maximum })
    }

    /// As it is kept on the disk, so that what is told does not change when it gets there.
    pub fn kept(self) -> Self {
        let Self { average, minimum, maximum } = self;
        Self {
            average: short::kept(average),
            minimum: short::kept(minimum),
            maximum: short::kept(maximum),
        }
    }
}

/// Points of a finer step as points of a coarser one, `count` to one.
pub fn coarser(points: &[Option<Rollup>], count: usize) -> Vec<Option<Rollup>> {
    points.chunks(count.max(1)).map(|part| Rollup::of(part.iter().flatten().copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_count_for_nothing() {
        let points = [Some(Rollup::of_one(2)), None, Some(Rollup::of_one(5)), None, None, None];
        let expected = Rollup { average: 4, minimum: 2, maximum: 5 };
        assert_eq!(coarser(&points, 3), [Some(expected), None]);
        assert_eq!(Rollup::of([]), None);
        let most = Rollup::of_one(u64::MAX);
        assert_eq!(Rollup::of([most, most]), Some(most));
    }
}
