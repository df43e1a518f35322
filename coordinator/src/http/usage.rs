//! What machines used: posting records, and quantities grouped.

use std::ops::Range;

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{
    Code, CorrectionPost, CorrectionView, EntryPlace, Page, Problem, UsagePost, UsagePosted,
    UsageRow, UsageSeries, UsageStep,
};
use novacron_protocol::ids::{ProjectName, Revision, VmId};
use novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX;
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Found;
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use super::trace::shown;
use crate::auth::{Sight, Where};
use crate::ledger::LedgerError;
use crate::ledger::period::{self, PeriodError};
use crate::ledger::series::{Steps, TooManyPoints};
use crate::ledger::usage::{GroupBy, UsageFilter};
use crate::propose::{Intent, ProposeError};
use crate::state::binding::Reach;
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::hour::Hour;
use crate::state::{Accepted as Applied, Fleet, Refusal};
use crate::switches::Part;

/// What the description says of everything about usage and invoices.
pub(super) const OWN_ADDITION: &str = "NovaCron's own addition: not part of any partner's interface. Quantities and \
    money come from this fleet's ledger.";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/usage", "getUsage", "Show what was used, grouped")
            .needs(Permission::LedgerRead, Where::Somewhere)
            .about(OWN_ADDITION)
            .to(show),
        get("/api/v1/usage/series", "getUsageSeries", "Show what was used over time")
            .needs(Permission::LedgerRead, Where::Somewhere)
            .about(OWN_ADDITION)
            .to(series),
        post("/api/v1/usage/records", "postUsage", "Post what a node measured")
            .needs(Permission::LedgerPost, Where::Fleet)
            .about(OWN_ADDITION)
            .part_of(Part::Metering)
            .refuses(&[Code::NotFound, Code::TooManyRecords, Code::NoCapacity])
            .to(post_records),
        post("/api/v1/usage/corrections", "correctUsage", "Correct an entry of the ledger")
            .needs(Permission::LedgerCorrect, Where::Fleet)
            .about(OWN_ADDITION)
            .refuses(&[
                Code::NotFound,
                Code::Conflict,
                Code::AlreadyCorrected,
                Code::NoCapacity,
                Code::IdempotencyConflict,
            ])
            .to(correct),
    ]
}

/// Which usage, and how it is grouped.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    /// From this full hour on; the beginning of the month unless said.
    #[serde(default)]
    from: Option<Timestamp>,
    /// Up to this full hour; the end of the present one unless said. At most 92 days.
    #[serde(default)]
    to: Option<Timestamp>,
    /// Only this project's.
    #[serde(default)]
    project: Option<ProjectName>,
    /// Only this machine's, by name or id; of a machine that is gone, by id.
    #[serde(default)]
    vm: Option<String>,
    /// Only of this meter.
    #[serde(default)]
    meter: Option<Meter>,
    /// `meter` (unless said), `hour`, `day`, `vm`, `project`, or `label:KEY`; always by meter, too.
    #[serde(default)]
    group_by: Option<String>,
    /// Items of a page, 1 to 1,000; 100 unless said.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Which usage, and how finely.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SeriesQuery {
    /// From this full hour on; the beginning of the month unless said.
    #[serde(default)]
    from: Option<Timestamp>,
    /// Up to this full hour; the end of the present one unless said. At most 92 days.
    #[serde(default)]
    to: Option<Timestamp>,
    /// Only this project's.
    #[serde(default)]
    project: Option<ProjectName>,
    /// Only this machine's, by name or id; of a machine that is gone, by id.
    #[serde(default)]
    vm: Option<String>,
    /// Only of this meter.
    #[serde(default)]
    meter: Option<Meter>,
    /// A point for each `hour`, at most 1,000, or for each `day`, unless said.
    #[serde(default)]
    by: Option<UsageStep>,
}

async fn series(call: Call<Nothing, SeriesQuery, NoBody>) -> Result<Found<UsageSeries>, Problem> {
    let query = &call.query;
    let Asked { within, clock, vm, .. } = asked(&call, &query.project, &query.vm).await?;
    let windows = windows(query.from, query.to, clock)?;
    let steps = Steps::new(windows, query.by.unwrap_or(UsageStep::Day));
    let steps = steps.map_err(|error: TooManyPoints| {
        Problem::new(Code::InvalidRequest, format!("by: {error}")).about("by")
    })?;
    let (project, meter, group_by) = (query.project.clone(), query.meter, GroupBy::Meter);
    let filter = UsageFilter { within: Some(within), project, vm, meter, group_by };
    let _place = call.dig().await?;
    let series = call.api.ledger().run(move |ledger| ledger.usage_series(&steps, &filter)).await;
    series.map(Found).map_err(|error: LedgerError| error.to_problem())
}

/// What a question about usage means in the fleet.
struct Asked {
    /// Where the ledger may be read.
    within: Reach,
    clock: Timestamp,
    vm: Option<VmId>,
    revision: Revision,
}

async fn asked<Q>(
    call: &Call<Nothing, Q, NoBody>,
    project: &Option<ProjectName>,
    vm: &Option<String>,
) -> Result<Asked, Problem> {
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        let within = readable(sight, project.as_ref())?;
        let found = vm.as_deref().and_then(|text| fleet.find_vm(text));
        let found = found.filter(|vm| within.covers_project(&vm.spec.project)).map(|vm| vm.id);
        let (clock, revision) = (fleet.clock(), fleet.revision());
        Ok::<_, Problem>(Asked { within, clock, vm: found, revision })
    };
    let asked = call.read(look).await??;
    Ok(Asked { vm: machine(vm.as_deref(), asked.vm)?, ..asked })
}

