//! Machines that move together and one after the other, with the real encoder, decoder, catalogue and shelf, in many
//! orders. What arrives is what was sent, whatever is lost on the way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use novacron_protocol::pages::{BatchDecoder, BatchEncoder, BatchHeader, Compression, PageForm};
use novacron_protocol::session::message::ShelfOffer;
use proptest::prelude::*;

use super::*;
use crate::migrate::cache::CacheBudget;
use crate::migrate::library::{Catalogues, Circle, Shelf, Shelves};

const LANES: usize = 4;
const BLOCK_PAGES: u64 = 1 << 20;

/// A lane of a machine of its own, and the target's end of it.
struct Lane {
    sharing: Sharing,
    processed: Arc<AtomicU64>,
    encoder: BatchEncoder,
    on_the_way: VecDeque<Vec<u8>>,
    batches: u64,
    arrived: u64,
    is_cut: bool,
    sent: BTreeMap<u32, u16>,
    held: BTreeMap<u32, u16>,
}

/// A page that holds this number, and nothing that zstd could use.
fn page(number: u16) -> Box<Content> {
    let mut page = Box::new([0; PAGE_BYTES]);
    for (at, word) in page.chunks_exact_mut(4).enumerate() {
        let mixed = (u32::from(number) << 16 | at as u32).wrapping_mul(0x9e37_79b1);
        word.copy_from_slice(&(mixed ^ mixed >> 15).to_le_bytes());
    }
    page[..2].copy_from_slice(&number.to_le_bytes());
    page
}

fn number(content: &Content) -> u16 {
    let number = u16::from_le_bytes([content[0], content[1]]);
    assert!(*content == *page(number), "a page of nobody");
    number
}

