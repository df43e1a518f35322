//! The difference between two contents of a page: runs of bytes that changed.
//!
//! A run is two varints and its bytes: how many bytes before it stay as they are (counted from the end of the run
//! before), its length less one, and what the page holds there from now on. A patch ends with its last run. Nothing in
//! it depends on what stays, so a patch is right only on exactly the page that it was made for.

use super::{PAGE_BYTES, varint};

type Page = [u8; PAGE_BYTES];

const WORD_BYTES: usize = size_of::<u64>();
/// Bytes that are compared at once to see whether they differ: a block is eight words.
const BLOCK_BYTES: usize = 64;
/// The same of most of a page, which is as it was, by the widest instructions that the machine has.
const STRETCH_BYTES: usize = 512;
/// Unchanged bytes between two runs that cost no more than the head of another run.
const GAP_BYTES_MAX: usize = 2;

/// Appends what turns `old` into `new`; false, and nothing is appended, if that takes more than `bytes_max`.
pub(super) fn encode(old: &Page, new: &Page, bytes_max: usize, output: &mut Vec<u8>) -> bool {
    let begin = output.len();
    let mut writer = Writer { new, output, ended_at: 0, run: None };
    let (old_stretches, _) = old.as_chunks::<STRETCH_BYTES>();
    let (new_stretches, _) = new.as_chunks::<STRETCH_BYTES>();
    for (at, (old, new)) in old_stretches.iter().zip(new_stretches).enumerate() {
        if old != new {
            writer.stretch(at * STRETCH_BYTES, old, new);
            if writer.output.len() - begin > bytes_max {
                break;
            }
        }
    }
    writer.flush();
    let fits = output.len() - begin <= bytes_max;
    if !fits {
        output.truncate(begin);
    }
    fits
}

/// The numbers of the flags that are set, of at most 64. First all are looked at, then the set ones visited: which of
/// them are set is not to be guessed, and each wrong guess would cost as much as looking at ten.
fn set(flags: impl Iterator<Item = bool>) -> impl Iterator<Item = usize> {
    let mut bits =
        flags.zip(0_u32..64).fold(0_u64, |bits, (flag, at)| bits | u64::from(flag) << at);
    std::iter::from_fn(move || {
        let at = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (at < 64).then_some(at)
    })
}

/// In which bits the words of a block differ.
fn differing<'a>(
    old: &'a [u8; BLOCK_BYTES],
    new: &'a [u8; BLOCK_BYTES],
) -> impl Iterator<Item = u64> + 'a {
    let (old, _) = old.as_chunks::<WORD_BYTES>();
    let (new, _) = new.as_chunks::<WORD_BYTES>();
    old.iter().zip(new).map(|(old, new)| u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new))
}

struct Writer<'a> {
    new: &'a Page,
    output: &'a mut Vec<u8>,
    /// Where the last run that was written ends.
    ended_at: usize,
    /// The run that may still grow.
    run: Option<(usize, usize)>,
}

impl Writer<'_> {
    fn stretch(&mut self, offset: usize, old: &[u8; STRETCH_BYTES], new: &[u8; STRETCH_BYTES]) {
        let (old, _) = old.as_chunks::<BLOCK_BYTES>();
        let (new, _) = new.as_chunks::<BLOCK_BYTES>();
        let differ = |(old, new)| differing(old, new).fold(0, |all, word| all | word) != 0;
        for at in set(old.iter().zip(new).map(differ)) {
            self.block(offset + at * BLOCK_BYTES, &old[at], &new[at]);
        }
    }

    fn block(&mut self, offset: usize, old: &[u8; BLOCK_BYTES], new: &[u8; BLOCK_BYTES]) {
        let mut words = [0; BLOCK_BYTES / WORD_BYTES];
        words.iter_mut().zip(differing(old, new)).for_each(|(place, word)| *place = word);
        for at in set(words.iter().map(|word| *word != 0)) {
            let word = offset + at * WORD_BYTES;
            let first = word + words[at].trailing_zeros() as usize / 8;
            let end = word + WORD_BYTES - words[at].leading_zeros() as usize / 8;
            self.changed(first, end);
        }
    }

    fn changed(&mut self, first: usize, end: usize) {
        match &mut self.run {
            Some((_, run_end)) if first - *run_end <= GAP_BYTES_MAX => *run_end = end,
            _ => {
                self.flush();
                self.run = Some((first, end));
            }
        }
    }

    fn flush(&mut self) {
        let Some((first, end)) = self.run.take() else { return };
        varint::put((first - self.ended_at) as u64, self.output);
        varint::put((end - first) as u64 - 1, self.output);
        self.output.extend_from_slice(&self.new[first..end]);
        self.ended_at = end;
    }
}

