//! The outbox: what agents shall do, as rows of the state. A row goes away when its outcome is committed.
//!
//! The leader sends every open row, again and again if need be; the agent does each once. Deadlines bind the
//! agent: past them it refuses what it had not begun. The leader expires a row only when its node is down,
//! because only then nobody else will say what became of it; see `docs/decisions/0007`.

use std::ops::Bound::{Excluded, Unbounded};

use novacron_protocol::effect::{Action, Effect, EffectOutcome};
use novacron_protocol::ids::{EffectId, Generation, NodeName, RequestId, VmId};
use novacron_protocol::node::NodeState;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::fleet::{Applying, Fleet};
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Rows that may be open before client commands are refused.
pub const OUTBOX_ROWS_MAX: usize = 100_000;

const MINUTE_MS: u64 = 60 * 1000;

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Whose agent shall do it.
    pub node: NodeName,
    /// What it shall do.
    pub effect: Effect,
}

impl Message for OutboxRow {
    const VERSION: u16 = 3;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "outbox row";
}

/// How long an agent may take to begin.
fn deadline_ms(action: &Action) -> u64 {
    match action {
        Action::Create { .. }
        | Action::Start
        | Action::Stop { .. }
        | Action::TakeSnapshot { .. } => 10 * MINUTE_MS,
        Action::ExpectMigration { .. } => 2 * MINUTE_MS,
        Action::SendMigration { .. } | Action::CancelMigration { .. } => 5 * MINUTE_MS,
        // Clearing up is never too late: ten years.
        // What a restore has begun has to be brought to its end, too.
        Action::Destroy
        | Action::AbandonMigration { .. }
        | Action::RestoreSnapshot { .. }
        | Action::DeleteSnapshot { .. } => 10 * 365 * 24 * 60 * MINUTE_MS,
    }
}

/// Whom an effect is for, and why.
pub(super) struct Order {
    pub(super) node: NodeName,
    pub(super) vm: VmId,
    pub(super) generation: Generation,
    pub(super) request: RequestId,
}

impl Fleet {
    /// Puts a row into the outbox.
    pub(super) fn issue(&mut self, now: &Applying, order: Order, action: Action) -> EffectId {
        let id = self.meta.effect_last.next();
        self.meta.effect_last = id;
        let effect = Effect {
            id,
            vm: order.vm,
            generation: order.generation,
            deadline: now.at.plus_ms(deadline_ms(&action)),
            request: order.request,
            action,
        };
        self.index.outbox.insert((order.node.clone(), id));
        self.outbox.insert(id, OutboxRow { node: order.node, effect });
        id
    }

    /// Takes a row out.
    pub(super) fn take_row(&mut self, effect: EffectId) -> Option<OutboxRow> {
        let row = self.outbox.remove(&effect)?;
        self.index.outbox.remove(&(row.node.clone(), effect));
        Some(row)
    }

    /// The open effects of a node, in order.
    pub fn effects_of(&self, node: &NodeName) -> impl Iterator<Item = &Effect> {
        let range = (node.clone(), EffectId(0))..=(node.clone(), EffectId(u64::MAX));
        let rows = self.index.outbox.range(range).filter_map(|(_, id)| self.outbox.get(id));
        rows.map(|row| &row.effect)
    }

    /// Refuses new work while the outbox is at its limit.
    pub(super) fn check_outbox_room(&self) -> Result<(), Refusal> {
        if self.outbox.len() >= OUTBOX_ROWS_MAX {
            return Err(Refusal::Full(format!("{OUTBOX_ROWS_MAX} effects are not done yet")));
        }
        Ok(())
    }

    /// The open rows after an id, in order.
    pub fn outbox_after(&self, effect: EffectId) -> impl Iterator<Item = &OutboxRow> {
        self.outbox.range((Excluded(effect), Unbounded)).map(|(_, row)| row)
    }

    /// An agent said what became of an effect. Only the row's own node may say so; a row that is gone was
    /// answered before.
    pub(super) fn settle(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        effect: EffectId,
        outcome: &EffectOutcome,
    ) {
        if self.outbox.get(&effect).is_none_or(|row| row.node != *node) {
            return;
        }
        let Some(row) = self.take_row(effect) else { return };
        self.settle_row(now, &row, outcome);
    }

    fn settle_row(&mut self, now: &mut Applying, row: &OutboxRow, outcome: &EffectOutcome) {
        match &row.effect.action {
            Action::Create { .. } | Action::Start | Action::Stop { .. } | Action::Destroy => {
                self.settle_vm_effect(now, row, outcome);
            }
            Action::ExpectMigration { migration, .. } => {
                self.settle_expect(now, *migration, row.effect.id, outcome);
            }
            Action::SendMigration { migration, .. } => {
                self.settle_send(now, *migration, row.effect.id, outcome);
            }
            Action::CancelMigration { migration } => self.settle_cancel(*migration, row.effect.id),
            Action::TakeSnapshot { snapshot }
            | Action::RestoreSnapshot { snapshot }
            | Action::DeleteSnapshot { snapshot } => {
                self.settle_snapshot(now, row, *snapshot, outcome);
            }
            Action::AbandonMigration { .. } => {}
        }
    }

    /// Fails rows that nobody will answer: past their deadline, their node down. What may have begun at the
    /// source of a migration is left alone until the source says what it did.
    pub(super) fn expire_effects(&mut self, now: &mut Applying, effects: &[EffectId]) -> Reply {
        for id in effects {
            let Some(row) = self.outbox.get(id) else { continue };
            if !self.is_expired(now, row) {
                continue;
            }
            let Some(row) = self.take_row(*id) else { continue };
            let reason = format!("node {} did not answer in time", row.node);
            self.settle_row(now, &row, &EffectOutcome::Failed { reason });
        }
        Ok(Accepted::Nothing)
    }

    /// Rows that [`Body::ExpireEffects`](super::command::Body::ExpireEffects) would take at this moment.
    pub fn expired_effects(&self, now: novacron_protocol::time::Timestamp) -> Vec<EffectId> {
        let now = Applying::at(now);
        let rows = self.outbox.iter().filter(|(_, row)| self.is_expired(&now, row));
        rows.map(|(id, _)| *id).collect()
    }

    fn is_expired(&self, now: &Applying, row: &OutboxRow) -> bool {
        let may_expire = !matches!(
            row.effect.action,
            Action::SendMigration { .. }
                | Action::AbandonMigration { .. }
                | Action::Destroy
                | Action::RestoreSnapshot { .. }
                | Action::DeleteSnapshot { .. }
        );
        let is_down = self.nodes.get(&row.node).is_none_or(|node| node.state == NodeState::Down);
        may_expire && is_down && now.at > row.effect.deadline
    }
}
