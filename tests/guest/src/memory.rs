//! The working set: pages that are written all the time and compared with a shadow kept elsewhere.
//!
//! A page carries its number, a sequence that grows with every write, and the sum of its words. The
//! shadow remembers sequence and sum. So a page that is lost or stale has an old sequence, a torn
//! one a wrong sum, and one that landed elsewhere a wrong number.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::content::{self, Random};
use crate::orders::Sweep;
use crate::pace::Pace;
use crate::report;
use crate::tally::Tally;

/// Bytes of a page of the machine.
pub const PAGE_BYTES: usize = 4096;
const PAGE_WORDS: usize = PAGE_BYTES / 8;
const HEADER_WORDS: usize = 3;
const BODY_WORDS: usize = PAGE_WORDS - HEADER_WORDS;
/// Marks the number's word, so that a zero page is no page of ours.
const NUMBER_MARK: u64 = 0x4e43_5047_0000_0000;

/// Pages compared per second: 16 MiB/s, a few per cent of an emulated CPU.
const CHECKED_PAGES_PER_S: u64 = 4096;
/// Time between two rounds of work.
const ROUND: Duration = Duration::from_millis(10);

/// How fast the working set is written, in pages touched per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Pages in which one word of 8 bytes changes.
    pub small_pages_per_s: u64,
    /// Pages that are overwritten whole, with random bytes.
    pub full_pages_per_s: u64,
}

/// One page as it lies in memory: exactly one page of the machine, so that a page lost in a
/// migration is a page of ours.
#[derive(Debug, Clone)]
#[repr(C, align(4096))]
struct Page {
    number: u64,
    sequence: u64,
    sum: u64,
    body: [u64; BODY_WORDS],
}

/// What the page must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    sequence: u64,
    sum: u64,
}

/// The pages and their shadow.
#[derive(Debug)]
pub struct WorkingSet {
    pages: Vec<Page>,
    shadow: Vec<Expected>,
    random: Random,
    next_check: usize,
}

/// A page that is not what it must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    page: usize,
    expected: String,
    found: String,
}

impl WorkingSet {
    /// A working set whose odd pages do not compress and whose even pages do.
    pub fn filled(page_count: usize) -> Self {
        let mut set = Self {
            pages: Vec::with_capacity(page_count),
            shadow: Vec::with_capacity(page_count),
            random: Random::new(0, 0),
            next_check: 0,
        };
        for number in 0..page_count {
            let page = Page::filled(number);
            set.shadow.push(Expected { sequence: page.sequence, sum: page.sum });
            set.pages.push(page);
        }
        set
    }

    /// Changes 8 bytes of a page chosen at random.
    fn update_small(&mut self) {
        let number = self.random.below(self.pages.len());
        let place = self.random.below(BODY_WORDS);
        let word = self.random.next();
        let page = &mut self.pages[number];
        let old = std::mem::replace(&mut page.body[place], word);
        page.sum = page
            .sum
            .wrapping_sub(content::share(place, old))
            .wrapping_add(content::share(place, word));
        page.sequence += 1;
        self.shadow[number] = Expected { sequence: page.sequence, sum: page.sum };
    }

    /// Overwrites a page chosen at random with bytes that do not compress.
    fn update_full(&mut self) {
        let number = self.random.below(self.pages.len());
        let page = &mut self.pages[number];
        page.sequence += 1;
        content::fill_random(&mut page.body, &mut Random::new(number as u64, page.sequence));
        page.sum = content::sum(&page.body);
        self.shadow[number] = Expected { sequence: page.sequence, sum: page.sum };
    }

    /// Compares the next page of the round through all of them. A damaged page is made anew, so that
    /// one damage is one fault.
    fn check_next(&mut self) -> Option<Fault> {
        let number = self.next_check;
        self.next_check = (number + 1) % self.pages.len();
        let expected = self.shadow[number];
        let fault = self.pages[number].compare(number, expected)?;
        let mut page = Page::filled(number);
        page.sequence = expected.sequence + 1;
        self.shadow[number] = Expected { sequence: page.sequence, sum: page.sum };
        self.pages[number] = page;
        Some(fault)
    }
}

