//! What happens to a page, in GB of guest memory per second and core. `memcpy` of the same pages is the limit:
//! whoever looks at every byte once cannot be faster.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use novacron_benches::corpus;
use novacron_protocol::pages::{
    BATCH_PAGES_MAX, BatchDecoder, BatchEncoder, BatchHeader, BatchPages, Compression, ContentHash,
    PAGE_BYTES, Page, PageHasher, PageTable,
};

/// 32 MiB: more than the caches of a core, as a guest's memory is.
const BATCHES: usize = 64;
const PAGES: u32 = (BATCHES * BATCH_PAGES_MAX) as u32;
const SEED: u64 = 7;

/// Every page of the corpus, by batches, and the batches on the wire.
struct Corpus {
    payloads: Vec<Vec<u8>>,
    pages: Vec<BatchPages>,
}

impl Corpus {
    fn new() -> Self {
        let payloads = corpus::batches(BATCHES);
        let pages = (0..payloads.len()).map(batch_pages).collect();
        Self { payloads, pages }
    }

    fn bytes(&self) -> u64 {
        self.payloads.iter().map(|payload| payload.len() as u64).sum()
    }

    fn encoded(&self, compression: Compression) -> Vec<Vec<u8>> {
        let mut encoder = BatchEncoder::new(compression).expect("an encoder");
        let encode = |(pages, payload): (&BatchPages, &Vec<u8>)| {
            let mut output = Vec::new();
            encoder.encode(HEADER, pages, payload, &mut output).expect("a batch");
            output
        };
        self.pages.iter().zip(&self.payloads).map(encode).collect()
    }

    fn hashes(&self) -> Vec<ContentHash> {
        let hasher = PageHasher::new(SEED);
        self.each_page().map(|bytes| hasher.hash(Page::Data(bytes))).collect()
    }

    fn each_page(&self) -> impl Iterator<Item = &[u8; PAGE_BYTES]> {
        self.payloads.iter().flat_map(|payload| payload.as_chunks::<PAGE_BYTES>().0)
    }
}

const HEADER: BatchHeader = BatchHeader { block: 0, epoch: 1, sequence: 1 };

fn batch_pages(batch: usize) -> BatchPages {
    let mut pages = BatchPages::new();
    let first = (batch * BATCH_PAGES_MAX) as u32;
    let fits = (first..first + BATCH_PAGES_MAX as u32).all(|index| pages.push_data(index));
    assert!(fits, "a batch has room for a batch");
    pages
}

fn pages(criterion: &mut Criterion) {
    let corpus = Corpus::new();
    let mut group = criterion.benchmark_group("pages");
    group.throughput(Throughput::BytesDecimal(corpus.bytes()));
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    memcpy(&mut group, &corpus);
    hash(&mut group, &corpus);
    admit(&mut group, &corpus);
    for (name, compression) in [
        ("raw", Compression::Off),
        ("zstd 1", Compression::Zstd { level: 1 }),
        ("zstd -1", Compression::Zstd { level: -1 }),
    ] {
        encode(&mut group, &corpus, name, compression);
        decode(&mut group, &corpus, name, compression);
    }
    group.finish();
}

fn memcpy(group: &mut BenchmarkGroup<'_, WallTime>, corpus: &Corpus) {
    let mut copy = corpus.payloads.clone();
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| {
            for (from, to) in corpus.payloads.iter().zip(&mut copy) {
                to.copy_from_slice(black_box(from));
            }
            black_box(&copy);
        });
    });
}

fn hash(group: &mut BenchmarkGroup<'_, WallTime>, corpus: &Corpus) {
    let hasher = PageHasher::new(SEED);
    group.bench_function("hash", |bencher| {
        bencher.iter(|| {
            for bytes in corpus.each_page() {
                black_box(hasher.hash(Page::Data(bytes)));
            }
        });
    });
}

/// The table alone: every page is new in the first epoch, as it is when nothing was sent yet.
fn admit(group: &mut BenchmarkGroup<'_, WallTime>, corpus: &Corpus) {
    let hashes = corpus.hashes();
    group.bench_function("admit", |bencher| {
        bencher.iter_batched_ref(
            || PageTable::new(PAGES),
            |table| {
                for (index, hash) in (0..).zip(&hashes) {
                    black_box(table.admit(index, 1, *hash).expect("a page of the table"));
                }
            },
            criterion::BatchSize::LargeInput,
        );
    });
}

fn encode(
    group: &mut BenchmarkGroup<'_, WallTime>,
    corpus: &Corpus,
    name: &str,
    compression: Compression,
) {
    let mut encoder = BatchEncoder::new(compression).expect("an encoder");
    let mut output = Vec::new();
    group.bench_function(format!("encode {name}"), |bencher| {
        bencher.iter(|| {
            for (pages, payload) in corpus.pages.iter().zip(&corpus.payloads) {
                output.clear();
                black_box(encoder.encode(HEADER, pages, payload, &mut output).expect("a batch"));
            }
        });
    });
}

fn decode(
    group: &mut BenchmarkGroup<'_, WallTime>,
    corpus: &Corpus,
    name: &str,
    compression: Compression,
) {
    let batches = corpus.encoded(compression);
    let mut decoder = BatchDecoder::new().expect("a decoder");
    group.bench_function(format!("decode {name}"), |bencher| {
        bencher.iter(|| {
            for batch in &batches {
                let decoded = decoder.decode(batch, |_| Some(u64::from(PAGES))).expect("a batch");
                black_box(decoded.pages().count());
            }
        });
    });
}

criterion_group!(benches, pages);
criterion_main!(benches);
