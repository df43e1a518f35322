//! How a migration ends at its target: the machine is accepted or refused, durably, and the end is told.

use novacron_protocol::effect::Handover;
use novacron_protocol::session::handover::TargetRecord;
use novacron_protocol::session::target::{TargetEvent, TargetOutcome};

use super::{Run, Stuck};
use crate::migrate::cache::ImageOrigin;
use crate::reason::reason;

impl Run {
    pub(super) async fn accept(&mut self) -> Result<(), Stuck> {
        let Some(guest) = self.guest.take() else { return Ok(()) };
        let start = self.offer.as_ref().is_some_and(|offer| offer.start);
        guest.accept(start).await.map_err(|error| Stuck(reason(&error)))?;
        self.handle(TargetEvent::Persisted(TargetRecord::Accepted));
        Ok(())
    }

    pub(super) async fn refuse(&mut self) -> Result<(), Stuck> {
        self.steps.abort_all();
        self.search = None;
        self.incoming = None;
        self.disks = None;
        self.receiving = None;
        if let Some(guest) = self.guest.take() {
            guest.reject().await.map_err(|error| Stuck(reason(&error)))?;
        }
        self.handle(TargetEvent::Persisted(TargetRecord::Refused));
        Ok(())
    }

    pub(super) async fn finish(&mut self, outcome: TargetOutcome) -> Result<(), Stuck> {
        let result = if outcome == TargetOutcome::Accepted { "completed" } else { "failed" };
        self.context.metrics.ended_at_target(self.mode, result);
        if outcome == TargetOutcome::Accepted {
            let told = self.context.reporter.handed_over(self.handover.clone()).await;
            told.map_err(|error| Stuck(reason(&error)))?;
            self.context.machines.report_again(self.handover.vm);
            self.keep_image();
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    /// What the source had of the memory is worth remembering: the machine may go back.
    pub(super) fn keep_image(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        let Handover { vm, migration, .. } = self.handover;
        if let Some(image) = incoming.take_image(ImageOrigin { vm, migration }) {
            self.context.images.keep(image);
        }
    }
}