/// A patch whose runs are all inside a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch<'a> {
    runs: &'a [u8],
}

impl<'a> Patch<'a> {
    /// The patch that `runs` are, from the first to the last byte; `None` if they are not runs inside a page.
    pub fn parse(runs: &'a [u8]) -> Option<Self> {
        let mut rest = runs;
        let mut ended_at = 0;
        while !rest.is_empty() {
            let (_, end, _) = take_run(&mut rest, ended_at)?;
            ended_at = end;
        }
        Some(Self { runs })
    }

    /// A patch that [`Self::parse`] has accepted before.
    pub(super) fn checked(runs: &'a [u8]) -> Self {
        Self { runs }
    }

    /// Changes the page that the patch was made for.
    pub fn apply(&self, page: &mut [u8; PAGE_BYTES]) {
        let mut rest = self.runs;
        let mut ended_at = 0;
        // Checked when it was parsed.
        while let Some((first, end, bytes)) = take_run(&mut rest, ended_at) {
            page[first..end].copy_from_slice(bytes);
            ended_at = end;
        }
    }

    /// Bytes that it takes.
    pub fn len_bytes(&self) -> usize {
        self.runs.len()
    }
}

/// First byte, end and content of the next run.
fn take_run<'a>(rest: &mut &'a [u8], ended_at: usize) -> Option<(usize, usize, &'a [u8])> {
    let skip = usize::try_from(varint::take(rest)?).ok()?;
    let length = usize::try_from(varint::take(rest)?).ok()?.checked_add(1)?;
    let first = ended_at.checked_add(skip)?;
    let end = first.checked_add(length).filter(|end| *end <= PAGE_BYTES)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((first, end, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patch(old: &Page, new: &Page) -> Vec<u8> {
        let mut bytes = vec![0xee];
        assert!(encode(old, new, 2 * PAGE_BYTES, &mut bytes));
        assert_eq!(bytes.remove(0), 0xee, "what is there already stays");
        bytes
    }

    fn applied(patch: &[u8], old: &Page) -> Page {
        let mut page = *old;
        Patch::parse(patch).unwrap().apply(&mut page);
        page
    }

    #[test]
    fn a_changed_word_costs_its_changed_bytes_and_two_more() {
        let old = [7; PAGE_BYTES];
        let mut new = old;
        new[100..103].copy_from_slice(&[1, 2, 3]);
        assert_eq!(patch(&old, &new), [100, 2, 1, 2, 3]);
        new[105] = 9;
        assert_eq!(patch(&old, &new).len(), 2 + 6, "a short gap is part of the run");
        new[4095] = 9;
        assert_eq!(applied(&patch(&old, &new), &old), new);
    }

    #[test]
    fn a_page_that_changed_all_over_is_no_patch() {
        let (old, new) = ([1; PAGE_BYTES], [2; PAGE_BYTES]);
        let mut bytes = vec![5];
        assert!(!encode(&old, &new, 1000, &mut bytes));
        assert_eq!(bytes, [5]);
    }

    #[test]
    fn runs_outside_the_page_are_refused() {
        let last = [0xff, 0x1f, 0, 9];
        assert!(Patch::parse(&last).is_some(), "byte 4095");
        for bad in [
            &[0x80, 0x20, 0, 9][..],      // byte 4096
            &[0xff, 0x1f, 1, 9, 9],       // beyond the end
            &[0, 3, 1, 2, 3],             // cut
            &[0],                         // no length
            &[0, 0, 1, 0xff, 0x1f, 0, 9], // beyond the end with the second run
        ] {
            assert_eq!(Patch::parse(bad), None, "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_new_page_of_the_old(
            seed in any::<u64>(),
            changes in prop::collection::vec((0..PAGE_BYTES, any::<u8>()), 0..200),
        ) {
            let mut old = [0; PAGE_BYTES];
            old.copy_from_slice(&crate::pages::hash::tests::noise(seed, PAGE_BYTES));
            let mut new = old;
            changes.iter().for_each(|(at, byte)| new[*at] = *byte);
            prop_assert_eq!(applied(&patch(&old, &new), &old), new);
        }

        #[test]
        fn any_bytes_are_a_patch_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(patch) = Patch::parse(&bytes) {
                patch.apply(&mut [0; PAGE_BYTES]);
            }
        }
    }
}
