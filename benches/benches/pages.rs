//! What happens to a page, in GB of guest memory per second and core. `memcpy` of the same pages is the limit:
//! whoever looks at every byte once cannot be faster.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use novacron_benches::corpus;
use novacron_protocol::pages::{
    BATCH_PAGES_MAX, BatchContent, BatchDecoder, BatchEncoder, BatchHeader, Compression,
    ContentHash, PAGE_BYTES, Page, PageForm, PageHasher, PageTable, compressible,
};

/// 32 MiB: more than the caches of a core, as a guest's memory is.
const BATCHES: usize = 64;
const PAGES: u32 = (BATCHES * BATCH_PAGES_MAX) as u32;
const SEED: u64 = 7;

/// Every page of the corpus, by batches, and the batches on the wire.
struct Corpus {
    payloads: Vec<Vec<u8>>,
}

impl Corpus {
    fn new() -> Self {
        Self { payloads: corpus::batches(BATCHES) }
    }

    /// Half as much, without the pages that do not compress.
    fn of_text() -> Self {
        let all = corpus::batches(BATCHES).concat();
        let (pages, _) = all.as_chunks::<PAGE_BYTES>();
        let text: Vec<u8> = pages.iter().step_by(2).flatten().copied().collect();
        let payloads = text.chunks(BATCH_PAGES_MAX * PAGE_BYTES).map(<[u8]>::to_vec).collect();
        Self { payloads }
    }

    fn bytes(&self) -> u64 {
        self.payloads.iter().map(|payload| payload.len() as u64).sum()
    }

    fn encoded(&self, compression: Compression) -> Vec<Vec<u8>> {
        let mut encoder = BatchEncoder::new(compression).expect("an encoder");
        let encode = |payload: &Vec<u8>| {
            let mut output = Vec::new();
            let content = whole(&mut encoder, payload);
            encoder.encode(content, &mut output).expect("a batch");
            output
        };
        self.payloads.iter().map(encode).collect()
    }

    fn hashes(&self) -> Vec<ContentHash> {
        let hasher = PageHasher::new(SEED);
        self.each_page().map(|bytes| hasher.hash(Page::Data(bytes))).collect()
    }

    fn each_page(&self) -> impl Iterator<Item = &[u8; PAGE_BYTES]> {
        self.payloads.iter().flat_map(|payload| payload.as_chunks::<PAGE_BYTES>().0)
    }
}

const HEADER: BatchHeader = BatchHeader { block: 0, epoch: 2, sequence: 1, keep_from: None };

/// A batch of pages with their contents.
fn whole<'a>(encoder: &mut BatchEncoder, payload: &'a [u8]) -> BatchContent<'a> {
    let mut content = encoder.begin(HEADER);
    let (pages, _) = payload.as_chunks::<PAGE_BYTES>();
    let fits = (0..).zip(pages).all(|(index, page)| content.push_whole(index, page));
    assert!(fits, "a batch has room for a batch");
    content
}

/// The pages of a payload with so many words of each changed.
fn changed(payload: &[u8], words: usize) -> Vec<u8> {
    let mut changed = payload.to_vec();
    for (number, page) in changed.chunks_exact_mut(PAGE_BYTES).enumerate() {
        for word in 0..words {
            let at = (number * 37 + word * PAGE_BYTES / words / 8 * 8) % PAGE_BYTES / 8 * 8;
            page[at..at + 8].iter_mut().for_each(|byte| *byte ^= 0x5a);
        }
    }
    changed
}

fn pages(criterion: &mut Criterion) {
    let corpus = Corpus::new();
    let mut group = criterion.benchmark_group("pages");
    group.throughput(Throughput::BytesDecimal(corpus.bytes()));
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    memcpy(&mut group, &corpus);
    hash(&mut group, &corpus);
    admit(&mut group, &corpus);
    probe(&mut group, &corpus);
    for words in [1, 3, 24] {
        differ(&mut group, &corpus, words);
    }
    for (name, compression) in
        [("raw", Compression::Off), ("zstd 1", Compression::Zstd { level: 1 })]
    {
        encode(&mut group, &corpus, name, compression);
        decode(&mut group, &corpus, name, compression);
    }
    group.finish();
}

/// The half that compresses, alone: what each level takes and leaves.
fn levels(criterion: &mut Criterion) {
    let corpus = Corpus::of_text();
    let mut group = criterion.benchmark_group("levels");
    group.throughput(Throughput::BytesDecimal(corpus.bytes()));
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    for level in [-5, -1, 1, 3, 6, 9] {
        let compression = Compression::Zstd { level };
        let left: usize = corpus.encoded(compression).iter().map(Vec::len).sum();
        let name = format!("zstd {level}");
        println!("{name} leaves {:.1} %", 100.0 * left as f64 / corpus.bytes() as f64);
        encode(&mut group, &corpus, &name, compression);
        decode(&mut group, &corpus, &name, compression);
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

/// Whether compressing is worth trying: asked of every page that is sent whole.
fn probe(group: &mut BenchmarkGroup<'_, WallTime>, corpus: &Corpus) {
    group.bench_function("probe", |bencher| {
        bencher.iter(|| {
            for page in corpus.each_page() {
                black_box(compressible::worth_trying(page));
            }
        });
    });
}

/// Pages of which a few words changed: finding what did, and putting it back.
fn differ(group: &mut BenchmarkGroup<'_, WallTime>, corpus: &Corpus, words: usize) {
    let payload = &corpus.payloads.concat();
    let changed = changed(payload, words);
    let (old, _) = payload.as_chunks::<PAGE_BYTES>();
    let (new, _) = changed.as_chunks::<PAGE_BYTES>();
    let mut encoder = BatchEncoder::new(Compression::Off).expect("an encoder");
    let mut encode = |at: usize, output: &mut Vec<u8>| {
        let mut content = encoder.begin(HEADER);
        let pages = at..at + BATCH_PAGES_MAX;
        for (index, (old, new)) in (0..).zip(old[pages.clone()].iter().zip(&new[pages])) {
            assert!(content.push_differing(index, 1, old, new), "few words are a difference");
        }
        encoder.encode(content, output).expect("a batch");
    };
    group.bench_function(format!("encode {words} changed words"), |bencher| {
        let mut output = Vec::new();
        bencher.iter(|| {
            for batch in 0..BATCHES {
                output.clear();
                encode(batch * BATCH_PAGES_MAX, &mut output);
                black_box(&output);
            }
        });
    });
    let mut batch = Vec::new();
    encode(0, &mut batch);
    let mut decoder = BatchDecoder::new().expect("a decoder");
    let mut page = old[0];
    group.bench_function(format!("decode and apply {words} changed words"), |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCHES {
                let decoded = decoder.decode(&batch, |_| Some(u64::from(PAGES))).expect("a batch");
                for (_, form) in decoded.pages() {
                    if let PageForm::Differing { patch, .. } = form {
                        patch.apply(&mut page);
                    }
                }
            }
            black_box(&page);
        });
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
            for payload in &corpus.payloads {
                output.clear();
                let content = whole(&mut encoder, payload);
                black_box(encoder.encode(content, &mut output).expect("a batch"));
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

criterion_group!(benches, pages, levels);
criterion_main!(benches);
