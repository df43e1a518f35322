//! What the present month costs so far. The month's sealed windows do not change and their hours' rates neither, so each
//! member adds them up once and keeps the sums by line; a reader adds what has been sealed since, and the few windows that
//! are open. With 20,000 machines a window's summary has some 60,000 uses: some milliseconds each, 744 in a month.

use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::api::MonthCost;

use super::invoice::{InvoiceFilter, Lines, Tariff};
use super::{Ledger, LedgerError, period};
use crate::state::ledger::hour::Hour;

/// The sums of the present month's sealed windows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct SealedSums {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    /// The first window of the month.
    begin: Hour,
    /// The first window that is not in the sums.
    through: Hour,
    lines: Lines,
}

impl Ledger {
    /// What the month costs so far that the fleet's clock is in: what an invoice of it would say now.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn month_so_far(&self) -> Result<MonthCost, LedgerError> {
        let clock = self.view.local(crate::state::Fleet::clock);
        let fleet = self.frozen();
        let (tariff, filter) = (Tariff::of(&fleet), InvoiceFilter::default());
        let begin = period::month_of(clock);
        let sealed = fleet.book().sealed_before.max(begin);
        let mut kept = self.sealed_sums.of(begin);
        self.summaries(&fleet, kept.through..sealed, |summary| {
            kept.lines.add(&summary, &tariff, &filter);
            Ok(())
        })?;
        kept.through = kept.through.max(sealed);
        self.sealed_sums.keep(&kept);
        let (month, end) = period::name_and_end(begin);
        let mut lines = kept.lines;
        self.summaries(&fleet, kept.through..end, |summary| {
            lines.add(&summary, &tariff, &filter);
            Ok(())
        })?;
        let (_, projects, micro_dollars) = lines.rate(&filter)?;
        Ok(MonthCost { month, micro_dollars, projects })
    }
}

impl SealedSums {
    /// What is known of a month.
    fn of(&self, begin: Hour) -> Kept {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.begin == begin {
            true => kept.clone(),
            false => Kept { begin, through: begin, lines: Lines::default() },
        }
    }

    /// Whoever reached furthest is kept: two readers may have added at once.
    fn keep(&self, sums: &Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if (sums.begin, sums.through) > (kept.begin, kept.through) {
            *kept = sums.clone();
        }
    }
}
