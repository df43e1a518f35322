//! What machines used: intervals of whole seconds with an identity that both ends can compute.
//!
//! A record says that one meter of one machine stood at `level` from second `start_s` up to, not including, second
//! `end_s`. Seconds are UTC since 1970. No record crosses a full hour, so that each belongs to one hour of the ledger.
//!
//! **Invariant.** A second of a meter of a machine counts once, whoever says it and how often: records with equal
//! machine, meter and start have equal [`UsageRecord::id`], and what overlaps is answered by
//! [`RecordOutcome::Conflict`] with the seconds that are covered, so that the sender can send the others.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Generation, VmId};
use crate::limits::{DISK_BYTES_MAX, DISKS_MAX, USAGE_AGE_S_MAX, USAGE_RECORD_S_MAX};
use crate::vm::InvalidField;

/// Seconds of an hour of the ledger.
pub const HOUR_S: u64 = 3_600;

/// Snapshots of one machine that can be counted at once: bounds the level, not what a fleet may keep.
const SNAPSHOTS_MAX: u64 = 1_000_000;

/// What is measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Meter {
    /// Seconds for which the guest ran; the level is 1.
    VmSeconds,
    /// Bytes of the machine's disks as specified, times seconds.
    DiskByteSeconds,
    /// Number of the machine's snapshots, times seconds.
    SnapshotSeconds,
    /// Bytes that a migration put on the wire. Counted by the coordinators, never by an agent.
    BytesMoved,
    /// Migrations that completed. Counted by the coordinators, never by an agent.
    Migrations,
}

impl Meter {
    /// All meters, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::VmSeconds,
        Self::DiskByteSeconds,
        Self::SnapshotSeconds,
        Self::BytesMoved,
        Self::Migrations,
    ];

    /// Its number in ids and stored formats; never given to another meter.
    pub fn number(self) -> u8 {
        match self {
            Self::VmSeconds => 1,
            Self::DiskByteSeconds => 2,
            Self::SnapshotSeconds => 3,
            Self::BytesMoved => 4,
            Self::Migrations => 5,
        }
    }

    /// Its name in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::VmSeconds => "vm-seconds",
            Self::DiskByteSeconds => "disk-byte-seconds",
            Self::SnapshotSeconds => "snapshot-seconds",
            Self::BytesMoved => "bytes-moved",
            Self::Migrations => "migrations",
        }
    }

    /// Whether agents measure it, as intervals.
    pub fn is_agents(self) -> bool {
        matches!(self, Self::VmSeconds | Self::DiskByteSeconds | Self::SnapshotSeconds)
    }

    /// The highest level that a record may have.
    fn level_max(self) -> u64 {
        match self {
            Self::VmSeconds => 1,
            Self::DiskByteSeconds => DISKS_MAX as u64 * DISK_BYTES_MAX,
            Self::SnapshotSeconds => SNAPSHOTS_MAX,
            Self::BytesMoved | Self::Migrations => u64::MAX,
        }
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// One meter of one machine over an interval.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct UsageRecord {
    /// The machine.
    pub vm: VmId,
    /// The generation for which the machine was on the node that measured.
    pub generation: Generation,
    /// What was measured.
    pub meter: Meter,
    /// The first second, UTC since 1970.
    pub start_s: u64,
    /// The second after the last one; at most an hour after `start_s` and in the same hour.
    pub end_s: u64,
    /// What the meter stood at: 1 for `vm-seconds`, bytes or a number for the others. At least 1.
    pub level: u64,
}

impl UsageRecord {
    /// What was used, in the meter's unit times seconds; at most 2⁶⁴ · 3,600.
    pub fn quantity(&self) -> u128 {
        u128::from(self.level) * u128::from(self.end_s.saturating_sub(self.start_s))
    }

