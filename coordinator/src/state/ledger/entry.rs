//! One entry of the ledger, and its compact form in a batch.
//!
//! ```text
//! byte    8 · kind + number of the meter
//! varint  which party of the batch
//! then, by kind:
//!   0 interval     generation · start (seconds from the window's begin, zigzag) · seconds · level
//!   1 migration    second (as above) · quantity · 16 bytes id of the migration
//!   2 reversal     window · index of the original · hour of use · quantity (high and low 64 bits)
//!   3 replacement  as a reversal
//! ```

use novacron_protocol::ids::{Generation, MigrationId};
use novacron_protocol::pages::varint;
use novacron_protocol::usage::{HOUR_S, Meter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::account::{Direction, meter_of_number};
use super::hour::Hour;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryId {
    /// Its window.
    pub window: Hour,
    /// Its number.
    pub index: u64,
}

/// What an entry says, apart from whom it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which party of its batch it is about.
    pub party: u16,
    /// Of what.
    pub meter: Meter,
    /// How much, when and why.
    pub what: What,
}

/// How much, when and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A meter stood at a level for some seconds.
    Interval {
        /// The generation for which the machine was where it was measured.
        generation: Generation,
        /// The first second.
        start_s: u64,
        /// The second after the last one, in the same hour.
        end_s: u64,
        /// The level.
        level: u64,
    },
    /// A migration completed.
    Migration {
        /// When.
        at_s: u64,
        /// How much of the meter it took.
        quantity: u64,
        /// Which.
        migration: MigrationId,
    },
    /// The whole of another entry is taken back.
    Reversal(Correction),
    /// What is right instead of an entry that was taken back.
    Replacement(Correction),
}

/// What a correction says of the entry that it corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correction {
    /// The entry.
    pub original: EntryId,
    /// The hour of its use.
    pub used: Hour,
    /// How much is taken back, or right.
    pub quantity: u128,
}

impl Entry {
    /// How much, without its direction.
    pub fn quantity(&self) -> u128 {
        match self.what {
            What::Interval { start_s, end_s, level, .. } => {
                u128::from(level) * u128::from(end_s.saturating_sub(start_s))
            }
            What::Migration { quantity, .. } => u128::from(quantity),
            What::Reversal(correction) | What::Replacement(correction) => correction.quantity,
        }
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        match self.what {
            What::Reversal(_) => Direction::TakenBack,
            _ => Direction::Used,
        }
    }

    /// How much the project used more. A quantity is below 2¹²⁷ (see [`QUANTITY_MAX`]).
    pub fn net(&self) -> i128 {
        let quantity = i128::try_from(self.quantity()).unwrap_or(i128::MAX);
        match self.direction() {
            Direction::Used => quantity,
            Direction::TakenBack => -quantity,
        }
    }

    /// The hour of the use, which decides the price: that of its window unless it came late.
    pub fn used(&self) -> Hour {
        match self.what {
            What::Interval { start_s, .. } => Hour::of_s(start_s),
            What::Migration { at_s, .. } => Hour::of_s(at_s),
            What::Reversal(correction) | What::Replacement(correction) => correction.used,
        }
    }
}

/// The most that a correction may say is right: 2⁹⁶ of any unit, far above what an interval can be (2⁷⁶), and so far
/// below a `u128` that sums of all entries stay in one.
pub const QUANTITY_MAX: u128 = 1 << 96;

const KINDS_STEP: u8 = 8;

/// Appends an entry of a window.
pub(super) fn put(window: Hour, entry: &Entry, output: &mut Vec<u8>) {
    let kind = match entry.what {
        What::Interval { .. } => 0,
        What::Migration { .. } => 1,
        What::Reversal(_) => 2,
        What::Replacement(_) => 3,
    };
    output.push(kind * KINDS_STEP + entry.meter.number());
    varint::put(u64::from(entry.party), output);
    match entry.what {
        What::Interval { generation, start_s, end_s, level } => {
            varint::put(generation.0, output);
            put_second(window, start_s, output);
            varint::put(end_s.saturating_sub(start_s), output);
            varint::put(level, output);
        }
        What::Migration { at_s, quantity, migration } => {
            put_second(window, at_s, output);
            varint::put(quantity, output);
            output.extend_from_slice(migration.0.as_bytes());
        }
        What::Reversal(correction) | What::Replacement(correction) => {
            varint::put(correction.original.window.0, output);
            varint::put(correction.original.index, output);
            varint::put(correction.used.0, output);
            varint::put((correction.quantity >> 64) as u64, output);
            varint::put(correction.quantity as u64, output);
        }
    }
}

fn put_second(window: Hour, second: u64, output: &mut Vec<u8>) {
    let distance = second.wrapping_sub(window.begin_s()) as i64;
    varint::put(varint::zigzag(distance), output);
}

