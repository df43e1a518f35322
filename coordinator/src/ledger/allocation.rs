//! A whole in parts by tag: parts of a quantity sum to it because they are what it was summed from; parts of money sum
//! to it because the remainder goes where it is largest.

use std::collections::BTreeMap;

use novacron_protocol::vm::Labels;

/// Label keys by which a whole may be split at once.
pub const KEYS_MAX: usize = 4;

/// Why keys or parts cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// A key is named twice.
    #[error("`{0}` is named twice")]
    KeyTwice(String),
    /// There are too many keys.
    #[error("at most {KEYS_MAX} labels")]
    TooManyKeys,
    /// Two parts are of the same tags.
    #[error("two parts have the same tags")]
    TagsTwice,
    /// The parts are not the whole.
    #[error("the parts come to {parts}, the whole is {whole}")]
    NotTheWhole {
        /// What they come to.
        parts: i128,
        /// What they should.
        whole: i128,
    },
}

/// Checks label keys by which a whole is to be split.
///
/// # Errors
/// [`AllocationError::KeyTwice`], [`AllocationError::TooManyKeys`].
pub fn check_keys(keys: &[String]) -> Result<(), AllocationError> {
    if keys.len() > KEYS_MAX {
        return Err(AllocationError::TooManyKeys);
    }
    for (place, key) in keys.iter().enumerate() {
        if keys[..place].contains(key) {
            return Err(AllocationError::KeyTwice(key.clone()));
        }
    }
    Ok(())
}

/// What of a machine's labels counts: empty if it has none of them.
pub fn tags(labels: Option<&Labels>, keys: &[String]) -> Labels {
    let labels = labels.into_iter().flatten();
    let chosen = labels.filter(|(key, _)| keys.contains(key));
    chosen.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Checks parts that somebody names: each of other tags, and together the whole.
///
/// # Errors
/// [`AllocationError::TagsTwice`], [`AllocationError::NotTheWhole`].
pub fn check_parts(
    whole: i128,
    parts: &[(Labels, i128)],
) -> Result<BTreeMap<Labels, i128>, AllocationError> {
    let by_tags: BTreeMap<Labels, i128> = parts.iter().cloned().collect();
    if by_tags.len() != parts.len() {
        return Err(AllocationError::TagsTwice);
    }
    let sum = by_tags.values().fold(0i128, |sum, part| sum.saturating_add(*part));
    if sum != whole {
        return Err(AllocationError::NotTheWhole { parts: sum, whole });
    }
    Ok(by_tags)
}

/// Splits money as quantities are split: each part gets what is its own rounded down, and what is left goes, one
/// micro-dollar each, to those that lost most by it; of equal ones to the first by tags. If the quantities come to
/// nothing, the first part has all of it.
pub fn split_money(money: i64, parts: &BTreeMap<Labels, i128>) -> Vec<i64> {
    let whole = parts.values().fold(0i128, |sum, part| sum.saturating_add(*part));
    let mut shares: Vec<(i128, i128)> =
        parts.values().map(|part| share(i128::from(money), *part, whole)).collect();
    let given: i128 = shares.iter().map(|(share, _)| share).sum();
    let mut left = i128::from(money) - given;
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(shares[*place].1));
    // Less is left than there are parts, unless the quantities come to nothing.
    for place in order.iter().cycle() {
        if left <= 0 {
            break;
        }
        let step = if whole == 0 { left } else { 1 };
        shares[*place].0 += step;
        left -= step;
    }
    shares.iter().map(|(share, _)| i64::try_from(*share).unwrap_or(i64::MAX)).collect()
}

/// A part of money, rounded down, and what that took from it.
fn share(money: i128, part: i128, whole: i128) -> (i128, i128) {
    if whole == 0 {
        return (0, 0);
    }
    // Quantities beyond this are cut, all alike: money is below 2⁶⁴, and a product has to stay below 2¹²⁷.
    let shift =
        (128 - whole.unsigned_abs().leading_zeros()).max(128 - part.unsigned_abs().leading_zeros());
    let shift = shift.saturating_sub(62);
    let (part, whole) = (part >> shift, whole >> shift);
    let product = money * part;
    // Of a negative whole, both turn around.
    let (product, whole) = if whole < 0 { (-product, -whole) } else { (product, whole.max(1)) };
    (product.div_euclid(whole), product.rem_euclid(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn team(value: &str) -> Labels {
        Labels::from([("team".to_owned(), value.to_owned())])
    }

    /// The example of the marketplaces: 100 = 60 + 40.
    #[test]
    fn parts_that_are_named_are_the_whole_and_differ() {
        let parts = [(team("engineering"), 60), (team("analytics"), 40)];
        assert_eq!(check_parts(100, &parts).unwrap().len(), 2);
        let wrong = check_parts(101, &parts);
        assert_eq!(wrong, Err(AllocationError::NotTheWhole { parts: 100, whole: 101 }));
        let twice = [(team("a"), 60), (team("a"), 40)];
        assert_eq!(check_parts(100, &twice), Err(AllocationError::TagsTwice));
    }

    #[test]
    fn keys_are_named_once() {
        let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(check_keys(&keys(&["a", "b"])), Ok(()));
        let twice = AllocationError::KeyTwice("a".to_owned());
        assert_eq!(check_keys(&keys(&["a", "b", "a"])), Err(twice));
        let many = keys(&["a", "b", "c", "d", "e"]);
        assert_eq!(check_keys(&many), Err(AllocationError::TooManyKeys));
    }

    #[test]
    fn machines_without_a_label_are_a_part_of_their_own() {
        let keys = ["team".to_owned()];
        let labels = Labels::from([
            ("team".to_owned(), "red".to_owned()),
            ("app".to_owned(), "web".to_owned()),
        ]);
        assert_eq!(tags(Some(&labels), &keys), team("red"));
        assert_eq!(tags(None, &keys), Labels::new());
    }

    fn money(total: i64, parts: &[i128]) -> Vec<i64> {
        let parts = parts.iter().enumerate();
        let parts = parts.map(|(place, part)| (team(&format!("{place:03}")), *part)).collect();
        split_money(total, &parts)
    }

    #[test]
    fn what_is_left_goes_to_the_largest_remainder_and_ties_to_the_first() {
        assert_eq!(money(100, &[1, 1, 1]), [34, 33, 33]);
        assert_eq!(money(10, &[60, 40]), [6, 4]);
        assert_eq!(money(1, &[1, 2]), [0, 1]);
        assert_eq!(money(7, &[0, 0]), [7, 0]);
        assert_eq!(money(-100, &[1, 1, 1]).iter().sum::<i64>(), -100);
    }

    proptest! {
        #[test]
        fn money_is_split_without_a_rest(
            total in -1_000_000_000_000i64..1_000_000_000_000,
            parts in proptest::collection::vec(0..(1i128 << 90), 1..20),
        ) {
            let split = money(total, &parts);
            prop_assert_eq!(split.iter().map(|part| i128::from(*part)).sum::<i128>(), i128::from(total));
            prop_assert_eq!(split.len(), parts.len());
        }
    }
}
