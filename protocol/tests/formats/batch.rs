//! Page batches against themselves.

use novacron_protocol::pages::batch::BATCH_BYTES_MAX;
use novacron_protocol::pages::{
    BATCH_PAGES_MAX, BatchContent, BatchDecoder, BatchEncoder, BatchHeader, Compression,
    EncodeError, EncodedBatch, Form, FormCounts, PAGE_BYTES, PageBatch, PageForm,
};
use proptest::prelude::*;

use super::bodies::Random;

/// A page by its index and a recipe for its content.
#[derive(Debug, Clone, Copy)]
enum Content {
    Zero,
    Filled(u8),
    Noise(u64),
    Words(u64),
}

impl Content {
    fn bytes(self) -> Option<[u8; PAGE_BYTES]> {
        let mut page = [0; PAGE_BYTES];
        match self {
            Self::Zero => return None,
            Self::Filled(byte) => page.fill(byte),
            Self::Noise(seed) => Random::new(seed).fill(&mut page),
            Self::Words(seed) => {
                let mut random = Random::new(seed);
                for word in page.chunks_exact_mut(64) {
                    word[0] = random.below(256) as u8;
                }
            }
        }
        Some(page)
    }
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Zero),
        any::<u8>().prop_map(Content::Filled),
        any::<u64>().prop_map(Content::Noise),
        any::<u64>().prop_map(Content::Words),
    ]
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::Off), (-5_i32..4).prop_map(|level| Compression::Zstd { level }),]
}

/// How a page is to be pushed.
#[derive(Debug, Clone, Copy)]
enum Push {
    /// Zero, or with its content.
    Plain(Content),
    /// Under a number.
    Known(u64),
    /// As a difference from the noise of a seed, changed in some places; a base so many epochs ago.
    Changed { seed: u64, places: u8, epochs: u32 },
}

fn push() -> impl Strategy<Value = Push> {
    prop_oneof![
        4 => content().prop_map(Push::Plain),
        1 => any::<u64>().prop_map(Push::Known),
        3 => (any::<u64>(), 1..=255_u8, 0..5_u32)
            .prop_map(|(seed, places, epochs)| Push::Changed { seed, places, epochs }),
    ]
}

fn noise(seed: u64) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    Random::new(seed).fill(&mut page);
    page
}

/// What the page is after the change of so many places.
fn changed(seed: u64, places: u8) -> [u8; PAGE_BYTES] {
    let (mut page, mut random) = (noise(seed), Random::new(!seed));
    for _ in 0..places {
        let at = random.below(PAGE_BYTES as u64) as usize;
        page[at] = page[at].wrapping_add(1 + random.below(200) as u8);
    }
    page
}

/// What must come out for a page: its number, if it has one, or else its content.
type Outcome = (Option<u64>, Box<[u8; PAGE_BYTES]>);

fn numbered(slot: u64) -> Outcome {
    (Some(slot), Box::new([0; PAGE_BYTES]))
}

fn filled(content: [u8; PAGE_BYTES]) -> Outcome {
    (None, Box::new(content))
}

/// The outcome of every page that was pushed, by its index.
fn expected(pages: &[(u32, Push)]) -> Vec<(u32, Outcome)> {
    let outcome = |push: Push| match push {
        Push::Plain(content) => filled(content.bytes().unwrap_or([0; PAGE_BYTES])),
        Push::Known(slot) => numbered(slot),
        Push::Changed { seed, places, .. } => filled(changed(seed, places)),
    };
    pages.iter().map(|(index, push)| (*index, outcome(*push))).collect()
}

/// Pushes every page and encodes; differences are from epochs before that of the header.
fn encode(
    encoder: &mut BatchEncoder,
    header: BatchHeader,
    pages: &[(u32, Push)],
) -> (Vec<u8>, FormCounts) {
    let contents: Vec<_> = expected(pages);
    let mut batch = encoder.begin(header);
    for ((index, push), (_, outcome)) in pages.iter().zip(&contents) {
        let content = &*outcome.1;
        let pushed = match push {
            Push::Plain(Content::Zero) => batch.push_zero(*index),
            Push::Known(slot) => batch.push_known(*index, *slot),
            Push::Changed { seed, epochs, .. } => {
                let base = header.epoch.saturating_sub(*epochs);
                batch.push_differing(*index, base, &noise(*seed), content)
                    || batch.push_whole(*index, content)
            }
            Push::Plain(_) => batch.push_whole(*index, content),
        };
        assert!(pushed);
    }
    let mut bytes = Vec::new();
    let encoded = encoder.encode(batch, &mut bytes).unwrap();
    assert_eq!(encoded.bytes, bytes.len());
    assert_eq!(encoded.forms.total(), pages.len());
    assert!(bytes.len() <= BATCH_BYTES_MAX);
    (bytes, encoded.forms)
}