impl Page {
    fn filled(number: usize) -> Self {
        let mut body = [0; BODY_WORDS];
        let mut random = Random::new(number as u64, 0);
        if number % 2 == 1 {
            content::fill_random(&mut body, &mut random);
        } else {
            content::fill_structured(&mut body, &mut random);
        }
        Self { number: NUMBER_MARK | number as u64, sequence: 0, sum: content::sum(&body), body }
    }

    fn compare(&self, number: usize, expected: Expected) -> Option<Fault> {
        let body_sum = content::sum(&self.body);
        let whole = self.number == NUMBER_MARK | number as u64
            && self.sequence == expected.sequence
            && self.sum == expected.sum
            && body_sum == expected.sum;
        if whole {
            return None;
        }
        Some(Fault {
            page: number,
            expected: format!(
                "number:{number},sequence:{},sum:{:016x}",
                expected.sequence, expected.sum
            ),
            found: format!(
                "number:{},sequence:{},sum:{:016x},body_sum:{body_sum:016x}",
                self.number ^ NUMBER_MARK,
                self.sequence,
                self.sum
            ),
        })
    }
}

/// Works and checks until the program ends; an order to sweep compares every page at once.
pub fn run(mut set: WorkingSet, rates: Rates, tally: &Tally, sweeps: &Receiver<Sweep>) {
    if set.pages.is_empty() {
        return;
    }
    let now = Instant::now();
    let mut small = Pace::new(rates.small_pages_per_s, now);
    let mut full = Pace::new(rates.full_pages_per_s, now);
    let mut checks = Pace::new(CHECKED_PAGES_PER_S, now);
    loop {
        let now = Instant::now();
        (0..small.due(now)).for_each(|_| set.update_small());
        (0..full.due(now)).for_each(|_| set.update_full());
        check(&mut set, checks.due(now), tally);
        match sweeps.recv_timeout(ROUND) {
            Ok(Sweep) => sweep(&mut set, tally),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn check(set: &mut WorkingSet, pages: u64, tally: &Tally) {
    for _ in 0..pages {
        if let Some(fault) = set.check_next() {
            tally.fault(format_args!(
                "memory page={} expected={} found={}",
                fault.page, fault.expected, fault.found
            ));
        }
    }
    tally.memory_checked(pages);
}

fn sweep(set: &mut WorkingSet, tally: &Tally) {
    check(set, set.pages.len() as u64, tally);
    report::line(format_args!("swept pages={} faults={}", set.pages.len(), tally.counts().faults));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy_set() -> WorkingSet {
        let mut set = WorkingSet::filled(64);
        for _ in 0..2000 {
            set.update_small();
        }
        for _ in 0..100 {
            set.update_full();
        }
        set
    }

    fn faults(set: &mut WorkingSet) -> Vec<usize> {
        (0..set.pages.len()).filter_map(|_| set.check_next()).map(|fault| fault.page).collect()
    }

    #[test]
    fn a_page_of_ours_is_a_page_of_the_machine() {
        assert_eq!(size_of::<Page>(), PAGE_BYTES);
        assert_eq!(align_of::<Page>(), PAGE_BYTES);
    }

    #[test]
    fn an_honest_memory_is_clean() {
        assert_eq!(faults(&mut busy_set()), []);
    }

    #[test]
    fn a_stale_page_is_found_once() {
        let mut set = busy_set();
        let old = set.pages[9].clone();
        while set.shadow[9].sequence == old.sequence {
            set.update_small();
        }
        set.pages[9] = old;
        assert_eq!(faults(&mut set), [9]);
        assert_eq!(faults(&mut set), []);
    }

    #[test]
    fn a_torn_page_is_found() {
        let mut set = busy_set();
        let mut torn = set.pages[5].clone();
        torn.body[300..].copy_from_slice(&Page::filled(7).body[300..]);
        set.pages[5] = torn;
        assert_eq!(faults(&mut set), [5]);
    }

    #[test]
    fn swapped_and_zeroed_pages_are_found() {
        let mut set = busy_set();
        set.pages.swap(10, 20);
        set.pages[30] = Page { number: 0, sequence: 0, sum: 0, body: [0; BODY_WORDS] };
        assert_eq!(faults(&mut set), [10, 20, 30]);
    }

    #[test]
    fn half_of_the_pages_look_random() {
        let distinct =
            |page: &Page| page.body.iter().collect::<std::collections::HashSet<_>>().len();
        assert!(distinct(&Page::filled(1)) > 500);
        assert!(distinct(&Page::filled(2)) < 150);
    }
}
