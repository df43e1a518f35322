//! What the session says is done.

use std::time::{Duration, Instant};

use novacron_protocol::session::handover::SourceRecord;
use novacron_protocol::session::source::{SourceAction, SourceEvent};

use super::memo::Memo;
use super::step::Step;
use super::{Run, Stuck};
use crate::clock;
use crate::migrate::account::Mark;
use crate::migrate::files;
use crate::reason::reason;

/// How often is remembered what was sent: an agent that is killed forgets the bytes of so many seconds at most, and a
/// record is written to the disk so often.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(5);

impl Run {
    pub(super) async fn perform(&mut self, action: SourceAction) -> Result<(), Stuck> {
        match action {
            SourceAction::Connect => self.connect(),
            SourceAction::Send(message) => self.send(message).await,
            SourceAction::SendFiles { missing_files } => {
                self.missing_files = missing_files;
                self.send_files();
            }
            SourceAction::SynchroniseDisks => self.synchronise_disks().await,
            SourceAction::CopyMemory => self.copy_memory().await,
            SourceAction::AllowSwitchover => self.allow_switchover(),
            SourceAction::GiveReturnPath(bytes) => self.give_return_path(&bytes),
            SourceAction::GiveShut => self.give_shut(),
            SourceAction::Persist(record) => self.persist(record).await?,
            SourceAction::StartOver { restarts } => self.start_over(restarts).await?,
            SourceAction::TakeBack(outcome) => self.take_back(outcome).await?,
            SourceAction::Remove => self.remove().await?,
            SourceAction::Finish(outcome) => self.finish(outcome).await?,
        }
        Ok(())
    }

    pub(super) fn send_files(&mut self) {
        let Some(connection) = self.dialogue.connection().cloned() else { return };
        for &hash in &self.missing_files {
            let (connection, limit) = (connection.clone(), self.outlets.limit().clone());
            let path = self.context.machines.files().path(crate::vm::FileHash(hash));
            self.steps.spawn(async move {
                Step::FileSent(files::send(&connection, &limit, &path, hash).await)
            });
        }
    }

    pub(super) fn finish_log(&mut self) {
        let Some(log) = self.log.take() else { return };
        let finish = || Step::LogSent(log.finish().map_err(|error| reason(&error)));
        self.steps.spawn_blocking(finish);
    }

    /// The account so far: of a migration that is being released, until the newest mark, since the guest stands still.
    fn memo(&self, record: SourceRecord) -> Memo {
        let since_us = || {
            let passed = self.account.since_newest_mark().as_micros();
            clock::since_boot_us().saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX))
        };
        let open_since_us = (record == SourceRecord::Released).then(since_us);
        let elapsed_us = u64::try_from(self.account.elapsed().as_micros()).unwrap_or(u64::MAX);
        let begun_us = clock::since_boot_us().saturating_sub(elapsed_us);
        Memo::new(self.closed_account(), open_since_us, begun_us)
    }

    /// From time to time what was sent so far is made durable, for a record that is whole even if the agent is restarted.
    pub(super) fn remember_now_and_then(&mut self) {
        if self.remembered_at.is_none_or(|at| at.elapsed() >= REMEMBER_INTERVAL) {
            self.remember();
        }
    }

    /// Beside everything else: nothing waits for it. A decision brings its own memo.
    pub(super) fn remember(&mut self) {
        // A guest that stands still waits for nothing but the decision.
        if self.account.reached(Mark::Stopped) {
            return;
        }
        self.remembered_at = Some(Instant::now());
        let memo = self.memo(SourceRecord::Holds).write();
        let Some(guest) = &self.guest else { return };
        let remembered = guest.remember(memo);
        self.steps.spawn(async move {
            if let Err(error) = remembered.await {
                tracing::warn!(error = reason(&error), "what was sent so far is not remembered");
            }
            Step::Told
        });
    }

    pub(super) async fn persist(&mut self, record: SourceRecord) -> Result<(), Stuck> {
        let memo = self.memo(record).write();
        let Some(guest) = &mut self.guest else { return Ok(()) };
        let decided = guest.decide(record, memo).await;
        decided.map_err(|error| Stuck(reason(&error)))?;
        if record == SourceRecord::Released {
            self.reach(Mark::Released);
        }
        self.handle(SourceEvent::Persisted(record));
        Ok(())
    }
}
