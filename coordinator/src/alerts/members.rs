//! What holds of the coordinators, from what they say of themselves.

use novacron_protocol::alert::{AlertKey, AlertObject, Condition};
use novacron_protocol::api::{ClusterStatus, MemberReport, MemberRole, MemberStatus, Severity};

use super::conditions::{Finding, Findings};
use crate::status::{LAG_ENTRIES_MAX, lacks_a_spare};

/// Below how many hundredths of free room a disk is nearly full.
const DISK_FREE_PERCENT_MIN: u128 = 10;

pub(super) fn look(status: &ClusterStatus, found: &mut Findings) {
    status.members.iter().for_each(|member| look_at(member, found));
    if lacks_a_spare(status) {
        let summary = "if one more coordinator is lost, there is no quorum".to_owned();
        let key = AlertKey::of(Condition::NoSpareMember, AlertObject::Cluster);
        found.insert(key, Finding { severity: Severity::Critical, summary });
    }
}

fn look_at(member: &MemberStatus, found: &mut Findings) {
    // It has not begun, or ends.
    if member.member.role == MemberRole::Outside {
        return;
    }
    let name = &member.member.name;
    let mut add = |condition, severity, summary| {
        let key = AlertKey::of(condition, AlertObject::Member(member.member.id));
        found.insert(key, Finding { severity, summary });
    };
    if !member.reachable {
        let problem = member.problem.as_deref().unwrap_or("no answer");
        let summary = format!("coordinator {name} does not answer: {problem}");
        add(Condition::MemberUnreachable, Severity::Critical, summary);
    }
    if let Some(behind) = member.lag_entries.filter(|entries| *entries > LAG_ENTRIES_MAX) {
        let summary = format!("coordinator {name} is {behind} entries behind");
        add(Condition::MemberBehind, Severity::Warning, summary);
    }
    let Some(report) = &member.report else { return };
    if !report.alerts.is_empty() {
        let summary = format!("coordinator {name}: {}", report.alerts.join("; "));
        add(Condition::MemberUnfit, Severity::Critical, summary);
    }
    if let Some(free_percent) = free_percent(report)
        && free_percent < DISK_FREE_PERCENT_MIN
    {
        let summary = format!("the disk of coordinator {name} has {free_percent} % left");
        add(Condition::MemberDiskLow, Severity::Warning, summary);
    }
}

fn free_percent(report: &MemberReport) -> Option<u128> {
    let (bytes, free_bytes) = (report.disk_bytes?, report.disk_free_bytes?);
    (u128::from(free_bytes) * 100).checked_div(u128::from(bytes))
}
