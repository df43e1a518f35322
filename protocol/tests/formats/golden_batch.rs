//! Page batches of version 2 as they were recorded: what is written once must be read for ever.

use std::path::PathBuf;

use novacron_protocol::pages::{
    BatchContent, BatchDecoder, BatchEncoder, BatchHeader, Compression, PAGE_BYTES, PageForm,
};

use super::bodies::Random;

type Page = [u8; PAGE_BYTES];

const HEADER: BatchHeader =
    BatchHeader { block: 3, epoch: 300, sequence: 0x0102_0304_0506_0708, keep_from: Some(1 << 40) };
/// Numbers of known pages: from the first three to one that is far, and back.
const SLOTS: [u64; 5] = [1000, 1001, 1002, u64::MAX, 7];

fn noise(seed: u64) -> Page {
    let mut page = [0; PAGE_BYTES];
    Random::new(seed).fill(&mut page);
    page
}

fn words() -> Page {
    let mut page = [0; PAGE_BYTES];
    for (at, word) in page.chunks_exact_mut(8).enumerate() {
        word[0] = at as u8;
    }
    page
}

/// What the differing page was: its first and last byte, a word, and two bytes near each other changed since.
fn base() -> Page {
    let mut page = noise(1);
    for at in [0, 4095, 800, 801, 802, 803, 804, 805, 806, 807, 2000, 2002] {
        page[at] ^= 0xff;
    }
    page
}

/// Pages in every form that the compression allows.
fn push<'a>(batch: &mut BatchContent<'a>, pages: &'a [Page; 3]) {
    let fits = [
        (0..3).all(|at| batch.push_zero(0x0012_3400 + at)),
        SLOTS.iter().zip([9, 10, 5, 4, 0]).all(|(slot, index)| batch.push_known(index, *slot)),
        batch.push_differing(200, 299, &base(), &pages[0]),
        batch.push_differing(201, 1, &pages[0], &pages[0]),
        batch.push_whole(u32::MAX, &pages[1]),
        batch.push_whole(70, &pages[2]),
        batch.push_whole(71, &pages[2]),
    ];
    assert_eq!(fits, [true; 7]);
}

fn golden(name: &str) -> Vec<u8> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/batch-2");
    std::fs::read(directory.join(name)).unwrap()
}

fn encoded(compression: Compression) -> Vec<u8> {
    let pages = [noise(1), noise(2), words()];
    let mut encoder = BatchEncoder::new(compression).unwrap();
    let mut batch = encoder.begin(HEADER);
    push(&mut batch, &pages);
    let mut bytes = Vec::new();
    encoder.encode(batch, &mut bytes).unwrap();
    bytes
}

/// Every page with what it has to be: the number of a known one, the content of every other.
fn read(bytes: &[u8]) -> Vec<(u32, Result<u64, Box<Page>>)> {
    let mut decoder = BatchDecoder::new().unwrap();
    let batch = decoder.decode(bytes, |block| (block == 3).then_some(1 << 32)).unwrap();
    assert_eq!(batch.header, HEADER);
    let outcome = |index, form| match form {
        PageForm::Zero => Err(Box::new([0; PAGE_BYTES])),
        PageForm::Known { slot } => Ok(slot),
        PageForm::Whole { content, .. } => Err(Box::new(*content)),
        PageForm::Differing { base_epoch, patch } => {
            let (epoch, mut page) = if index == 200 { (299, base()) } else { (1, noise(1)) };
            assert_eq!(base_epoch, epoch);
            patch.apply(&mut page);
            Err(Box::new(page))
        }
    };
    let mut pages: Vec<_> =
        batch.pages().map(|(index, form)| (index, outcome(index, form))).collect();
    pages.sort_by_key(|(index, _)| *index);
    pages
}

fn expected() -> Vec<(u32, Result<u64, Box<Page>>)> {
    let content = |page: Page| Err(Box::new(page));
    let mut pages: Vec<_> = (0..3).map(|at| (0x0012_3400 + at, content([0; PAGE_BYTES]))).collect();
    pages.extend([9, 10, 5, 4, 0].into_iter().zip(SLOTS.map(Ok)));
    pages.extend([200, 201].map(|index| (index, content(noise(1)))));
    pages.extend([70, 71].map(|index| (index, content(words()))));
    pages.push((u32::MAX, content(noise(2))));
    pages.sort_by_key(|(index, _)| *index);
    pages
}

#[test]
fn recorded_batches_are_read() {
    for name in ["plain", "zstd"] {
        assert!(read(&golden(name)) == expected(), "{name}");
    }
}

#[test]
fn a_plain_batch_is_written_as_it_was() {
    let (written, recorded) = (encoded(Compression::Off), golden("plain"));
    let differs = written.iter().zip(&recorded).position(|(now, then)| now != then);
    assert_eq!((differs, written.len()), (None, recorded.len()), "first byte that differs, length");
}

#[test]
fn a_compressed_batch_is_the_recorded_one_but_for_its_frame() {
    let (written, recorded) = (encoded(Compression::Zstd { level: 1 }), golden("zstd"));
    // The frame may become another with another zstd, and so may its length in the header.
    assert_eq!(written[..36], recorded[..36]);
    assert!(read(&written) == expected());
}
