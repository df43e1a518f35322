//! Effects about migrations, and what is known of a migration before it is asked for again.

use novacron_protocol::effect::{Action, Effect, EffectOutcome};
use novacron_protocol::ids::{MigrationId, VmId};
use novacron_protocol::session::handover::{SourceRecord, TargetRecord, Verdict};

use crate::migrate::Migrations;
use crate::reason::reason;
use crate::report::Reporter;
use crate::vm::{Machines, SourceRole, TargetRole};

/// Does what an effect says about a migration. `None` if it is about none.
pub(super) async fn perform(
    effect: Effect,
    machines: &Machines,
    migrations: &Migrations,
    reporter: &Reporter,
) -> Option<EffectOutcome> {
    let Effect { vm, generation, action, .. } = effect;
    Some(match action {
        Action::ExpectMigration { migration, spec, source, mode } => {
            if let Some(outcome) = decided(machines, vm, migration).await {
                return Some(outcome);
            }
            let role = TargetRole { migration, source, mode, decision: TargetRecord::Waiting };
            migrations.expect(vm, generation, spec, role).await
        }
        // It ended here before the agent was told again to begin it; the report of the end is on its way.
        Action::SendMigration { migration, .. } if reporter.has_ended(migration) => {
            EffectOutcome::Done
        }
        Action::SendMigration {
            migration,
            target,
            target_address,
            mode,
            target_generation,
            options,
        } => {
            let role = SourceRole {
                is_shut_down: false,
                restarts: 0,
                migration,
                target,
                target_address,
                mode,
                target_generation,
                options,
                decision: SourceRecord::Holds,
                memo: Vec::new(),
            };
            migrations.send(vm, generation, role).await
        }
        Action::CancelMigration { migration } => migrations.cancel(vm, migration).await,
        Action::AbandonMigration { migration } => migrations.abandon(vm, migration).await,
        Action::Create { .. }
        | Action::Start
        | Action::Stop { .. }
        | Action::Destroy
        | Action::TakeSnapshot { .. }
        | Action::RestoreSnapshot { .. }
        | Action::DeleteSnapshot { .. } => {
            return None;
        }
    })
}

/// What was decided about a migration to this node before it was announced once more.
async fn decided(machines: &Machines, vm: VmId, migration: MigrationId) -> Option<EffectOutcome> {
    match machines.verdict(vm, migration).await {
        Ok(Some(Verdict::Accepted)) => Some(EffectOutcome::Done),
        Ok(Some(Verdict::Refused)) => {
            let reason = "this node has given the migration up already".to_owned();
            Some(EffectOutcome::Failed { reason })
        }
        Ok(Some(Verdict::Waiting) | None) => None,
        Err(error) => Some(EffectOutcome::Failed { reason: reason(&error) }),
    }
}
