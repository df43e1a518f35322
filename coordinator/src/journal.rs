//! What happens to the fleet, in the leader's log: one line for each event, ids as fields. Events themselves are
//! in the state; this is for those who read logs. A migration ends in one line that accounts for its downtime.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::Revision;
use tokio_util::sync::CancellationToken;

use crate::state::Fleet;
use crate::state::event::EventRow;
use crate::view::View;

/// Writes what is new until `stop`. What happened before is in another leader's log.
pub async fn run(view: View, stop: CancellationToken) {
    let mut applied = view.applied();
    let mut seen = view.local(Fleet::revision);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
        seen = view.local(|fleet| write_new(fleet, seen));
    }
}

fn write_new(fleet: &Fleet, seen: Revision) -> Revision {
    for event in fleet.events_after(seen, None) {
        write(fleet, event);
    }
    fleet.revision()
}

fn write(fleet: &Fleet, event: &EventRow) {
    let EventRow { revision, kind, actor, vm, node, migration, request, message, .. } = event;
    tracing::info!(
        %revision,
        ?kind,
        actor = %actor.shown(),
        vm = vm.map(tracing::field::display),
        node = node.as_ref().map(tracing::field::display),
        migration = migration.map(tracing::field::display),
        request = request.map(tracing::field::display),
        "{message}"
    );
    if *kind == EventKind::MigrationCompleted
        && let Some(row) = migration.and_then(|migration| fleet.migration(migration))
        && let Some(account) = &row.account
    {
        tracing::info!(
            migration = %row.id,
            vm = %row.vm,
            total_ms = account.total_ms,
            downtime_us = account.downtime_parts.total_us(),
            parts = ?account.downtime_parts,
            rounds = account.rounds,
            bytes_guest = account.bytes_guest,
            bytes_wire = account.bytes_wire,
            bytes_disk = account.bytes_disk,
            verified = account.verified,
            "account of a migration"
        );
    }
}
