//! What the source asks of its guest's QEMU.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::migrate::memory::{
    Knowledge, Outgoing, OutgoingError, OutgoingEvent, OutgoingForm, QemuSockets, SocketError,
};
use crate::migrate::relay::Outlets;
use crate::qmp::{Capability, MigrateParameters, MigrateStatus, Qmp, QmpError};

/// Name of the socket into which QEMU sends memory.
const SOCKET_NAME: &str = "out.sock";

/// How long a migration that was cancelled may take to end: QEMU waits for its own threads.
const CANCEL_DEADLINE: Duration = Duration::from_secs(20);
const CANCEL_INTERVAL: Duration = Duration::from_millis(5);

/// Why memory cannot begin to leave QEMU.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    #[error("QEMU refuses the migration")]
    Qmp(#[from] QmpError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
}

/// How QEMU shall migrate.
pub(super) struct QemuPlan {
    pub form: OutgoingForm,
    pub downtime_limit_ms: u64,
    /// Bytes per second that QEMU shall reckon with until the first round is over.
    pub switchover_bandwidth: u64,
    /// Stop before the switchover until the disks are drained.
    pub pause_before_switchover: bool,
}

/// Has QEMU send memory into sockets in `run_directory`, and starts the threads that take it from there.
pub(super) async fn begin_memory(
    qmp: &Qmp,
    run_directory: &Path,
    outlets: &mut Outlets,
    plan: &QemuPlan,
    knowledge: Knowledge,
) -> Result<(Outgoing, mpsc::Receiver<OutgoingEvent>), BeginError> {
    let channels = plan.form.channels();
    // Every one is said: an earlier migration of this QEMU may have left others.
    qmp.set_capabilities(&[
        (Capability::ReturnPath, true),
        (Capability::Events, true),
        (Capability::Multifd, channels > 0),
        (Capability::PauseBeforeSwitchover, plan.pause_before_switchover),
        // The source's agent says it, not the target's QEMU: when both sides are ready.
        (Capability::SwitchoverAck, true),
        // QEMU's own looks at dirty pages from its main loop, which then waits for whatever sending waits for: a link that
        // is away stops the guest, and ending the migration ends QEMU (10.0).
        (Capability::AutoConverge, false),
    ])
    .await?;
    qmp.set_migrate_parameters(&MigrateParameters {
        // The link is the limit, by back-pressure.
        max_bandwidth: Some(0),
        downtime_limit: Some(plan.downtime_limit_ms),
        avail_switchover_bandwidth: Some(plan.switchover_bandwidth),
        multifd_channels: Some(channels.max(1)),
        ..MigrateParameters::default()
    })
    .await?;
    let sockets = QemuSockets::bind(&run_directory.join(SOCKET_NAME))?;
    qmp.migrate(sockets.path()).await?;
    let sockets = sockets.accept(usize::from(channels) + 1).await?;
    Ok(Outgoing::start(sockets, outlets, plan.form, knowledge).await?)
}

/// Ends QEMU's migration, whatever it is busy with, and returns when it has ended. The sockets must be closed before:
/// a QEMU that waits for one answers nobody.
pub(super) async fn cancel_memory(qmp: &Qmp) -> Result<(), QmpError> {
    let deadline = tokio::time::Instant::now() + CANCEL_DEADLINE;
    loop {
        let status = match qmp.migration().await {
            Ok(info) => info.status,
            // It is deaf for as long as it writes to something that has not noticed its end yet.
            Err(QmpError::Deadline { .. }) => MigrateStatus::Cancelling,
            Err(error) => return Err(error),
        };
        if status.is_terminal() || status == MigrateStatus::None {
            return Ok(());
        }
        if status.is_under_way() {
            qmp.migrate_cancel().await?;
        }
        if tokio::time::Instant::now() >= deadline {
            tracing::error!(?status, "QEMU does not end its migration");
            return Ok(());
        }
        tokio::time::sleep(CANCEL_INTERVAL).await;
    }
}
