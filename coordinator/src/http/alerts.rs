//! Alerts: what somebody has to look at.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::alert::{AlertKey, AlertKind, AlertObject};
use novacron_protocol::api::{
    AlertNote, AlertRaise, AlertStateFilter, AlertView, Code, Page, Problem, Severity,
};
use novacron_protocol::ids::{AlertId, AlertName};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Found;
use super::body::{Json, NoBody, OptionalJson};
use super::lists::{Cursors, ListQuery};
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use super::{migrations, vms};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::alert::Alert;
use crate::state::{Accepted as Applied, Fleet};
use crate::switches::Part;
use crate::view::alert::alert_view;

const ALL: &str = "/api/v1/alerts";
const ONE: &str = "/api/v1/alerts/{alert}";
const ACKNOWLEDGE: &str = "/api/v1/alerts/{alert}/acknowledge";
const UNACKNOWLEDGE: &str = "/api/v1/alerts/{alert}/unacknowledge";
const RESOLVE: &str = "/api/v1/alerts/{alert}/resolve";

pub(super) fn routes() -> Vec<Route> {
    let refusals = &[Code::NotFound, Code::Conflict, Code::IdempotencyConflict];
    vec![
        get(ALL, "listAlerts", "List alerts, open and resolved")
            .needs(Permission::AlertRead, Where::Somewhere)
            .part_of(Part::Alerts)
            .to(list),
        post(ALL, "raiseAlert", "Raise an alert, or count one that is open")
            .needs(Permission::AlertRaise, Where::Somewhere)
            .part_of(Part::Alerts)
            .refuses(&[Code::NotFound, Code::NoCapacity, Code::IdempotencyConflict])
            .to(raise),
        get(ONE, "getAlert", "Show an alert")
            .needs(Permission::AlertRead, Where::Alert)
            .part_of(Part::Alerts)
            .refuses(&[Code::NotFound])
            .to(show),
        post(ACKNOWLEDGE, "acknowledgeAlert", "Say that somebody looks at an alert")
            .needs(Permission::AlertManage, Where::Alert)
            .part_of(Part::Alerts)
            .refuses(refusals)
            .to(acknowledge),
        post(UNACKNOWLEDGE, "unacknowledgeAlert", "Say that nobody looks at an alert any more")
            .needs(Permission::AlertManage, Where::Alert)
            .part_of(Part::Alerts)
            .refuses(refusals)
            .to(unacknowledge),
        post(RESOLVE, "resolveAlert", "Say that what an alert says is over")
            .needs(Permission::AlertManage, Where::Alert)
            .part_of(Part::Alerts)
            .refuses(refusals)
            .to(resolve),
    ]
}

/// Which alert.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AlertPath {
    /// Id of the alert.
    alert: AlertId,
}

/// Which alerts, and which part of the list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AlertsQuery {
    /// Only alerts that stand so; `open` are those that are firing or acknowledged.
    #[serde(default)]
    state: Option<AlertStateFilter>,
    /// Only alerts of this severity.
    #[serde(default)]
    severity: Option<Severity>,
    /// Only alerts of this kind, such as `node-unreachable`.
    #[serde(default)]
    kind: Option<String>,
    /// Only alerts about this, such as `node/node-01`, `vm/web-01` (name or id) or `cluster`.
    #[serde(default)]
    object: Option<String>,
    /// Only alerts of this project.
    #[serde(default)]
    project: Option<String>,
    /// Only alerts about what is in this region.
    #[serde(default)]
    region: Option<String>,
    /// Items of a page, 1 to 1,000; 100 unless said.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// Number of the page, from 1; instead of a cursor.
    #[serde(default)]
    page: Option<u32>,
}

/// What of a query is compared with each alert. `object` is read when the fleet is at hand, which knows names.
struct Filter<'a> {
    query: &'a AlertsQuery,
    object: Option<AlertObject>,
}

impl Filter<'_> {
    fn lets_through(&self, alert: &Alert) -> bool {
        fn is(wanted: Option<&str>, found: Option<&str>) -> bool {
            wanted.is_none() || wanted == found
        }
        let query = self.query;
        query.state.is_none_or(|state| state.lets_through(alert.stage.state()))
            && query.severity.is_none_or(|severity| severity == alert.severity)
            && is(query.kind.as_deref(), Some(alert.key.kind.word()))
            && self.object.as_ref().is_none_or(|object| *object == alert.key.object)
            && is(query.project.as_deref(), alert.project.as_ref().map(|name| name.as_str()))
            && is(query.region.as_deref(), alert.region.as_ref().map(|code| code.as_str()))
    }
}

async fn list(call: Call<Nothing, AlertsQuery, NoBody>) -> Result<Found<Page<AlertView>>, Problem> {
    let query = &call.query;
    let list = ListQuery { limit: query.limit, cursor: query.cursor.clone(), page: query.page };
    let is_scan = list.is_scan();
    let mut page = list.window(|text| CURSORS.parse(text))?.gather();
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        let object = query.object.as_deref().map(|text| read_object(fleet, sight, text));
        let object = object.transpose()?;
        let filter = Filter { query, object };
        let is_shown =
            |alert: &Alert| sight.reach().covers(&alert.scope()) && filter.lets_through(alert);
        let show = |alert: &Alert| is_shown(alert).then(|| alert_view(alert));
        let rows = fleet.alerts_after(page.after().copied());
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |alert| alert.id, show))
    };
    call.survey(is_scan, look).await?;
    page.into_page(|alert| CURSORS.write(alert)).map(Found)
}

