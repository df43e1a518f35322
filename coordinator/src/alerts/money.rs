//! What holds of budgets, and of the ledger that they are compared with.

use novacron_protocol::alert::{AlertKey, AlertObject, Condition};
use novacron_protocol::api::Severity;
use novacron_protocol::ids::ProjectName;

use super::conditions::{Finding, Findings, NEARLY_PERCENT, Outlook};
use crate::state::ledger::hour::Hour;

/// How late the sealing of an hour may be. The leader seals it half a second after it may.
const SEALING_LATE_MS: u64 = 10 * 60 * 1_000;

pub(super) fn look(outlook: &Outlook<'_>, found: &mut Findings) {
    ledger(outlook, found);
    let Some(costs) = outlook.costs else { return };
    for (project, budget) in outlook.fleet.budgets() {
        let cost = costs.get(project).copied().unwrap_or_default();
        if let Some(finding) = spent(project, cost, budget.micro_dollars_per_month) {
            let object = AlertObject::Project(project.clone());
            found.insert(AlertKey::of(Condition::Budget, object), finding);
        }
    }
}

fn spent(project: &ProjectName, cost: i64, budget: u64) -> Option<Finding> {
    // Corrections may make it less than nothing.
    let cost = u64::try_from(cost).unwrap_or_default();
    let is_near = u128::from(cost) * 100 >= u128::from(budget) * NEARLY_PERCENT;
    let severity = if cost >= budget { Severity::Critical } else { Severity::Warning };
    let summary = format!(
        "project {project} has cost {} this month, of a budget of {}",
        dollars(cost),
        dollars(budget)
    );
    is_near.then_some(Finding { severity, summary })
}

fn dollars(micro_dollars: u64) -> String {
    let (whole, cents) = (micro_dollars / 1_000_000, micro_dollars % 1_000_000 / 10_000);
    format!("${whole}.{cents:02}")
}

fn ledger(outlook: &Outlook<'_>, found: &mut Findings) {
    let window = outlook.fleet.book().sealed_before;
    let late_ms = outlook.now.unix_ms.saturating_sub(SEALING_LATE_MS);
    let late = novacron_protocol::time::Timestamp::from_unix_ms(late_ms);
    // Before the first use there is nothing to seal.
    if window > Hour(0) && window.is_closed_at(late) {
        let summary = format!("the hour {window} of the ledger should be sealed, and is not");
        let key = AlertKey::of(Condition::LedgerLate, AlertObject::Cluster);
        found.insert(key, Finding { severity: Severity::Warning, summary });
    }
}
