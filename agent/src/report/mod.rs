//! What the agent has to say to the coordinators, whether or not one listens.
//!
//! What must not be lost (what became of an effect, where a machine is now) is a durable record first and a report
//! second; the record goes when the coordinators have committed the report.

mod backlog;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::effect::{EffectOutcome, Handover, MachineReport, MigrationEnd, Report};
use novacron_protocol::ids::{EffectId, MigrationId};
use novacron_protocol::limits::REPORTS_PER_MESSAGE_MAX;
use novacron_protocol::migration::MigrationProgress;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use backlog::{Backlog, Subject};

use crate::records::{RecordName, Records, RecordsError};

/// A report that must not be lost.
#[derive(Debug, Serialize, Deserialize)]
struct ReportRecord(Report);

impl Message for ReportRecord {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = 16 * 1024;
    const NAME: &'static str = "report record";
}

/// Takes reports from everywhere in the agent; clones share one backlog.
#[derive(Debug, Clone)]
pub struct Reporter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backlog: Mutex<Backlog>,
    changed: Notify,
    records: Records,
}

impl Reporter {
    /// A reporter with the reports that an earlier run of the agent could not hand over.
    ///
    /// # Errors
    /// [`RecordsError`] if a record cannot be read.
    pub async fn load(records: Records) -> Result<Self, RecordsError> {
        let mut backlog = Backlog::default();
        for name in records.names().await? {
            if !is_report(name) {
                continue;
            }
            if let Some(ReportRecord(report)) = records.get(name).await? {
                backlog.push(report);
            }
        }
        let shared = Shared { backlog: Mutex::new(backlog), changed: Notify::new(), records };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How a machine stands now.
    pub fn machine(&self, report: MachineReport) {
        self.push(Report::Machine(report));
    }

    /// How far a migration is. Only the newest is kept.
    pub fn progress(&self, migration: MigrationId, progress: MigrationProgress) {
        self.push(Report::Progress { migration, progress });
    }

    /// What became of an effect; durable on return.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn effect_done(
        &self,
        effect: EffectId,
        outcome: EffectOutcome,
    ) -> Result<(), RecordsError> {
        self.push_durable(RecordName::EffectDone(effect), Report::EffectDone { effect, outcome })
            .await
    }

    /// A migration ended at its source; durable on return.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn migration_ended(
        &self,
        migration: MigrationId,
        end: MigrationEnd,
    ) -> Result<(), RecordsError> {
        let report = Report::MigrationEnded { migration, end };
        self.push_durable(RecordName::MigrationEnded(migration), report).await
    }

    /// A machine arrived at its target; durable on return.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn handed_over(&self, handover: Handover) -> Result<(), RecordsError> {
        let name = RecordName::HandedOver(handover.migration);
        self.push_durable(name, Report::HandedOver(handover)).await
    }

    /// Whether the outcome of this effect is known and not committed yet; if so it is sent once more.
    pub fn repeat_outcome(&self, effect: EffectId) -> bool {
        let mut backlog = self.backlog();
        let Some(report) = backlog.get(Subject::Effect(effect)).cloned() else { return false };
        backlog.push(report);
        drop(backlog);
        self.shared.changed.notify_one();
        true
    }

    /// Whether the end of this migration is recorded here and not committed yet.
    pub fn has_ended(&self, migration: MigrationId) -> bool {
        self.backlog().get(Subject::Ended(migration)).is_some()
    }

    /// A new session with a coordinator: everything that is not committed is to be sent again.
    pub fn begin_session(&self) {
        self.backlog().begin_session();
        self.shared.changed.notify_one();
    }

    /// The next reports to send and the number of the first.
    pub fn next_batch(&self) -> Option<(u64, Vec<Report>)> {
        self.backlog().next_batch(REPORTS_PER_MESSAGE_MAX)
    }

    /// Returns once there may be something to send. Cancel-safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// The coordinators have committed everything up to this number of this session.
    pub async fn committed(&self, sequence: u64) {
        let subjects = self.backlog().committed(sequence);
        for name in subjects.into_iter().filter_map(record_name) {
            if let Err(error) = self.shared.records.remove(name).await {
                // It is sent again after a restart, and committed again: harmless.
                tracing::warn!(%name, error = &error as &dyn std::error::Error, "record stays behind");
            }
        }
    }

    /// Reports that are not committed yet.
    pub fn waiting(&self) -> usize {
        self.backlog().len()
    }

    async fn push_durable(&self, name: RecordName, report: Report) -> Result<(), RecordsError> {
        let record = ReportRecord(report);
        self.shared.records.put(name, &record).await?;
        self.push(record.0);
        Ok(())
    }

    fn push(&self, report: Report) {
        self.backlog().push(report);
        self.shared.changed.notify_one();
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.shared.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record_name(subject: Subject) -> Option<RecordName> {
    match subject {
        Subject::Machine(_) | Subject::Progress(_) => None,
        Subject::Effect(effect) => Some(RecordName::EffectDone(effect)),
        Subject::Ended(migration) => Some(RecordName::MigrationEnded(migration)),
        Subject::HandedOver(migration) => Some(RecordName::HandedOver(migration)),
    }
}

fn is_report(name: RecordName) -> bool {
    matches!(
        name,
        RecordName::EffectDone(_) | RecordName::MigrationEnded(_) | RecordName::HandedOver(_)
    )
}

#[cfg(test)]
mod tests {
    use novacron_protocol::effect::SourceResult;
    use novacron_protocol::ids::{Generation, VmId};
    use novacron_protocol::migration::MigrationPhase;
    use novacron_protocol::wire::codec;
    use uuid::Uuid;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    /// If this fails, the layout has changed: raise the version.
    #[test]
    fn golden_records() {
        let migration = MigrationId(Uuid::from_u128(1));
        let end = MigrationEnd {
            target: "node-02".parse().unwrap(),
            phase: MigrationPhase::Cleanup,
            result: SourceResult::Completed(crate::migrate::account_of_distinct_numbers()),
        };
        let (vm, generation) = (VmId(Uuid::from_u128(2)), Generation(3));
        let outcome = EffectOutcome::Failed { reason: "why".to_owned() };
        let reports = [
            Report::EffectDone { effect: EffectId(4), outcome },
            Report::MigrationEnded { migration, end },
            Report::HandedOver(Handover { migration, vm, generation }),
        ];
        let encode = |report| codec::encode(&ReportRecord(report)).unwrap();
        let bytes: Vec<u8> = reports.into_iter().flat_map(encode).collect();
        assert_eq!(
            (ReportRecord::VERSION, bytes.len(), xxh3_64(&bytes)),
            (2, 345, 7_314_987_604_209_929_108)
        );
    }

    #[tokio::test]
    async fn what_must_not_be_lost_is_sent_after_a_restart_until_it_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let outcome = EffectOutcome::Failed { reason: "no".to_owned() };
        {
            let reporter = Reporter::load(Records::open(directory.path()).unwrap()).await.unwrap();
            reporter.effect_done(EffectId(7), outcome.clone()).await.unwrap();
        }
        let expected = Report::EffectDone { effect: EffectId(7), outcome };
        {
            let reporter = Reporter::load(Records::open(directory.path()).unwrap()).await.unwrap();
            assert!(reporter.repeat_outcome(EffectId(7)));
            assert!(!reporter.repeat_outcome(EffectId(8)));
            assert_eq!(reporter.next_batch(), Some((1, vec![expected])));
            reporter.committed(1).await;
        }
        let reporter = Reporter::load(Records::open(directory.path()).unwrap()).await.unwrap();
        assert_eq!(reporter.waiting(), 0);
    }
}