/// Those of this list.
const CURSORS: Cursors = Cursors("alert-");

/// What a text means, machines that are seen also by their names. A machine that is gone is meant by its id.
fn read_object(fleet: &Fleet, sight: &Sight<'_>, text: &str) -> Result<AlertObject, Problem> {
    let vm = text.strip_prefix("vm/").and_then(|vm| fleet.find_vm(vm));
    if let Some(vm) = vm.filter(|vm| sight.sees(vm.project())) {
        return Ok(AlertObject::Vm(vm.id));
    }
    text.parse::<AlertObject>().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("object: {error}")).about("object")
    })
}

async fn show(call: Call<AlertPath, Nothing, NoBody>) -> Result<Found<AlertView>, Problem> {
    find(&call, call.path.alert).await.map(Found)
}

async fn raise(
    call: Call<Nothing, Nothing, Json<AlertRaise>>,
) -> Result<Found<AlertView>, Problem> {
    let AlertRaise { key, severity, summary, object } = call.body.0.clone();
    let name = key.parse::<AlertName>().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("key: {error}")).about("key")
    })?;
    let object = call.foresee(|fleet, sight| object_to_raise(fleet, sight, &object)).await?;
    let key = AlertKey { kind: AlertKind::Named(name), object };
    let intent = call.authorize(Intent::RaiseAlert { key, severity, summary })?;
    accepted(&call, intent).await
}

/// What is not seen is not there, for whoever does not see it.
fn object_to_raise(fleet: &Fleet, sight: &Sight<'_>, text: &str) -> Result<AlertObject, Problem> {
    match text.split_once('/') {
        Some(("vm", vm)) => vms::find(fleet, sight, vm).map(|vm| AlertObject::Vm(vm.id)),
        Some(("migration", migration)) => {
            migrations::check(fleet, sight, migration)?;
            read_object(fleet, sight, text)
        }
        _ => read_object(fleet, sight, text),
    }
}

async fn acknowledge(
    call: Call<AlertPath, Nothing, OptionalJson<AlertNote>>,
) -> Result<Found<AlertView>, Problem> {
    let (alert, note) = (call.path.alert, Some(call.body.0.note.clone()));
    let intent = call.authorize(Intent::AcknowledgeAlert { alert, note })?;
    accepted(&call, intent).await
}

async fn unacknowledge(
    call: Call<AlertPath, Nothing, NoBody>,
) -> Result<Found<AlertView>, Problem> {
    let intent = Intent::AcknowledgeAlert { alert: call.path.alert, note: None };
    let intent = call.authorize(intent)?;
    accepted(&call, intent).await
}

async fn resolve(
    call: Call<AlertPath, Nothing, OptionalJson<AlertNote>>,
) -> Result<Found<AlertView>, Problem> {
    let (alert, note) = (call.path.alert, call.body.0.note.clone());
    let intent = call.authorize(Intent::ResolveAlert { alert, note })?;
    accepted(&call, intent).await
}

/// Proposes, and shows the alert that it was about as it stands then. Who may change an alert sees what became of it.
async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<Found<AlertView>, Problem> {
    match call.propose(intent).await? {
        Applied::Alert(alert) => {
            let view = call.read(move |fleet, _| fleet.alert(alert).map(alert_view));
            view.await?.map(Found).ok_or_else(|| not_found(alert))
        }
        other => Err(super::unexpected("an alert", &other)),
    }
}

async fn find<P, Q, B>(call: &Call<P, Q, B>, alert: AlertId) -> Result<AlertView, Problem> {
    let view = call.read(move |fleet, sight| {
        let row = fleet.alert(alert).ok_or_else(|| not_found(alert))?;
        check_row(fleet, sight, row)?;
        Ok(alert_view(row))
    });
    view.await?
}

/// Whether the caller may do what it asks for with an alert, if it is there.
pub(super) fn check(fleet: &Fleet, sight: &Sight<'_>, text: &str) -> Result<(), Problem> {
    let Ok(alert) = text.parse::<AlertId>() else { return Ok(()) };
    fleet.alert(alert).map_or(Ok(()), |row| check_row(fleet, sight, row))
}

/// Whose alerts are not seen does not learn that they are there.
fn check_row(fleet: &Fleet, sight: &Sight<'_>, row: &Alert) -> Result<(), Problem> {
    let sees = fleet.reach(&sight.principal().name, Permission::AlertRead);
    let scope: Scope = row.scope();
    if !sees.covers(&scope) {
        return Err(not_found(row.id));
    }
    Ok(sight.check(scope)?)
}

fn not_found(alert: AlertId) -> Problem {
    Problem::new(Code::NotFound, format!("there is no alert {alert}")).about("alert")
}
