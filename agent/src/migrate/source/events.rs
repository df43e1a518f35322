//! What the guest's QEMU says.

use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::source::SourceEvent;
use tokio::sync::broadcast;

use super::Run;
use crate::migrate::account::Mark;
use crate::migrate::memory::OutgoingForm;
use crate::qmp::{Event, MigrateStatus};

impl Run {
    pub(super) async fn qemu_event(&mut self, event: Result<Event, broadcast::error::RecvError>) {
        match event {
            Ok(Event::Stop) if self.outgoing.is_some() => self.guest_stopped(),
            Ok(Event::Shutdown(_)) if self.mode == MigrationMode::Warm => self.guest_ends(),
            // Before memory was asked for it can only be about an attempt that is undone.
            Ok(Event::Migration(migration)) if self.outgoing.is_some() => {
                self.qemu_status(migration.status).await;
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => {
                let Some(qmp) = self.qmp() else { return };
                if let Ok(info) = qmp.migration().await {
                    self.qemu_status(info.status).await;
                }
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.events = None;
                self.fail("the guest's QEMU ended".to_owned());
            }
        }
    }

    pub(super) fn guest_stopped(&mut self) {
        self.reach(Mark::Stopped);
        self.steering.release();
        self.bytes_disk_at_stop = Some(self.disk_counters().bytes_disk);
        self.handle(SourceEvent::GuestStopped);
        self.finish_log();
    }

    pub(super) async fn qemu_status(&mut self, status: MigrateStatus) {
        match status {
            MigrateStatus::PreSwitchover => self.drain_disks(),
            MigrateStatus::Device if matches!(self.form, OutgoingForm::Tunnel) => {
                // Where memory ends inside the tunnel is not known; the tunnel verifies itself.
                self.handle(SourceEvent::AllSent(self.digests.clone()));
            }
            MigrateStatus::Completed => {
                self.reach(Mark::Verified);
                self.handle(SourceEvent::QemuCompleted);
            }
            MigrateStatus::Failed | MigrateStatus::Cancelled => {
                let said = match self.qmp() {
                    Some(qmp) => qmp.migration().await.ok().and_then(|info| info.error_desc),
                    None => None,
                };
                let said = said.unwrap_or_else(|| "it does not say why".to_owned());
                self.fail(format!("QEMU gave the migration up: {said}"));
            }
            _ => {}
        }
    }
}

pub(super) async fn next_event(
    events: &mut Option<broadcast::Receiver<Event>>,
) -> Result<Event, broadcast::error::RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}
