//! One lane's part in what machines share: which pages the target has from others, which it shall keep for others, and
//! which wait until the target has confirmed what another lane has just sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use novacron_protocol::pages::{BATCH_PAGES_MAX, BatchContent, PAGE_BYTES};

use crate::migrate::library::{Catalogue, Find, StrongHash, Voucher};

/// Pages that a lane puts aside at most: 8 MiB. At 1 Gbit/s a page is confirmed some 20 ms after it was given to the
/// link, 2.5 MB later.
const ASIDE_MAX: usize = 2048;

/// A round's end waits for confirmations only if more pages than this wait for one: 1 MiB is sent in the time that a
/// confirmation takes.
const ASIDE_WORTH_WAITING: usize = 256;

/// How long a confirmation is waited for: the link may be slow, or the other machine's link away. Then pages are sent.
const CONFIRMATION_PATIENCE: Duration = Duration::from_millis(250);

type Content = [u8; PAGE_BYTES];

/// A page whose content another lane has sent a moment ago.
#[derive(Debug)]
pub(super) struct PageAside {
    pub page_index: u32,
    pub content: Box<Content>,
    hash: StrongHash,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sharing {
    catalogue: Arc<Catalogue>,
    voucher: Arc<Voucher>,
    aside: VecDeque<PageAside>,
    /// Pages that the batch under way sends whole.
    whole: Vec<(u32, StrongHash)>,
    /// Whether confirmations come in time. A lane that waited in vain does not wait again.
    is_patient: bool,
}

/// What a batch that is sent brings to the shelf.
#[derive(Debug)]
pub(super) struct Kept {
    contents: Vec<StrongHash>,
    first: u64,
}

impl Sharing {
    pub(super) fn new(catalogue: Arc<Catalogue>, voucher: Arc<Voucher>) -> Self {
        Self { catalogue, voucher, aside: VecDeque::new(), whole: Vec::new(), is_patient: true }
    }

    /// A page of a packet that would be sent whole: by its number, put aside, or whole.
    pub(super) fn place<'a>(
        &mut self,
        page_index: u32,
        content: &'a Content,
        batch: &mut BatchContent<'a>,
    ) {
        let hash = self.catalogue.hash(content);
        let has_room = self.is_patient && self.aside.len() < ASIDE_MAX;
        if has_room && self.catalogue.find(hash, &self.voucher) == Find::Pending {
            self.aside.push_back(PageAside { page_index, content: Box::new(*content), hash });
        } else {
            self.place_hashed(page_index, hash, content, batch);
        }
    }

    /// A page that was put aside: by its number, or whole.
    pub(super) fn place_again<'a>(&mut self, page: &'a PageAside, batch: &mut BatchContent<'a>) {
        self.place_hashed(page.page_index, page.hash, &page.content, batch);
    }

    fn place_hashed<'a>(
        &mut self,
        page_index: u32,
        hash: StrongHash,
        content: &'a Content,
        batch: &mut BatchContent<'a>,
    ) {
        // Nobody places more pages than a batch has room for.
        let _ = match self.catalogue.find(hash, &self.voucher) {
            Find::Known(slot) => batch.push_known(page_index, slot),
            Find::Pending | Find::Absent => {
                self.whole.push((page_index, hash));
                batch.push_whole(page_index, content)
            }
        };
    }

    /// Numbers the whole pages of a batch of which every whole page was placed here, if there are numbers left.
    pub(super) fn keep(&mut self, batch: &mut BatchContent<'_>) -> Option<Kept> {
        let whole = std::mem::take(&mut self.whole);
        if whole.is_empty() || whole.len() != batch.whole_pages() {
            return None;
        }
        let hash_of =
            |index| whole.iter().find(|(known, _)| *known == index).map(|(_, hash)| *hash);
        let contents: Vec<_> = batch.whole_indexes().filter_map(hash_of).collect();
        let first = self.catalogue.reserve(contents.len() as u64)?;
        batch.keep_from(first);
        Some(Kept { contents, first })
    }

    /// The batch of this number is sent, and nothing before it on its lane is missing.
    pub(super) fn sent(&self, kept: &Kept, batch: u64) {
        self.catalogue.enter(&kept.contents, kept.first, batch, &self.voucher);
    }

    /// Pages that are no longer to be put aside, if there are enough for a batch: those that are confirmed, or all when
    /// there is no room for more. Waits in the latter case.
    pub(super) fn take_ready(&mut self) -> Option<Vec<PageAside>> {
        if !self.is_patient || self.aside.len() >= ASIDE_MAX {
            return self.take_first(Instant::now() + CONFIRMATION_PATIENCE);
        }
        let last = self.aside.get(BATCH_PAGES_MAX - 1)?;
        let is_pending =
            |page: &PageAside| self.catalogue.find(page.hash, &self.voucher) == Find::Pending;
        if is_pending(last) {
            return None;
        }
        let (pending, ready): (Vec<_>, Vec<_>) =
            self.aside.drain(..BATCH_PAGES_MAX).partition(is_pending);
        self.aside.extend(pending);
        Some(ready)
    }

    /// Until when the end of a round waits for confirmations.
    pub(super) fn round_patience(&self) -> Instant {
        let is_worth_it = self.aside.len() > ASIDE_WORTH_WAITING;
        Instant::now() + if is_worth_it { CONFIRMATION_PATIENCE } else { Duration::ZERO }
    }

    /// Pages for one batch of all that are put aside; waits for their confirmation until then. `None`: there are none.
    pub(super) fn take_first(&mut self, deadline: Instant) -> Option<Vec<PageAside>> {
        let count = self.aside.len().min(BATCH_PAGES_MAX);
        let last = self.aside.get(count.checked_sub(1)?)?;
        if self.is_patient {
            let found = self.catalogue.find_until(last.hash, &self.voucher, deadline);
            self.is_patient = found != Find::Pending;
        }
        Some(self.aside.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests;