impl Lane {
    fn new(catalogue: &Arc<Catalogue>) -> Self {
        let processed = Arc::new(AtomicU64::new(0));
        let voucher = Voucher::new(Arc::clone(&processed));
        Self {
            sharing: Sharing::new(Arc::clone(catalogue), voucher),
            processed,
            encoder: BatchEncoder::new(Compression::Zstd { level: 1 }).unwrap(),
            on_the_way: VecDeque::new(),
            batches: 0,
            arrived: 0,
            is_cut: false,
            sent: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    fn begin<'a>(&mut self) -> BatchContent<'a> {
        let (block, epoch, sequence) = (0, 1, self.batches);
        self.encoder.begin(BatchHeader { block, epoch, sequence, keep_from: None })
    }

    fn send(&mut self, mut content: BatchContent<'_>) {
        if content.is_empty() {
            return;
        }
        let kept = self.sharing.keep(&mut content);
        let mut batch = Vec::new();
        self.encoder.encode(content, &mut batch).unwrap();
        kept.iter().for_each(|kept| self.sharing.sent(kept, self.batches));
        self.on_the_way.push_back(batch);
        self.batches += 1;
    }

    fn packet(&mut self, contents: &[u16]) {
        if self.is_cut {
            return;
        }
        let pages: Vec<_> = contents.iter().map(|number| page(*number)).collect();
        let mut batch = self.begin();
        for (number, content) in contents.iter().zip(&pages) {
            let page_index = self.sent.len() as u32;
            self.sent.insert(page_index, *number);
            self.sharing.place(page_index, content, &mut batch);
        }
        self.send(batch);
        while let Some(pages) = self.sharing.take_ready() {
            self.send_aside(&pages);
        }
    }

    fn send_aside(&mut self, pages: &[PageAside]) {
        let mut batch = self.begin();
        pages.iter().for_each(|page| self.sharing.place_again(page, &mut batch));
        self.send(batch);
    }

    fn settle(&mut self) {
        let now = Instant::now();
        while let Some(pages) = self.sharing.take_first(now) {
            self.send_aside(&pages);
        }
    }

    fn arrive(&mut self, shelf: &Shelf) {
        let Some(bytes) = self.on_the_way.pop_front() else { return };
        let mut decoder = BatchDecoder::new().unwrap();
        let batch = decoder.decode(&bytes, |_| Some(BLOCK_PAGES)).unwrap();
        for (page_index, form) in batch.pages() {
            let number = match form {
                PageForm::Known { slot } => number(&shelf.get(slot).unwrap()),
                PageForm::Whole { content, keep_as } => {
                    let kept = keep_as.into_iter().map(|slot| (slot, content));
                    shelf.put(kept).unwrap();
                    number(content)
                }
                other => panic!("{other:?}"),
            };
            self.held.insert(page_index, number);
        }
        self.arrived += 1;
    }

    /// The migration is cancelled, or its link lost for good: what is on the way never arrives.
    fn cut(&mut self) {
        self.is_cut = true;
        self.on_the_way.clear();
        self.sharing.voucher.end();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Packet(usize, Vec<u16>),
    Arrive(usize),
    Confirm(usize),
    Cut(usize),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = 0..LANES;
    let contents = prop::collection::vec(0_u16..60, 1..BATCH_PAGES_MAX);
    prop_oneof![
        8 => (lane.clone(), contents).prop_map(|(lane, contents)| Step::Packet(lane, contents)),
        8 => lane.clone().prop_map(Step::Arrive),
        4 => lane.clone().prop_map(Step::Confirm),
        1 => lane.prop_map(Step::Cut),
        1 => Just(Step::Forget),
    ]
}

fn shelf() -> Arc<Shelf> {
    let circle = Circle { source: "a".parse().unwrap(), source_run: 1, tenant: String::new() };
    Shelves::new(32 << 20).open(&circle, 1).unwrap()
}

fn catalogue(shelf: &Shelf, pages_max: u32) -> Arc<Catalogue> {
    let ShelfOffer { pages_max: most, .. } = shelf.offer();
    assert!(pages_max <= most);
    Arc::new(Catalogue::new([7; 32], pages_max, &CacheBudget::new(1 << 20)))
}

/// Everything that was not cut arrives.
fn finish(lanes: &mut [Lane], shelf: &Shelf) {
    for lane in lanes.iter_mut().filter(|lane| !lane.is_cut) {
        lane.settle();
        while !lane.on_the_way.is_empty() {
            lane.arrive(shelf);
        }
        lane.processed.store(lane.arrived, Ordering::Release);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_machine_arrives_as_it_was_in_any_order_whatever_is_lost(
        steps in prop::collection::vec(step(), 1..60),
        pages_max in 1_u32..400,
    ) {
        let shelf = shelf();
        let catalogue = catalogue(&shelf, pages_max);
        let mut lanes: Vec<_> = (0..LANES).map(|_| Lane::new(&catalogue)).collect();
        for step in steps {
            match step {
                Step::Packet(lane, contents) => lanes[lane].packet(&contents),
                Step::Arrive(lane) => lanes[lane].arrive(&shelf),
                Step::Confirm(lane) => {
                    lanes[lane].processed.store(lanes[lane].arrived, Ordering::Release);
                }
                Step::Cut(lane) => lanes[lane].cut(),
                Step::Forget => catalogue.forget(),
            }
        }
        finish(&mut lanes, &shelf);
        for lane in lanes.iter().filter(|lane| !lane.is_cut) {
            prop_assert_eq!(&lane.sent, &lane.held);
        }
    }
}

/// Bytes of a machine with these contents, sent to the end.
fn bytes_of(lane: &mut Lane, shelf: &Shelf, contents: &[u16]) -> usize {
    let mut bytes = 0;
    for packet in contents.chunks(BATCH_PAGES_MAX) {
        lane.packet(packet);
        bytes += lane.on_the_way.iter().map(Vec::len).sum::<usize>();
        while !lane.on_the_way.is_empty() {
            lane.arrive(shelf);
        }
    }
    lane.sharing.voucher.complete();
    assert_eq!(lane.sent, lane.held);
    bytes
}

#[test]
fn a_second_machine_sends_what_is_its_own() {
    let shelf = shelf();
    let catalogue = catalogue(&shelf, 1000);
    let contents: Vec<_> = (0..800).collect();
    let first = bytes_of(&mut Lane::new(&catalogue), &shelf, &contents);
    let mut changed = contents;
    changed.iter_mut().step_by(100).for_each(|content| *content += 1000);
    let second = bytes_of(&mut Lane::new(&catalogue), &shelf, &changed);
    assert!(first > 800 * PAGE_BYTES, "{first}");
    assert!((8 * PAGE_BYTES..10 * PAGE_BYTES).contains(&second), "{second}");
}

#[test]
fn of_machines_that_move_in_step_each_page_travels_once() {
    let shelf = shelf();
    let catalogue = catalogue(&shelf, 2000);
    let mut lanes: Vec<_> = (0..LANES).map(|_| Lane::new(&catalogue)).collect();
    let contents: Vec<_> = (0..1280).collect();
    for packet in contents.chunks(BATCH_PAGES_MAX) {
        // Nothing of it has arrived when the others come to the same pages.
        lanes.iter_mut().for_each(|lane| lane.packet(packet));
        lanes.iter_mut().for_each(|lane| lane.arrive(&shelf));
        lanes.iter().for_each(|lane| lane.processed.store(lane.arrived, Ordering::Release));
    }
    finish(&mut lanes, &shelf);
    assert!(lanes.iter().all(|lane| lane.sent == lane.held));
    assert_eq!(catalogue.reserve(2000 - 1280), Some(1280), "1280 pages were kept, not one more");
}

/// Fills the source's room with what it knows of other shelves.
fn crowd_out(catalogues: &Catalogues, run: u64) {
    for id in 100..103 {
        let shelf = ShelfOffer { id, pages_max: u32::MAX };
        let other = catalogues.open(run, &"c".parse().unwrap(), shelf).unwrap();
        assert!(other.reserve(200_000).is_some(), "more than half of the room");
    }
}

#[test]
fn what_is_forgotten_here_and_kept_there_is_in_nobodys_way() {
    let catalogues = Catalogues::default();
    let (run, shelf, target) = (catalogues.run(), shelf(), "b".parse().unwrap());
    let open = || catalogues.open(run, &target, shelf.offer()).unwrap();
    let contents: Vec<_> = (0..300).collect();
    let first = bytes_of(&mut Lane::new(&open()), &shelf, &contents);
    let mut given_up = Lane::new(&open());
    given_up.packet(&[400, 401, 402]);
    given_up.sharing.voucher.end();
    let mut late = Lane::new(&catalogue(&shelf, 1));
    late.on_the_way = std::mem::take(&mut given_up.on_the_way);
    drop(given_up);
    crowd_out(&catalogues, run);

    let mut next = Lane::new(&open());
    next.packet(&[500]);
    next.arrive(&shelf);
    // It was on the way, and the target has not heard yet that it is of no use.
    late.arrive(&shelf);
    let second = bytes_of(&mut next, &shelf, &contents);
    assert!(second.abs_diff(first) < PAGE_BYTES, "nothing is known, and all is sent: {second}");
    let third = bytes_of(&mut Lane::new(&open()), &shelf, &contents);
    assert!(third * 100 < first, "{third}");
}

#[test]
fn a_lane_that_waited_in_vain_waits_no_more() {
    let shelf = shelf();
    let catalogue = catalogue(&shelf, 2000);
    let [mut silent, mut other] = [0, 1].map(|_| Lane::new(&catalogue));
    let contents: Vec<_> = (0..300).collect();
    for packet in contents.chunks(BATCH_PAGES_MAX) {
        silent.packet(packet);
        other.packet(packet);
    }
    assert!(other.on_the_way.is_empty(), "all is put aside");
    other.settle();
    assert!(!other.sharing.is_patient);
    silent.packet(&[999]);
    other.packet(&[999]);
    while !other.on_the_way.is_empty() {
        other.arrive(&shelf);
    }
    assert_eq!(other.sent, other.held);
}
