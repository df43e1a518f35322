//! Whether compressing a payload is worth trying.

use super::PAGE_BYTES;

/// Pages looked at, spread over the payload.
const SAMPLE_PAGES: usize = 8;
/// Bytes looked at in each of them, from its middle: heads of pages are often alike.
const SAMPLE_BYTES: usize = 512;

/// False if the payload looks like noise: encrypted or already compressed.
///
/// Counts byte values in 4 KiB spread over the payload and sums the squares of the counts. For
/// noise the sum is near n + n²/256; anything with structure is well above. Costs a few
/// microseconds where compressing costs a millisecond. Wrong guesses cost bandwidth (noise repeated
/// within a batch) or time (structure that zstd cannot use), never correctness.
pub fn worth_trying(payload: &[u8]) -> bool {
    let pages = payload.len() / PAGE_BYTES;
    let step = pages.div_ceil(SAMPLE_PAGES).max(1);
    let mut counts = [0_u32; 256];
    let mut sampled = 0_u64;
    for page in payload.chunks_exact(PAGE_BYTES).step_by(step) {
        let middle = &page[PAGE_BYTES / 2..PAGE_BYTES / 2 + SAMPLE_BYTES];
        for byte in middle {
            counts[usize::from(*byte)] += 1;
        }
        sampled += SAMPLE_BYTES as u64;
    }
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    let noise = sampled + sampled * sampled / 256;
    squares > noise + noise / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::hash::tests::noise;

    #[test]
    fn tells_noise_from_text() {
        for pages in [1, 2, 7, 128] {
            assert!(!worth_trying(&noise(7, pages * PAGE_BYTES)), "{pages} pages of noise");
            let text: Vec<u8> = b"the quick brown fox ".repeat(pages * PAGE_BYTES / 20 + 1);
            assert!(worth_trying(&text[..pages * PAGE_BYTES]), "{pages} pages of text");
        }
    }

    #[test]
    fn half_noise_is_worth_trying() {
        let mut payload = noise(3, 64 * PAGE_BYTES);
        payload.resize(128 * PAGE_BYTES, b'a');
        assert!(worth_trying(&payload));
    }
}
