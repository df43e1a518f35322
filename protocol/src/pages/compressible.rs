//! Whether compressing a page is worth trying.

use super::PAGE_BYTES;

/// Pieces of a page that are looked at, spread over it…
const PIECES: usize = 8;
/// … and the bytes of each.
const PIECE_BYTES: usize = 32;
const SAMPLE_BYTES: u32 = (PIECES * PIECE_BYTES) as u32;

/// The sum of the squares of how often each byte value comes is near n + n²/256 for n bytes of noise, give or take
/// √(2 n²/256), which is 22 for 256 bytes. Anything with structure is far above. A quarter more than noise is nearly six
/// times that deviation away.
const NOISE_SQUARES: u32 = SAMPLE_BYTES + SAMPLE_BYTES * SAMPLE_BYTES / 256;
const SQUARES_MIN: u32 = NOISE_SQUARES + NOISE_SQUARES / 4;
/// A value that comes n times is n (n − 1) / 2 pairs of equal bytes, so the pairs are half of what the squares exceed the
/// number of bytes by. They only grow while bytes are looked at: the answer is often known after the first of them.
const PAIRS_MIN: u32 = (SQUARES_MIN - SAMPLE_BYTES) / 2 + 1;

/// False if the page looks like noise: encrypted or already compressed.
///
/// Costs 160 ns for noise, and less the sooner structure shows, where compressing costs five microseconds. Wrong guesses
/// cost bandwidth or time, never correctness.
pub fn worth_trying(page: &[u8; PAGE_BYTES]) -> bool {
    let mut counts = [0_u8; 256];
    let mut pairs = 0_u32;
    for piece in 0..PIECES {
        // At a place in its eighth of the page that moves on: structure may have a period.
        let at = piece * (PAGE_BYTES / PIECES) + (piece * 5 + 3) % PIECES * PIECE_BYTES;
        for byte in &page[at..at + PIECE_BYTES] {
            // No count comes near 255: long before, the pairs decide the matter.
            let count = &mut counts[usize::from(*byte)];
            pairs = pairs.wrapping_add(u32::from(*count));
            *count = count.wrapping_add(1);
        }
        if pairs >= PAIRS_MIN {
            return true;
        }
    }
    false
}

/// Pages of many that are looked at.
const SAMPLE_PAGES: usize = 16;

/// Whether any of some pages spread over `payload` is worth trying.
pub fn any_worth_trying(payload: &[u8]) -> bool {
    let (pages, _) = payload.as_chunks::<PAGE_BYTES>();
    let samples = pages.len().min(SAMPLE_PAGES);
    // In each of equal parts another place: where every second page is noise, equal distances would see only those.
    let place = |sample: usize| {
        let first = sample * pages.len() / samples;
        let part = (sample + 1) * pages.len() / samples - first;
        first + (sample * 5 + 3) % part
    };
    (0..samples).any(|sample| worth_trying(&pages[place(sample)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::hash::tests::noise;

    fn page(bytes: &[u8]) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        page.iter_mut().zip(bytes.iter().cycle()).for_each(|(at, byte)| *at = *byte);
        page
    }

    #[test]
    fn noise_is_told_from_everything_else() {
        for seed in 0..2000 {
            let noise = noise(seed, PAGE_BYTES);
            assert!(!worth_trying(&page(&noise)), "noise of seed {seed}");
        }
        assert!(worth_trying(&page(b"the quick brown fox jumps over the lazy dog; ")));
        assert!(worth_trying(&page(&[0])));
    }

    #[test]
    fn pointers_and_small_numbers_are_no_noise() {
        for seed in 0..200 {
            let noise = noise(seed, PAGE_BYTES);
            let mut pointers = [0; PAGE_BYTES];
            let mut numbers = [0; PAGE_BYTES];
            for (at, bytes) in noise.chunks_exact(8).enumerate() {
                let low = [bytes[0], bytes[1], bytes[2], 0x80, 0xff, 0xff, 0xff, 0xff];
                pointers[at * 8..][..8].copy_from_slice(&low);
                numbers[at * 8..][..8].copy_from_slice(&[bytes[0], 0, 0, 0, bytes[1], 0, 0, 0]);
            }
            assert!(worth_trying(&pointers) && worth_trying(&numbers), "seed {seed}");
        }
    }

    #[test]
    fn half_a_page_of_noise_is_worth_trying() {
        let mut half = page(&noise(3, PAGE_BYTES));
        half[PAGE_BYTES / 2..].fill(0);
        assert!(worth_trying(&half));
    }

    #[test]
    fn structure_between_noise_is_seen_whatever_the_period() {
        let noise = noise(5, 128 * PAGE_BYTES);
        assert!(!any_worth_trying(&noise));
        assert!(!any_worth_trying(&[]));
        for period in [2, 3, 4] {
            for phase in 0..period {
                let mut payload = noise.clone();
                for page in payload.chunks_exact_mut(PAGE_BYTES).skip(phase).step_by(period) {
                    page.fill(b'a');
                }
                assert!(any_worth_trying(&payload), "every {period}th page from {phase}");
            }
        }
    }
}
