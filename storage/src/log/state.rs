//! What the records of a log amount to. Pure: the same for writing and for reading back.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::record::{HEADER_BYTES, Record};
use crate::damage::Damage;

/// Up to where a log is purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Index of the last purged entry.
    pub index: u64,
    /// What the caller gave with it.
    pub description: Bytes,
}

/// Where a record stands: 16 bytes, because there is one for each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) segment: u64,
    /// Below 256 MiB, see `RECORD_BYTES_MAX`.
    pub(super) offset: u32,
    /// Header and payload.
    pub(super) length: u32,
}

impl Position {
    pub(super) fn payload_bytes(&self) -> usize {
        self.length as usize - HEADER_BYTES
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<Purged>,
    /// Index of the entry at `positions[0]`; without meaning while there is none.
    first_index: u64,
    positions: VecDeque<Position>,
}

impl State {
    pub(super) fn vote(&self) -> Option<&Bytes> {
        self.vote.as_ref()
    }

    pub(super) fn committed(&self) -> Option<&Bytes> {
        self.committed.as_ref()
    }

    pub(super) fn purged(&self) -> Option<&Purged> {
        self.purged.as_ref()
    }

    pub(super) fn first_index(&self) -> Option<u64> {
        (!self.positions.is_empty()).then_some(self.first_index)
    }

    pub(super) fn last_index(&self) -> Option<u64> {
        match self.positions.len() as u64 {
            0 => self.purged.as_ref().map(|purged| purged.index),
            count => Some(self.first_index + (count - 1)),
        }
    }

    pub(super) fn position(&self, index: u64) -> Option<Position> {
        let at = usize::try_from(index.checked_sub(self.first_index)?).ok()?;
        self.positions.get(at).copied()
    }

    pub(super) fn positions(
        &self,
        range: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Position)> {
        let first = self.first_index.max(*range.start());
        (first..=*range.end()).map_while(|index| Some((index, self.position(index)?)))
    }

    /// The oldest segment that holds an entry which is still here.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.positions.front().map(|position| position.segment)
    }

    /// What a new segment begins with, so that it needs no older one but for entries.
    pub(super) fn carried(&self) -> Vec<Record> {
        let vote = self.vote.clone().map(Record::Vote);
        let committed = self.committed.clone().map(Record::Committed);
        let purge = self
            .purged
            .clone()
            .map(|purged| Record::Purge { up_to: purged.index, description: purged.description });
        [vote, committed, purge].into_iter().flatten().collect()
    }

    /// Follows one record.
    ///
    /// While reading a log back whose oldest segments were removed, the first entries seen do not
    /// follow the purge seen so far: the purge that removed those segments comes later. So an
    /// empty log takes any entry that is not purged, and [`State::check_no_hole`] looks in the end.
    pub(super) fn apply(&mut self, record: &Record, position: Position) -> Result<(), Damage> {
        match record {
            Record::Entry { index, .. } => self.append(*index, position)?,
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Committed(committed) => self.committed = Some(committed.clone()),
            Record::Truncate { from } => self.truncate(*from),
            Record::Purge { up_to, description } => self.purge(*up_to, description.clone())?,
        }
        Ok(())
    }

    fn append(&mut self, index: u64, position: Position) -> Result<(), Damage> {
        if self.positions.is_empty() {
            if let Some(purged) = &self.purged
                && index <= purged.index
            {
                let what = format!("entry {index}, and {} is purged", purged.index);
                return Err(Damage::OutOfOrder(what));
            }
            self.first_index = index;
        } else if self.first_index.checked_add(self.positions.len() as u64) != Some(index) {
            let last = self.first_index + (self.positions.len() as u64 - 1);
            return Err(Damage::OutOfOrder(format!("entry {index} after entry {last}")));
        }
        self.positions.push_back(position);
        Ok(())
    }

    fn truncate(&mut self, from: u64) {
        let kept = usize::try_from(from.saturating_sub(self.first_index)).unwrap_or(usize::MAX);
        self.positions.truncate(kept);
    }

    fn purge(&mut self, up_to: u64, description: Bytes) -> Result<(), Damage> {
        if let Some(purged) = &self.purged
            && up_to < purged.index
        {
            let what = format!("purge of {up_to} after purge of {}", purged.index);
            return Err(Damage::OutOfOrder(what));
        }
        while !self.positions.is_empty() && self.first_index <= up_to {
            self.positions.pop_front();
            self.first_index += 1;
        }
        self.purged = Some(Purged { index: up_to, description });
        Ok(())
    }

    /// After reading back: the first entry must follow the purge, and without a purge no segment
    /// may ever have been removed.
    pub(super) fn check_no_hole(&self, oldest_segment: u64) -> Result<(), Damage> {
        let first = self.first_index();
        match &self.purged {
            Some(purged)
                if first.is_some_and(|first| Some(first) != purged.index.checked_add(1)) =>
            {
                let what = format!("the first entry is {:?}, purged is {}", first, purged.index);
                Err(Damage::OutOfOrder(what))
            }
            None if oldest_segment != 1 => {
                Err(Damage::OutOfOrder("older segments are gone, yet nothing is purged".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64) -> Position {
        Position { segment, offset: 32, length: 32 }
    }

    fn state(records: impl IntoIterator<Item = Record>) -> Result<State, Damage> {
        let mut state = State::default();
        for record in records {
            state.apply(&record, at(1))?;
        }
        Ok(state)
    }

    fn entry(index: u64) -> Record {
        Record::Entry { index, bytes: Bytes::new() }
    }

    fn purge(up_to: u64) -> Record {
        Record::Purge { up_to, description: Bytes::new() }
    }

    #[test]
    fn purging_beyond_the_end_moves_the_end() {
        let state = state([entry(0), entry(1), purge(9)]).unwrap();
        assert_eq!((state.first_index(), state.last_index()), (None, Some(9)));
    }

    #[test]
    fn truncating_everything_keeps_the_purge_as_the_end() {
        let state = state([entry(0), entry(1), purge(0), Record::Truncate { from: 1 }]).unwrap();
        assert_eq!((state.first_index(), state.last_index()), (None, Some(0)));
    }

    #[test]
    fn history_that_no_log_writes_is_refused() {
        assert!(state([entry(0), entry(2)]).is_err());
        assert!(state([purge(5), entry(5)]).is_err());
        assert!(state([purge(5), purge(4)]).is_err());
    }

    #[test]
    fn a_hole_after_the_purge_is_refused_in_the_end() {
        let state = state([purge(5), entry(8)]).unwrap();
        assert!(state.check_no_hole(1).is_err());
    }

    #[test]
    fn missing_segments_without_a_purge_are_refused() {
        let state = state([entry(8)]).unwrap();
        assert!(state.check_no_hole(1).is_ok());
        assert!(state.check_no_hole(2).is_err());
    }

    #[test]
    fn a_segment_carries_what_stands() {
        let records = [Record::Vote("v".into()), Record::Committed("c".into()), purge(3)];
        let carried = state(records.clone()).unwrap().carried();
        assert_eq!(carried, records);
    }
}
