//! Corrections: an entry is never changed. What is wrong is taken back by a second entry, and what is right is posted by
//! a third; both name the first, and say who wanted it and why.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{NodeName, ProjectName, VmId};
use novacron_protocol::limits::CORRECTION_REASON_BYTES_MAX;
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::account::Direction;
use super::batch::{Draft, Note, Posting};
use super::coverage::window_for;
use super::entry::{Correction, Entry, EntryId, QUANTITY_MAX, What};
use super::hour::Hour;
use crate::state::audit::Subject;
use crate::state::change::Change;
use crate::state::event::About;
use crate::state::fleet::{Applying, Fleet};
use crate::state::reply::{Accepted, Refusal, Reply};
use crate::state::table::{Key, ROW_BYTES_MAX};

/// Entries that may ever be corrected: each leaves a row of some 50 bytes.
pub const CORRECTIONS_MAX: usize = 100_000;

/// A correction that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectUsage {
    /// The entry that is wrong.
    pub entry: EntryId,
    /// How much would have been right; nothing at all, if 0.
    pub quantity: u128,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub actor: String,
    /// The entry as the proposer read it from its archive, if its window is sealed. What it says was checked against
    /// the hash in the window's header, and is checked again by whoever verifies the ledger.
    pub original: Option<Original>,
}

/// An entry that is to be corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The machine.
    pub vm: VmId,
    /// The project that used.
    pub project: ProjectName,
    /// The node that provided.
    pub provider: NodeName,
    /// Of what.
    pub meter: Meter,
    /// The hour of the use.
    pub used: Hour,
    /// How much.
    pub quantity: u128,
    /// Which way.
    pub is_reversal: bool,
}

impl From<&Posting<'_>> for Original {
    fn from(posting: &Posting<'_>) -> Self {
        Self {
            vm: posting.vm,
            project: posting.project.clone(),
            provider: posting.batch.provider.clone(),
            meter: posting.entry.meter,
            used: posting.entry.used(),
            quantity: posting.entry.quantity(),
            is_reversal: posting.entry.direction() == Direction::TakenBack,
        }
    }
}

/// That an entry was corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrected {
    /// The entry that takes it back.
    pub reversal: EntryId,
    /// When.
    pub at: Timestamp,
}

impl Message for Corrected {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "row of a corrected entry";
}

impl Key for EntryId {
    fn encode(&self) -> Vec<u8> {
        [self.window.0.to_be_bytes(), self.index.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (window, index) = bytes.split_first_chunk::<8>()?;
        let index = u64::from_be_bytes(index.try_into().ok()?);
        Some(Self { window: Hour(u64::from_be_bytes(*window)), index })
    }
}

impl Fleet {
    /// Whether and by what an entry was corrected.
    pub fn corrected(&self, entry: EntryId) -> Option<&Corrected> {
        self.ledger_corrected.get(&entry)
    }

    pub(in crate::state) fn correct_usage(
        &mut self,
        now: &mut Applying,
        asked: &CorrectUsage,
    ) -> Reply {
        let original = self.original(asked)?;
        self.check_correction(asked, &original)?;
        let present = Hour::of(now.at);
        let window = window_for(present, self.book().sealed_before, present);
        let mut draft = Draft::default();
        let party = draft.party(original.vm, &original.project);
        let correction = |quantity| {
            let (original, used) = (asked.entry, original.used);
            Correction { original, used, quantity }
        };
        let reversal = What::Reversal(correction(original.quantity));
        draft.push(window, &Entry { party, meter: original.meter, what: reversal });
        if asked.quantity > 0 {
            let replacement = What::Replacement(correction(asked.quantity));
            draft.push(window, &Entry { party, meter: original.meter, what: replacement });
        }
        let index = self.book().last_index + 1;
        let note = Note { actor: asked.actor.clone(), reason: asked.reason.clone() };
        self.write_draft(now, window, &original.provider, Some(note), draft);
        let reversal = EntryId { window, index };
        self.ledger_corrected.insert(asked.entry, Corrected { reversal, at: now.at });
        self.emit_correction(now, asked, &original);
        Ok(Accepted::Correction(reversal))
    }

    fn emit_correction(&mut self, now: &mut Applying, asked: &CorrectUsage, original: &Original) {
        // Texts: quantities may be larger than numbers in JSON are exact.
        let (wrong, right) = (original.quantity.to_string(), asked.quantity.to_string());
        let message = format!(
            "entry {}/{} of the ledger says {right} instead of {wrong}",
            asked.entry.window, asked.entry.index
        );
        let about = About {
            vm: Some(original.vm),
            node: Some(original.provider.clone()),
            project: Some(original.project.clone()),
            ..About::of(Subject::LedgerEntry(asked.entry))
        };
        let about = about.with(Change::field("quantity", wrong, right));
        self.emit(now, EventKind::LedgerCorrected, about, message);
    }

    /// The entry that is wrong: the fleet's own knowledge of it as long as its window is open.
    fn original(&self, asked: &CorrectUsage) -> Result<Original, Refusal> {
        let id = asked.entry;
        if let Some(posting) = self.open_entry(id) {
            return Ok(Original::from(&posting));
        }
        let header = self.sealed_window(id.window);
        let is_there = header
            .is_some_and(|header| (header.first_index..=header.last_index).contains(&id.index));
        let original = asked.original.clone().filter(|_| is_there);
        original.ok_or(Refusal::NoSuchEntry(id))
    }

    fn check_correction(&self, asked: &CorrectUsage, original: &Original) -> Result<(), Refusal> {
        let invalid = |field: &str, problem: String| {
            Err(Refusal::Invalid { field: field.to_owned(), problem })
        };
        if self.corrected(asked.entry).is_some() {
            return Err(Refusal::AlreadyCorrected(asked.entry));
        }
        if original.is_reversal {
            let text = "this entry takes another one back; correct what replaced that one";
            return Err(Refusal::Conflict(text.to_owned()));
        }
        if asked.quantity > QUANTITY_MAX || original.quantity > QUANTITY_MAX {
            return invalid("quantity", format!("at most {QUANTITY_MAX}"));
        }
        if asked.quantity == original.quantity {
            return invalid("quantity", format!("the entry says {} already", asked.quantity));
        }
        if asked.reason.trim().is_empty() || asked.reason.len() > CORRECTION_REASON_BYTES_MAX {
            return invalid("reason", format!("needed, 1 to {CORRECTION_REASON_BYTES_MAX} bytes"));
        }
        if self.ledger_corrected.len() >= CORRECTIONS_MAX {
            return Err(Refusal::Full(format!("{CORRECTIONS_MAX} corrections")));
        }
        Ok(())
    }
}
