//! What a log should be, in a few lines: maps instead of files.

use std::collections::BTreeMap;

use bytes::Bytes;
use novacron_storage::log::{Log, LogError};
use proptest::collection::vec;
use proptest::prelude::*;

/// What a log shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub unwritten_committed: Option<Bytes>,
    pub purged: Option<(u64, Bytes)>,
    pub entries: BTreeMap<u64, Bytes>,
}

impl Model {
    /// Everything that a log just opened holds.
    pub fn of(log: &Log) -> Model {
        Model::read(log).unwrap()
    }

    /// The same, on a disk that may fail.
    pub fn read(log: &Log) -> Result<Model, LogError> {
        let entries = log.entries(0..=u64::MAX, usize::MAX)?;
        Ok(Model {
            vote: log.vote().cloned(),
            committed: log.committed().cloned(),
            unwritten_committed: None,
            purged: log.purged().map(|purged| (purged.index, purged.description.clone())),
            entries: entries.into_iter().collect(),
        })
    }

    /// What a running log shows of it.
    pub fn shown(&self) -> Model {
        let committed = self.unwritten_committed.clone().or(self.committed.clone());
        Model { committed, unwritten_committed: None, ..self.clone() }
    }

    /// What is left of it when the process dies.
    pub fn reopened(&self) -> Model {
        Model { unwritten_committed: None, ..self.clone() }
    }

    pub fn last_index(&self) -> Option<u64> {
        let last = self.entries.last_key_value().map(|(index, _)| *index);
        last.or(self.purged.as_ref().map(|(index, _)| *index))
    }

    fn next_index(&self) -> u64 {
        self.last_index().map_or(0, |last| last + 1)
    }
}

/// A step, relative to the log it will meet.
#[derive(Debug, Clone)]
pub enum Step {
    Append { lengths: Vec<usize> },
    Vote,
    Committed,
    Truncate { back: u64 },
    Purge { ahead: u64 },
    Flush,
}

/// A step for one log.
#[derive(Debug, Clone)]
pub enum Call {
    Append { first: u64, entries: Vec<Bytes> },
    Vote(Bytes),
    Committed(Bytes),
    Truncate { from: u64 },
    Purge { up_to: u64, description: Bytes },
    Flush,
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(0usize..300, 1..5).prop_map(|lengths| Step::Append { lengths }),
        2 => Just(Step::Vote),
        2 => Just(Step::Committed),
        1 => (0u64..6).prop_map(|back| Step::Truncate { back }),
        2 => (0u64..8).prop_map(|ahead| Step::Purge { ahead }),
        1 => Just(Step::Flush),
    ]
}

impl Step {
    /// Makes the step legal for `model`; `stamp` makes its bytes unlike those of other steps.
    pub fn resolve(&self, model: &Model, stamp: u64) -> Call {
        let bytes = |length: usize| {
            let pattern = stamp.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
            pattern.into_iter().cycle().take(length).collect::<Bytes>()
        };
        let purged = model.purged.as_ref().map(|(index, _)| *index);
        let first_possible = purged.map_or(0, |index| index + 1);
        match self {
            Step::Append { lengths } => Call::Append {
                first: model.next_index(),
                entries: lengths.iter().map(|length| bytes(*length)).collect(),
            },
            Step::Vote => Call::Vote(bytes(16)),
            Step::Committed => Call::Committed(bytes(8)),
            Step::Truncate { back } => Call::Truncate {
                from: model.next_index().saturating_sub(*back).max(first_possible),
            },
            Step::Purge { ahead } => {
                Call::Purge { up_to: first_possible + ahead, description: bytes(12) }
            }
            Step::Flush => Call::Flush,
        }
    }
}

impl Call {
    pub fn on_log(&self, log: &mut Log) -> Result<(), LogError> {
        match self.clone() {
            Call::Append { first, entries } => log.append(first, entries),
            Call::Vote(vote) => log.set_vote(vote),
            Call::Committed(committed) => log.set_committed(committed),
            Call::Truncate { from } => log.truncate(from),
            Call::Purge { up_to, description } => log.purge(up_to, description),
            Call::Flush => log.flush(),
        }
    }

    pub fn on_model(&self, model: &mut Model) {
        match self.clone() {
            Call::Append { first, entries } => model.entries.extend((first..).zip(entries)),
            Call::Vote(vote) => model.vote = Some(vote),
            Call::Committed(committed) => {
                model.unwritten_committed = Some(committed);
                return;
            }
            Call::Truncate { from } => drop(model.entries.split_off(&from)),
            Call::Purge { up_to, description } => {
                model.entries = model.entries.split_off(&(up_to + 1));
                model.purged = Some((up_to, description));
            }
            Call::Flush => {}
        }
        model.committed = model.unwritten_committed.take().or(model.committed.take());
    }
}
