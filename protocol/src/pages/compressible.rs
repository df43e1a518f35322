//! Whether compressing a payload is worth trying.

use super::PAGE_BYTES;

/// Pages looked at, spread over the payload.
const SAMPLE_PAGES: usize = 16;
/// Bytes looked at in each of them.
const SAMPLE_BYTES: usize = 256;

/// False if the payload looks like noise: encrypted or already compressed.
///
/// Counts byte values in 4 KiB spread over the payload and sums the squares of the counts. For
/// noise the sum is near n + n²/256; anything with structure is well above, even if it is only one
/// page in sixteen. Costs a few microseconds where compressing costs a millisecond. Wrong guesses
/// cost bandwidth (noise repeated within a batch) or time (structure that zstd cannot use), never
/// correctness.
pub fn worth_trying(payload: &[u8]) -> bool {
    let pages = payload.len() / PAGE_BYTES;
    let samples = pages.min(SAMPLE_PAGES);
    let mut counts = [0_u32; 256];
    for sample in 0..samples {
        for byte in sampled(payload, pages, sample, samples) {
            counts[usize::from(*byte)] += 1;
        }
    }
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    let bytes = (samples * SAMPLE_BYTES) as u64;
    let noise = bytes + bytes * bytes / 256;
    squares > noise + noise / 4
}

/// One page out of each of `samples` equal parts, at a place in the part and in the page that moves
/// on with odd steps: where every second page is noise, samples at equal distances would see only
/// those.
fn sampled(payload: &[u8], pages: usize, sample: usize, samples: usize) -> &[u8] {
    let first = sample * pages / samples;
    let part_pages = (sample + 1) * pages / samples - first;
    let page = first + (sample * 5 + 3) % part_pages;
    let slot = (sample * 7 + 5) % (PAGE_BYTES / SAMPLE_BYTES);
    let at = page * PAGE_BYTES + slot * SAMPLE_BYTES;
    &payload[at..at + SAMPLE_BYTES]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::BATCH_PAGES_MAX;
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
    fn structure_between_noise_is_seen_whatever_the_period() {
        let pages = BATCH_PAGES_MAX;
        let noise = noise(5, pages * PAGE_BYTES);
        for period in [2, 3, 4, 8] {
            for phase in 0..period {
                let mut payload = noise.clone();
                for page in payload.chunks_exact_mut(PAGE_BYTES).skip(phase).step_by(period) {
                    page.fill(b'a');
                }
                assert!(worth_trying(&payload), "every {period}th page from {phase}");
            }
        }
    }

    #[test]
    fn half_noise_is_worth_trying() {
        let mut payload = noise(3, 64 * PAGE_BYTES);
        payload.resize(128 * PAGE_BYTES, b'a');
        assert!(worth_trying(&payload));
    }
}