    /// The identity: of machine, meter and start. Records of one machine and meter never overlap, so these are enough.
    pub fn id(&self) -> u128 {
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        hasher.update(self.vm.0.as_bytes());
        hasher.update(&[self.meter.number()]);
        hasher.update(&self.start_s.to_le_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        let (first, _) = hash.split_at(16);
        first.iter().fold(0, |id, &byte| id << 8 | u128::from(byte))
    }

    /// The first second of the hour that the record belongs to.
    pub fn hour_s(&self) -> u64 {
        self.start_s - self.start_s % HOUR_S
    }

    /// Its seconds.
    pub fn seconds(&self) -> Seconds {
        Seconds { start_s: self.start_s, end_s: self.end_s }
    }

    /// Checks all that can be said without a clock or a fleet.
    ///
    /// # Errors
    /// Every field that cannot be, and what would be right.
    pub fn check(&self) -> Result<(), Vec<InvalidField>> {
        let wrong: Vec<InvalidField> =
            [self.wrong_meter(), self.wrong_level(), self.wrong_interval()]
                .into_iter()
                .flatten()
                .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn wrong_meter(&self) -> Option<InvalidField> {
        let problem = format!("{} is counted by the coordinators, not sent to them", self.meter);
        (!self.meter.is_agents()).then(|| invalid("meter", problem))
    }

    fn wrong_level(&self) -> Option<InvalidField> {
        let max = self.meter.level_max();
        let problem = format!("{} is outside 1 to {max} for {}", self.level, self.meter);
        (!(1..=max).contains(&self.level)).then(|| invalid("level", problem))
    }

    fn wrong_interval(&self) -> Option<InvalidField> {
        let Self { start_s, end_s, .. } = *self;
        if end_s <= start_s {
            let problem = format!("{end_s} is not after start_s, {start_s}");
            return Some(invalid("end_s", problem));
        }
        // So an hour is also the most that a record can be long.
        let hour_end_s = self.hour_s().saturating_add(USAGE_RECORD_S_MAX);
        let problem = format!(
            "{end_s} is in another hour than start_s, {start_s}: at most {hour_end_s}, and a record of its own for the rest"
        );
        (end_s > hour_end_s).then(|| invalid("end_s", problem))
    }
}

fn invalid(field: &str, problem: String) -> InvalidField {
    InvalidField { field: field.to_owned(), problem }
}

/// What ids are made under; another text makes other ids.
const ID_CONTEXT: &str = "novacron 2026-11 usage record id 1";

/// Seconds from `start_s` up to, not including, `end_s`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Seconds {
    /// The first, UTC since 1970.
    pub start_s: u64,
    /// The one after the last.
    pub end_s: u64,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordOutcome {
    /// It is in the ledger now.
    Created {
        /// The first second of the hour that holds it.
        window_s: u64,
    },
    /// It is in the ledger now, in a later hour than its own, which is sealed.
    CreatedLate {
        /// The first second of the hour that holds it.
        window_s: u64,
        /// The first second of its own hour.
        late_for_s: u64,
    },
    /// The same record was in the ledger.
    Exists,
    /// Not taken: some of its seconds are in the ledger. The others may be sent as records of their own.
    Conflict {
        /// The covered seconds within the record, in order and apart; the first
        /// [`COVERED_MAX`](crate::limits::COVERED_MAX) of them.
        covered: Vec<Seconds>,
    },
    /// Not taken: it ends later than the fleet's clock plus what is tolerated. It may be sent again later.
    Ahead {
        /// Seconds from the fleet's clock to its end.
        by_s: u64,
    },
    /// Not taken: it is older than [`USAGE_AGE_S_MAX`].
    TooLate {
        /// The first second that may still be sent.
        oldest_s: u64,
    },
    /// Not taken: the fleet does not know the machine.
    UnknownVm,
    /// Not taken: it cannot be.
    Invalid {
        /// All that is wrong with it.
        problems: Vec<InvalidField>,
    },
}

impl RecordOutcome {
    /// Whether the ledger holds the record's seconds for this record.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::CreatedLate { .. } | Self::Exists)
    }

    /// [`RecordOutcome::TooLate`] at this second of the fleet's clock.
    pub fn too_late(now_s: u64) -> Self {
        Self::TooLate { oldest_s: now_s.saturating_sub(USAGE_AGE_S_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const HOUR: u64 = 1_767_225_600;

    fn record(start_s: u64, end_s: u64) -> UsageRecord {
        UsageRecord {
            vm: VmId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
            generation: Generation(3),
            meter: Meter::VmSeconds,
            start_s,
            end_s,
            level: 1,
        }
    }

    fn wrong(record: UsageRecord) -> Vec<String> {
        let wrong = record.check().err().unwrap_or_default();
        wrong.into_iter().map(|invalid| invalid.field).collect()
    }

    /// If this fails, agents and ledgers of two builds would count a second twice.
    #[test]
    fn golden_ids() {
        let first = record(HOUR, HOUR + 300);
        assert_eq!(format!("{:032x}", first.id()), GOLDEN_ID);
        let same = UsageRecord { end_s: HOUR + 1, level: 7, generation: Generation(9), ..first };
        assert_eq!(same.id(), first.id());
        let others = [
            UsageRecord { meter: Meter::DiskByteSeconds, ..first },
            UsageRecord { start_s: HOUR + 1, ..first },
            UsageRecord { vm: VmId(Uuid::from_u128(2)), ..first },
        ];
        assert!(others.iter().all(|other| other.id() != first.id()));
    }

    const GOLDEN_ID: &str = "f8b685cc34bcfb39fade59f6ff38589f";

    #[test]
    fn numbers_and_words_are_distinct_and_what_json_says() {
        for (meter, number) in Meter::ALL.into_iter().zip(1..) {
            assert_eq!(meter.number(), number);
            assert_eq!(serde_json::to_string(&meter).unwrap(), format!("\"{meter}\""));
        }
    }

    #[test]
    fn a_record_is_within_one_hour_and_not_empty() {
        assert_eq!(record(HOUR, HOUR + 3600).check(), Ok(()));
        assert_eq!(record(HOUR + 3599, HOUR + 3600).check(), Ok(()));
        for (start_s, end_s) in [
            (HOUR, HOUR),
            (HOUR + 1, HOUR),
            (HOUR, HOUR + 3601),
            (HOUR + 3599, HOUR + 3601),
            (u64::MAX, u64::MAX),
            (0, u64::MAX),
        ] {
            assert_eq!(wrong(record(start_s, end_s)), ["end_s"], "{start_s} {end_s}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_listed() {
        let record = UsageRecord { meter: Meter::Migrations, level: 0, ..record(HOUR, HOUR) };
        assert_eq!(wrong(record), ["meter", "level", "end_s"]);
    }

    #[test]
    fn levels_are_bounded_by_their_meter() {
        let at = |meter, level| UsageRecord { meter, level, ..record(HOUR, HOUR + 1) };
        assert_eq!(wrong(at(Meter::VmSeconds, 2)), ["level"]);
        let disks = DISKS_MAX as u64 * DISK_BYTES_MAX;
        assert_eq!(at(Meter::DiskByteSeconds, disks).check(), Ok(()));
        assert_eq!(wrong(at(Meter::DiskByteSeconds, disks + 1)), ["level"]);
    }

    #[test]
    fn a_record_takes_60_bytes_of_a_message() {
        let bytes = bincode::serialize(&record(HOUR, HOUR + 1)).unwrap();
        assert_eq!(bytes.len(), 60);
    }

    #[test]
    fn quantity_does_not_overflow() {
        let record = UsageRecord { level: u64::MAX, ..record(HOUR, HOUR + 3600) };
        assert_eq!(record.quantity(), u128::from(u64::MAX) * 3600);
    }
}
