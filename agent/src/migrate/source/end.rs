//! How a migration ends at its source: the guest is taken back, or removed; the end is told.

use std::time::Duration;

use novacron_protocol::effect::{MigrationEnd, SourceResult};
use novacron_protocol::session::message::TargetMessage;
use novacron_protocol::session::source::{SourceEvent, SourceOutcome};
use novacron_transport::CloseCode;

use super::{Run, Stuck};
use crate::migrate::cache::ImageOrigin;
use crate::reason::reason;

/// How long the target's last words are waited for.
const FAREWELL: Duration = Duration::from_secs(5);

impl Run {
    /// The guest stays, and how that came about is durable with it: otherwise the migration could begin once more.
    pub(super) async fn take_back(&mut self, outcome: SourceOutcome) -> Result<(), Stuck> {
        self.steering.release();
        self.undo().await;
        if let Some(guest) = self.guest.take() {
            let end = self.end(result_of(outcome));
            guest.keep(end).await.map_err(|error| Stuck(reason(&error)))?;
        }
        self.handle(SourceEvent::TakenBack);
        Ok(())
    }

    /// The target has it. The account is told before the record that keeps it goes.
    pub(super) async fn remove(&mut self) -> Result<(), Stuck> {
        self.count();
        self.count_end(&SourceOutcome::Completed);
        let result = SourceResult::Completed(self.closed_account());
        self.report_end(result).await?;
        self.keep_image();
        if let Some(guest) = self.guest.take() {
            guest.remove().await.map_err(|error| Stuck(reason(&error)))?;
        }
        self.handle(SourceEvent::Removed);
        Ok(())
    }

    /// What the target has of the memory is worth remembering: the machine may come back.
    pub(super) fn keep_image(&mut self) {
        let Some(outgoing) = self.outgoing.take() else { return };
        outgoing.all_processed();
        let origin = ImageOrigin { vm: self.facts.vm, migration: self.migration() };
        if let Some(image) = outgoing.take_image(origin, self.hash_seed) {
            self.context.images.keep(image);
        }
    }

    pub(super) async fn finish(&mut self, outcome: SourceOutcome) -> Result<(), Stuck> {
        // One that completed was counted and told before what was here was removed.
        if outcome != SourceOutcome::Completed {
            self.count_end(&outcome);
            self.report_end(result_of(outcome.clone())).await?;
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    async fn report_end(&self, result: SourceResult) -> Result<(), Stuck> {
        let end = self.end(result);
        let told = self.context.reporter.migration_ended(self.migration(), end).await;
        told.map_err(|error| Stuck(reason(&error)))
    }

    fn end(&self, result: SourceResult) -> MigrationEnd {
        MigrationEnd { target: self.target.clone(), phase: self.session.phase(), result }
    }

    /// Ends the connection, and with it every thread that still waits for it. A target that was told to forget the
    /// machine gets the time to hear so.
    pub(super) async fn hang_up(mut self) {
        if self.outcome != Some(SourceOutcome::Completed) && self.dialogue.is_linked() {
            let until_over = async {
                while !matches!(
                    self.dialogue.hear().await,
                    Err(_) | Ok(TargetMessage::Failed { .. })
                ) {}
            };
            let _ = tokio::time::timeout(FAREWELL, until_over).await;
        }
        self.outlets.end();
        if let Some(connection) = self.dialogue.cut() {
            connection.close(CloseCode::Done, "the migration is over");
        }
    }
}

/// How a migration ended that did not complete.
fn result_of(outcome: SourceOutcome) -> SourceResult {
    match outcome {
        SourceOutcome::Failed { reason } => SourceResult::Failed { reason },
        SourceOutcome::Completed | SourceOutcome::Cancelled => SourceResult::Cancelled,
    }
}