/// The entry of a window at the front of `bytes`, which are cut.
pub(super) fn take(window: Hour, bytes: &mut &[u8]) -> Option<Entry> {
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    let meter = meter_of_number(head % KINDS_STEP)?;
    let party = u16::try_from(varint::take(bytes)?).ok()?;
    let what = match head / KINDS_STEP {
        0 => take_interval(window, bytes)?,
        1 => take_migration(window, bytes)?,
        2 => What::Reversal(take_correction(bytes)?),
        3 => What::Replacement(take_correction(bytes)?),
        _ => return None,
    };
    Some(Entry { party, meter, what })
}

fn take_second(window: Hour, bytes: &mut &[u8]) -> Option<u64> {
    let distance = varint::unzigzag(varint::take(bytes)?);
    window.begin_s().checked_add_signed(distance)
}

fn take_interval(window: Hour, bytes: &mut &[u8]) -> Option<What> {
    let generation = Generation(varint::take(bytes)?);
    let start_s = take_second(window, bytes)?;
    let seconds = varint::take(bytes)?;
    let end_s = start_s.checked_add(seconds).filter(|_| (1..=HOUR_S).contains(&seconds))?;
    Some(What::Interval { generation, start_s, end_s, level: varint::take(bytes)? })
}

fn take_migration(window: Hour, bytes: &mut &[u8]) -> Option<What> {
    let at_s = take_second(window, bytes)?;
    let quantity = varint::take(bytes)?;
    let (id, rest) = bytes.split_first_chunk::<16>()?;
    *bytes = rest;
    Some(What::Migration { at_s, quantity, migration: MigrationId(Uuid::from_bytes(*id)) })
}

fn take_correction(bytes: &mut &[u8]) -> Option<Correction> {
    let window = Hour(varint::take(bytes)?);
    let original = EntryId { window, index: varint::take(bytes)? };
    let used = Hour(varint::take(bytes)?);
    let high = u128::from(varint::take(bytes)?);
    let quantity = high << 64 | u128::from(varint::take(bytes)?);
    (quantity <= QUANTITY_MAX).then_some(Correction { original, used, quantity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn what() -> impl Strategy<Value = What> {
        let interval = (any::<u64>(), 0..1u64 << 40, 1..=HOUR_S, any::<u64>()).prop_map(
            |(generation, start_s, seconds, level)| What::Interval {
                generation: Generation(generation),
                start_s,
                end_s: start_s + seconds,
                level,
            },
        );
        let migration =
            (0..1u64 << 40, any::<u64>(), any::<u128>()).prop_map(|(at_s, quantity, id)| {
                What::Migration { at_s, quantity, migration: MigrationId(Uuid::from_u128(id)) }
            });
        let correction = |(window, index, used, quantity)| Correction {
            original: EntryId { window: Hour(window), index },
            used: Hour(used),
            quantity,
        };
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), 0..=QUANTITY_MAX);
        prop_oneof![
            interval,
            migration,
            numbers.clone().prop_map(move |numbers| What::Reversal(correction(numbers))),
            numbers.prop_map(move |numbers| What::Replacement(correction(numbers))),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_back(
            window in 0..1u64 << 28,
            entries in proptest::collection::vec((any::<u16>(), 0..5usize, what()), 0..20),
        ) {
            let window = Hour(window);
            let entries: Vec<Entry> = entries
                .into_iter()
                .map(|(party, meter, what)| Entry { party, meter: Meter::ALL[meter], what })
                .collect();
            let mut bytes = Vec::new();
            entries.iter().for_each(|entry| put(window, entry, &mut bytes));
            let mut rest = &bytes[..];
            for entry in &entries {
                prop_assert_eq!(take(window, &mut rest), Some(*entry));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_an_entry_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut rest = &bytes[..];
            while take(Hour(490_000), &mut rest).is_some() {}
        }
    }

    /// If this fails, sealed windows of another build cannot be read.
    #[test]
    fn golden_entries() {
        let window = Hour(490_896);
        let start_s = window.begin_s();
        let original = EntryId { window, index: 300 };
        let correction = Correction { original, used: window, quantity: 1 << 64 };
        let entry = |meter, what| Entry { party: 2, meter, what };
        let (generation, migration) = (Generation(3), MigrationId(Uuid::from_u128(7)));
        let interval = What::Interval { generation, start_s, end_s: start_s + 300, level: 1 };
        let mut bytes = Vec::new();
        put(window, &entry(Meter::VmSeconds, interval), &mut bytes);
        let moved = What::Migration { at_s: start_s - 1, quantity: 5, migration };
        put(window, &entry(Meter::BytesMoved, moved), &mut bytes);
        put(window, &entry(Meter::VmSeconds, What::Reversal(correction)), &mut bytes);
        put(window, &entry(Meter::VmSeconds, What::Replacement(correction)), &mut bytes);
        let correction = [0x90, 0xfb, 0x1d, 0xac, 2, 0x90, 0xfb, 0x1d, 1, 0];
        let expected = [
            &[1, 2, 3, 0, 0xac, 2, 1][..],
            &[12, 2, 1, 5],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
            &[17, 2],
            &correction,
            &[25, 2],
            &correction,
        ];
        assert_eq!(bytes, expected.concat());
    }
}
