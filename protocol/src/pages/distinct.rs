//! Whether the pages of a batch are different ones.

use super::BATCH_PAGES_MAX;

/// The first index found to be there twice, of at most [`BATCH_PAGES_MAX`].
pub(super) fn named_twice(indexes: impl Iterator<Item = u32>) -> Option<u32> {
    let mut sorted = [0; BATCH_PAGES_MAX];
    let mut count = 0;
    for (place, index) in sorted.iter_mut().zip(indexes) {
        *place = index;
        count += 1;
    }
    let sorted = &mut sorted[..count];
    // A few runs of neighbours, mostly: that is nearly sorted.
    sorted.sort_unstable();
    sorted.windows(2).find_map(|pair| (pair[0] == pair[1]).then_some(pair[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_index_is_found_wherever_it_is() {
        assert_eq!(named_twice([].into_iter()), None);
        assert_eq!(named_twice((0..64).chain(1000..1064)), None);
        assert_eq!(named_twice((0..64).chain([900, 63, 901])), Some(63));
        assert_eq!(named_twice([0, u32::MAX, 5, u32::MAX].into_iter()), Some(u32::MAX));
    }
}
