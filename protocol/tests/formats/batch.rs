//! Page batches against themselves.

use novacron_protocol::pages::batch::{BATCH_BYTES_MAX, PayloadKind};
use novacron_protocol::pages::{
    BATCH_PAGES_MAX, BatchDecoder, BatchEncoder, BatchHeader, BatchPages, Compression, PAGE_BYTES,
    Page,
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

fn encode(
    encoder: &mut BatchEncoder,
    header: BatchHeader,
    pages: &[(u32, Content)],
) -> (Vec<u8>, PayloadKind) {
    let (mut named, mut payload, mut bytes) = (BatchPages::new(), Vec::new(), Vec::new());
    for (index, content) in pages {
        match content.bytes() {
            None => assert!(named.push_zero(*index)),
            Some(page) => {
                assert!(named.push_data(*index));
                payload.extend_from_slice(&page);
            }
        }
    }
    let encoded = encoder.encode(header, &named, &payload, &mut bytes).unwrap();
    assert_eq!(encoded.bytes, bytes.len());
    assert_eq!(encoded.memory_bytes, pages.len() * PAGE_BYTES);
    assert!(bytes.len() <= BATCH_BYTES_MAX);
    (bytes, encoded.payload)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_was_encoded_is_decoded(
        batches in prop::collection::vec(
            (
                compression(),
                any::<(u16, u32, u64)>(),
                prop::collection::vec((any::<u32>(), content()), 0..=BATCH_PAGES_MAX),
            ),
            1..4,
        )
    ) {
        let mut encoder = BatchEncoder::new(Compression::Off).unwrap();
        let mut decoder = BatchDecoder::new().unwrap();
        for (compression, (block, epoch, sequence), pages) in batches {
            encoder.set_compression(compression).unwrap();
            let header = BatchHeader { block, epoch, sequence };
            let (bytes, _) = encode(&mut encoder, header, &pages);
            let decoded = decoder.decode(&bytes, |_| Some(1 << 32)).unwrap();
            prop_assert_eq!(decoded.header, header);
            let expected = pages.iter().filter(|(_, content)| content.bytes().is_none());
            let expected = expected.chain(pages.iter().filter(|(_, content)| content.bytes().is_some()));
            prop_assert_eq!(decoded.pages().count(), pages.len());
            for ((index, page), (expected_index, content)) in decoded.pages().zip(expected) {
                prop_assert_eq!(index, *expected_index);
                match content.bytes() {
                    None => prop_assert_eq!(page, Page::Zero),
                    Some(bytes) => prop_assert!(page == Page::Data(&bytes)),
                }
            }
        }
    }
}

#[test]
fn compresses_what_can_be_compressed() {
    let mut encoder = BatchEncoder::new(Compression::Zstd { level: 1 }).unwrap();
    let header = BatchHeader { block: 0, epoch: 1, sequence: 0 };
    let words: Vec<_> = (0..128).map(|at| (at, Content::Words(at.into()))).collect();
    let (bytes, kind) = encode(&mut encoder, header, &words);
    assert_eq!(kind, PayloadKind::Zstd);
    assert!(bytes.len() < 128 * PAGE_BYTES / 10);

    let noise: Vec<_> = (0..128).map(|at| (at, Content::Noise(at.into()))).collect();
    assert_eq!(encode(&mut encoder, header, &noise).1, PayloadKind::Raw);

    let zero: Vec<_> = (1000..1128).map(|at| (at, Content::Zero)).collect();
    assert!(encode(&mut encoder, header, &zero).0.len() <= 27);
}

#[test]
fn a_batch_is_full_at_128_pages() {
    let mut pages = BatchPages::new();
    for index in 0..64 {
        assert!(pages.push_zero(index) && pages.push_data(index + 64));
    }
    assert!(pages.is_full() && !pages.push_zero(200) && !pages.push_data(200));
    pages.clear();
    assert!(pages.is_empty());
}