async fn show(call: Call<Nothing, UsageQuery, NoBody>) -> Result<Found<Page<UsageRow>>, Problem> {
    let query = &call.query;
    let list = ListQuery { limit: query.limit, cursor: query.cursor.clone(), page: None };
    let page = list.window(parse_cursor)?;
    let group_by = group_by(query.group_by.as_deref())?;
    let Asked { within, clock, vm, revision } = asked(&call, &query.project, &query.vm).await?;
    let windows = windows(query.from, query.to, clock)?;
    let (project, meter) = (query.project.clone(), query.meter);
    let filter = UsageFilter { within: Some(within), project, vm, meter, group_by };
    let _place = call.dig().await?;
    let rows = call.api.ledger().run(move |ledger| ledger.usage(windows, &filter)).await;
    let rows = rows.map_err(|error: LedgerError| error.to_problem())?.into_iter();
    let behind = rows.filter(|row| page.after.as_ref().is_none_or(|after| key(row) > *after));
    Ok(Found(page.page(behind, |row| write_cursor(&key(row)), revision)))
}

/// Where the caller may read the ledger: in the project that it names, or wherever it may.
pub(super) fn readable(sight: &Sight<'_>, project: Option<&ProjectName>) -> Result<Reach, Problem> {
    if let Some(project) = project {
        sight.check(Scope::Project(project.clone()))?;
    }
    Ok(sight.reach().clone())
}

fn group_by(text: Option<&str>) -> Result<GroupBy, Problem> {
    let Some(text) = text else { return Ok(GroupBy::Meter) };
    let wrong = "group_by: one of meter, hour, day, vm, project, label:KEY";
    let refusal = || Problem::new(Code::InvalidRequest, wrong).about("group_by");
    GroupBy::parse(text).ok_or_else(refusal)
}

/// The machine that is meant: one that the fleet has, or the id of one that is gone.
fn machine(text: Option<&str>, found: Option<VmId>) -> Result<Option<VmId>, Problem> {
    let (Some(text), None) = (text, found) else { return Ok(found) };
    let shown = shown(text, 64);
    let wrong = || format!("vm: there is no machine `{shown}`; of one that is gone, give the id");
    let refusal = |_| Problem::new(Code::InvalidRequest, wrong()).about("vm");
    text.parse().map(Some).map_err(refusal)
}

fn windows(
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    clock: Timestamp,
) -> Result<Range<Hour>, Problem> {
    let from = from.map(|from| hour("from", from)).transpose()?;
    let to = to.map(|to| hour("to", to)).transpose()?;
    let from = from.unwrap_or_else(|| period::month_of(clock));
    let to = to.unwrap_or_else(|| Hour::of(clock).next());
    period::range(from, to).map_err(|error| invalid("to", &error))
}

/// Where a row stands in the order.
type RowKey = (Option<String>, Meter);

fn key(row: &UsageRow) -> RowKey {
    (row.group.clone(), row.meter)
}

/// A cursor is `meter` or `meter group`.
fn write_cursor((group, meter): &RowKey) -> String {
    match group {
        None => meter.word().to_owned(),
        Some(group) => format!("{} {group}", meter.word()),
    }
}

fn parse_cursor(text: &str) -> Option<RowKey> {
    let (meter, group) = match text.split_once(' ') {
        None => (text, None),
        Some((meter, group)) => (meter, Some(group.to_owned())),
    };
    let meter = Meter::ALL.into_iter().find(|known| known.word() == meter)?;
    Some((group, meter))
}

/// A moment that has to be a full hour.
pub(super) fn hour(field: &str, moment: Timestamp) -> Result<Hour, Problem> {
    period::hour(moment).map_err(|error| invalid(field, &error))
}

pub(super) fn invalid(field: &str, error: &PeriodError) -> Problem {
    Problem::new(Code::InvalidRequest, format!("{field}: {error}")).about(field)
}

async fn post_records(
    call: Call<Nothing, Nothing, Json<UsagePost>>,
) -> Result<Found<UsagePosted>, Problem> {
    let UsagePost { node, records } = call.body.0.clone();
    // Refused before it is carried anywhere; who sends it another way is refused where it is applied.
    if records.len() > USAGE_RECORDS_PER_BATCH_MAX {
        let refusal = Refusal::TooManyRecords(records.len());
        return Err(ProposeError::Refused(refusal).to_problem());
    }
    let intent = call.authorize(Intent::PostUsage { node, records })?;
    match call.propose(intent).await? {
        Applied::Usage(outcomes) => Ok(Found(UsagePosted { outcomes })),
        other => Err(super::unexpected("usage", &other)),
    }
}

async fn correct(
    call: Call<Nothing, Nothing, Json<CorrectionPost>>,
) -> Result<Found<CorrectionView>, Problem> {
    let CorrectionPost { window, index, quantity, reason } = call.body.0.clone();
    let entry = EntryId { window: hour("window", window)?, index };
    let quantity = u128::try_from(quantity.0).map_err(|_| {
        let text = "quantity: what would have been right, 0 or more";
        Problem::new(Code::InvalidRequest, text).about("quantity")
    })?;
    // So that a window that was just sealed is known here, too.
    call.api.read(|_| ()).await?;
    let original = call.api.ledger().run(move |ledger| ledger.sealed_entry(entry)).await;
    let original = original.map_err(|error: LedgerError| error.to_problem())?;
    let intent = call.authorize(Intent::CorrectUsage { entry, quantity, reason, original })?;
    match call.propose(intent).await? {
        Applied::Correction(EntryId { window, index }) => {
            let reversal = EntryPlace { window: window.begin(), index };
            Ok(Found(CorrectionView { reversal }))
        }
        other => Err(super::unexpected("a correction", &other)),
    }
}
