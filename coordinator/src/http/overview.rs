//! The fleet in one document.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{
    Attention, AttentionKind, ClusterStatus, MemberRole, MemberStatus, MonthCost, Overview,
    Problem, Severity,
};

use super::answer::Found;
use super::body::NoBody;
use super::parameters::Nothing;
use super::route::{Call, Route, get};
use crate::auth::{Sight, Where};
use crate::ledger::LedgerError;
use crate::state::Fleet;
use crate::state::binding::Reach;
use crate::status::{LAG_ENTRIES_MAX, lacks_a_spare};
use crate::view::overview::{Lens, Survey, point_out};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/overview", "getOverview", "Show the fleet in one document")
            .needs(Permission::VmRead, Where::Somewhere)
            .to(show),
    ]
}

/// What somebody may see beside machines.
#[derive(Debug, Default)]
struct More {
    /// Where it may see what was used and what that costs.
    costs: Reach,
    /// Whether it sees the coordinators.
    has_members: bool,
}

async fn show(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<Overview>, Problem> {
    let (mut survey, mut more) = (Survey::default(), None);
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        more.get_or_insert_with(|| More::of(fleet, sight));
        Ok::<_, Problem>(survey.look(fleet, &lens(fleet, sight)))
    };
    call.survey(true, look).await?;
    let (mut shown, more) = (survey.into_overview(), more.unwrap_or_default());
    let cost = async {
        if !more.costs.is_somewhere() {
            return Ok(None);
        }
        let month = call.api.ledger().run(|ledger| ledger.month_so_far()).await;
        month.map(|month: MonthCost| Some(seen_cost(month, &more.costs)))
    };
    let members = async {
        if !more.has_members {
            return None;
        }
        call.api.app.cluster.status().await.ok()
    };
    let (cost, members) = futures_util::future::join(cost, members).await;
    match cost {
        Ok(cost) => shown.cost = cost,
        Err(error) => point_out(&mut shown, [unreadable(&error)]),
    }
    point_out(&mut shown, members.iter().flat_map(of_members));
    // Nobody watches them, so what is in the fleet of them may be over.
    shown.alerts = shown.alerts.filter(|_| call.api.app.switches.alerts);
    Ok(Found(shown))
}

fn lens(fleet: &Fleet, sight: &Sight<'_>) -> Lens {
    let reach = |permission| fleet.reach(&sight.principal().name, permission);
    Lens {
        machines: sight.machines().clone(),
        projects: reach(Permission::ProjectRead),
        has_nodes: reach(Permission::NodeRead).covers(&Scope::Fleet),
        alerts: reach(Permission::AlertRead),
        costs: reach(Permission::LedgerRead),
    }
}

impl More {
    fn of(fleet: &Fleet, sight: &Sight<'_>) -> Self {
        let reach = |permission| fleet.reach(&sight.principal().name, permission);
        Self {
            costs: reach(Permission::LedgerRead),
            has_members: reach(Permission::ClusterRead).covers(&Scope::Fleet),
        }
    }
}

/// What the projects cost that somebody sees.
fn seen_cost(mut month: MonthCost, sees: &Reach) -> MonthCost {
    month.projects.retain(|total| sees.covers_project(&total.project));
    // The parts of a sum that is in range, all of one sign but for corrections.
    let parts = month.projects.iter().map(|total| total.micro_dollars);
    month.micro_dollars = parts.fold(0, i64::saturating_add);
    month
}

fn unreadable(error: &LedgerError) -> Attention {
    Attention {
        severity: Severity::Critical,
        kind: AttentionKind::LedgerUnreadable,
        name: "ledger".to_owned(),
        detail: error.to_string(),
    }
}

fn of_members(status: &ClusterStatus) -> Vec<Attention> {
    let mut attention: Vec<_> = status.members.iter().filter_map(of_member).collect();
    if lacks_a_spare(status) {
        attention.push(Attention {
            severity: Severity::Critical,
            kind: AttentionKind::NoSpareMember,
            name: "cluster".to_owned(),
            detail: "if one more coordinator is lost, there is no quorum".to_owned(),
        });
    }
    attention
}

fn of_member(member: &MemberStatus) -> Option<Attention> {
    // It has not begun, or ends.
    if member.member.role == MemberRole::Outside {
        return None;
    }
    let name = member.member.name.clone();
    if !member.reachable {
        let detail = member.problem.clone().unwrap_or_default();
        let (severity, kind) = (Severity::Critical, AttentionKind::MemberUnreachable);
        return Some(Attention { severity, kind, name, detail });
    }
    let behind = member.lag_entries.filter(|entries| *entries > LAG_ENTRIES_MAX)?;
    let (severity, kind) = (Severity::Warning, AttentionKind::MemberBehind);
    Some(Attention { severity, kind, name, detail: format!("it is {behind} entries behind") })
}