/// What came out for every page, by its index. Bases are found by what was pushed.
fn decoded(batch: &PageBatch<'_>, pages: &[(u32, Push)]) -> Vec<(u32, Outcome)> {
    let base = |index: u32, base_epoch: u32| {
        let found = pages.iter().find_map(|(at, push)| match push {
            Push::Changed { seed, epochs, .. } if *at == index => Some((*seed, *epochs)),
            _ => None,
        });
        let (seed, epochs) = found.expect("a page that was pushed so");
        assert_eq!(base_epoch, batch.header.epoch.saturating_sub(epochs));
        noise(seed)
    };
    let outcome = |index, form| match form {
        PageForm::Zero => filled([0; PAGE_BYTES]),
        PageForm::Known { slot } => numbered(slot),
        PageForm::Whole { content, .. } => filled(*content),
        PageForm::Differing { base_epoch, patch } => {
            let mut page = base(index, base_epoch);
            patch.apply(&mut page);
            filled(page)
        }
    };
    batch.pages().map(|(index, form)| (index, outcome(index, form))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_was_encoded_is_decoded(
        batches in prop::collection::vec(
            (
                compression(),
                any::<(u16, u32, u64, Option<u32>)>(),
                prop::collection::btree_map(any::<u32>(), push(), 0..=BATCH_PAGES_MAX),
            ),
            1..4,
        )
    ) {
        let mut encoder = BatchEncoder::new(Compression::Off).unwrap();
        let mut decoder = BatchDecoder::new().unwrap();
        for (compression, (block, epoch, sequence, keep_from), pages) in batches {
            let pages: Vec<_> = pages.into_iter().collect();
            encoder.set_compression(compression).unwrap();
            let keep_from = keep_from.map(u64::from);
            let header = BatchHeader { block, epoch, sequence, keep_from };
            let (bytes, counts) = encode(&mut encoder, header, &pages);
            let batch = decoder.decode(&bytes, |_| Some(1 << 32)).unwrap();
            prop_assert_eq!((batch.header, batch.counts()), (header, counts));
            let mut outcomes = decoded(&batch, &pages);
            outcomes.sort_by_key(|(index, _)| *index);
            prop_assert!(outcomes == expected(&pages));
            let kept = batch.pages().filter_map(|(_, form)| match form {
                PageForm::Whole { keep_as, .. } => Some(keep_as),
                _ => None,
            });
            for (at, keep_as) in (0..).zip(kept) {
                prop_assert_eq!(keep_as, keep_from.map(|first| first + at));
            }
        }
    }
}

const HEADER: BatchHeader = BatchHeader { block: 0, epoch: 9, sequence: 0, keep_from: None };

fn plain(content: impl Fn(u32) -> Content) -> Vec<(u32, Push)> {
    (0..128).map(|at| (at, Push::Plain(content(at)))).collect()
}

#[test]
fn every_page_takes_its_cheapest_form() {
    let mut encoder = BatchEncoder::new(Compression::Zstd { level: 1 }).unwrap();
    let (bytes, counts) = encode(&mut encoder, HEADER, &plain(|at| Content::Words(at.into())));
    assert_eq!(counts.of(Form::Packed), 128);
    assert!(bytes.len() < 128 * PAGE_BYTES / 10);

    let (bytes, counts) = encode(&mut encoder, HEADER, &plain(|at| Content::Noise(at.into())));
    assert_eq!(counts.of(Form::Raw), 128);
    assert!(bytes.len() < 128 * PAGE_BYTES + 50);

    assert!(encode(&mut encoder, HEADER, &plain(|_| Content::Zero)).0.len() <= 43);

    let known: Vec<_> = (0..128).map(|at| (at, Push::Known(u64::from(at) + (1 << 63)))).collect();
    assert!(encode(&mut encoder, HEADER, &known).0.len() <= 43 + 10 + 128);

    let change = |at: u32| Push::Changed { seed: at.into(), places: 1, epochs: 1 };
    let changes: Vec<_> = (0..128).map(|at| (at, change(at))).collect();
    let (bytes, counts) = encode(&mut encoder, HEADER, &changes);
    assert_eq!(counts.of(Form::Differing), 128);
    assert!(bytes.len() <= 43 + 128 * 6, "{} bytes", bytes.len());
}

#[test]
fn a_batch_is_full_at_128_pages() {
    let page = noise(1);
    let mut encoder = BatchEncoder::new(Compression::Off).unwrap();
    let mut batch = encoder.begin(HEADER);
    for index in 0..32 {
        assert!(batch.push_zero(index) && batch.push_known(index + 32, 5));
        assert!(batch.push_whole(index + 64, &page));
        assert!(batch.push_differing(index + 96, 0, &changed(1, 1), &page));
    }
    assert!(batch.is_full() && !batch.push_zero(200) && !batch.push_known(200, 1));
    assert!(!batch.push_whole(200, &page));
    assert!(!batch.push_differing(200, 0, &changed(1, 1), &page));
    assert_eq!(batch.len(), 128);
}

fn encoded<'a>(
    compression: Compression,
    header: BatchHeader,
    push: impl FnOnce(&mut BatchContent<'a>) -> bool,
) -> Result<EncodedBatch, EncodeError> {
    let mut encoder = BatchEncoder::new(compression).unwrap();
    let mut batch = encoder.begin(header);
    assert!(push(&mut batch));
    let mut output = b"before".to_vec();
    let result = encoder.encode(batch, &mut output);
    let bytes = result.as_ref().map_or(0, |encoded| encoded.bytes);
    assert_eq!(output.len(), b"before".len() + bytes, "a batch that is refused leaves nothing");
    result
}

#[test]
fn a_page_that_is_named_twice_is_refused_before_it_is_written() {
    let page = noise(1);
    let twice = encoded(Compression::Off, HEADER, |batch| {
        batch.push_whole(7, &page) && batch.push_zero(8) && batch.push_zero(7)
    });
    assert!(matches!(twice, Err(EncodeError::PageTwice { page_index: 7 })), "{twice:?}");
}

#[test]
fn numbers_to_keep_pages_under_do_not_run_out_unseen() {
    let page = noise(1);
    let kept = |keep_from| {
        let header = BatchHeader { keep_from: Some(keep_from), ..HEADER };
        let push = |batch: &mut BatchContent<'_>| batch.push_zero(3);
        let empty = encoded(Compression::Off, header, push).is_ok();
        let push = |batch: &mut BatchContent<'_>| batch.push_known(3, 5);
        assert_eq!(encoded(Compression::Off, header, push).is_ok(), empty);
        (empty, encoded(Compression::Off, header, |batch| batch.push_whole(3, &page)).is_ok())
    };
    assert_eq!(kept(u64::MAX), (false, false));
    assert_eq!(kept(u64::MAX - 1), (true, true));
}

#[test]
fn a_base_of_a_later_epoch_is_no_base() {
    let (base, page) = (changed(1, 1), noise(1));
    let mut encoder = BatchEncoder::new(Compression::Off).unwrap();
    let mut batch = encoder.begin(HEADER);
    assert!(!batch.push_differing(1, HEADER.epoch + 1, &base, &page));
    assert!(batch.is_empty());
    assert!(batch.push_differing(1, HEADER.epoch, &base, &page));
}

#[test]
fn without_compression_whatever_is_sent_whole_is_raw() {
    let words = Content::Words(3).bytes().unwrap();
    for (compression, form) in
        [(Compression::Off, Form::Raw), (Compression::Zstd { level: 1 }, Form::Packed)]
    {
        let counts = encoded(compression, HEADER, |batch| batch.push_whole(1, &words));
        assert_eq!(counts.unwrap().forms.of(form), 1, "{compression:?}");
    }
}

#[test]
fn how_much_may_differ_depends_on_what_the_page_would_cost_whole() {
    let mut encoder = BatchEncoder::new(Compression::Zstd { level: 1 }).unwrap();
    let mut differs = |base: &[u8; PAGE_BYTES], changed_bytes: usize| {
        let mut page = *base;
        page[..changed_bytes].iter_mut().for_each(|byte| *byte ^= 1);
        encoder.begin(HEADER).push_differing(1, 0, base, &page)
    };
    let (words, noise) = (Content::Words(3).bytes().unwrap(), noise(3));
    assert_eq!([2000, 2100].map(|bytes| differs(&words, bytes)), [true, false]);
    assert_eq!([2100, 3000, 3100].map(|bytes| differs(&noise, bytes)), [true, true, false]);
}
