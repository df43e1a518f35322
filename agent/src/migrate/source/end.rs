//! How a migration ends at its source: the guest is taken back, or removed; the end is told.

use std::time::Duration;

use novacron_protocol::effect::{MigrationEnd, SourceResult};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::message::TargetMessage;
use novacron_protocol::session::source::{SourceEvent, SourceOutcome};
use novacron_transport::CloseCode;

use super::{Run, Stuck, qemu};
use crate::migrate::cache::ImageOrigin;
use crate::reason::reason;

/// How long the target's last words are waited for.
const FAREWELL: Duration = Duration::from_secs(5);

impl Run {
    /// Undoes everything here, in an order in which nothing can wait for anything else: QEMU's sockets first, those of
    /// its mirrors too.
    pub(super) async fn take_back(&mut self) -> Result<(), Stuck> {
        self.account.resume();
        self.count();
        self.outlets.end();
        let (outgoing, disks) = (self.outgoing.take(), self.disks.take());
        // A QEMU that waits for a page or a block to be taken hears no command.
        if let Some(outgoing) = &outgoing {
            outgoing.close();
        }
        if let Some(disks) = &disks {
            disks.close();
        }
        if self.mode == MigrationMode::Live
            && let Some(qmp) = self.qmp()
            && let Err(error) = qemu::cancel_memory(&qmp).await
        {
            tracing::warn!(error = reason(&error), "QEMU's migration cannot be ended");
        }
        if let Some(disks) = disks {
            disks.abandon().await;
        }
        if let Some(guest) = self.guest.take() {
            guest.keep().await.map_err(|error| Stuck(reason(&error)))?;
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
        match &outcome {
            // Counted and told before what was here was removed.
            SourceOutcome::Completed => {}
            SourceOutcome::Failed { reason } => {
                self.count_end(&outcome);
                self.report_end(SourceResult::Failed { reason: reason.clone() }).await?;
            }
            SourceOutcome::Cancelled => {
                self.count_end(&outcome);
                self.report_end(SourceResult::Cancelled).await?;
            }
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    pub(super) async fn report_end(&self, result: SourceResult) -> Result<(), Stuck> {
        let end = MigrationEnd { target: self.target.clone(), phase: self.session.phase(), result };
        let told = self.context.reporter.migration_ended(self.migration(), end).await;
        told.map_err(|error| Stuck(reason(&error)))
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
