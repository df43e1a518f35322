//! What machines used: posting records, and quantities grouped.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{
    Code, CorrectionPost, CorrectionView, EntryPlace, Page, Problem, UsagePost, UsagePosted,
    UsageRow,
};
use novacron_protocol::ids::{ProjectName, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Found;
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use crate::auth::Where;
use crate::ledger::LedgerError;
use crate::ledger::period::{self, PeriodError};
use crate::ledger::usage::{GroupBy, UsageFilter};
use crate::propose::Intent;
use crate::state::Accepted as Applied;
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::hour::Hour;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/usage", "getUsage", "Show what was used, grouped")
            .needs(Permission::LedgerRead, Where::Fleet)
            .to(show),
        post("/api/v1/usage/records", "postUsage", "Post what a node measured")
            .needs(Permission::LedgerPost, Where::Fleet)
            .refuses(&[Code::NotFound, Code::TooManyRecords, Code::NoCapacity])
            .to(post_records),
        post("/api/v1/usage/corrections", "correctUsage", "Correct an entry of the ledger")
            .needs(Permission::LedgerCorrect, Where::Fleet)
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

async fn show(call: Call<Nothing, UsageQuery, NoBody>) -> Result<Found<Page<UsageRow>>, Problem> {
    let Call { api, query, .. } = call;
    let group_by = query.group_by.as_deref().unwrap_or("meter");
    let group_by = GroupBy::parse(group_by).ok_or_else(|| {
        let text = "group_by: one of meter, hour, day, vm, project, label:KEY";
        Problem::new(Code::InvalidRequest, text).about("group_by")
    })?;
    let list = ListQuery { limit: query.limit, cursor: query.cursor, page: None };
    let page = list.window(|text| parse_cursor(text))?;
    let (clock, vm, revision) = api
        .read(|fleet| {
            let vm = query.vm.as_deref().map(|text| (text, fleet.find_vm(text).map(|vm| vm.id)));
            let vm =
                vm.map(|(text, found)| found.or_else(|| text.parse().ok()).ok_or(text.to_owned()));
            (fleet.clock(), vm.transpose(), fleet.revision())
        })
        .await?;
    let vm: Option<VmId> = vm.map_err(|text| {
        Problem::new(Code::InvalidRequest, format!("vm: there is no machine `{text}`")).about("vm")
    })?;
    let from = query.from.map(|from| hour("from", from)).transpose()?;
    let to = query.to.map(|to| hour("to", to)).transpose()?;
    let from = from.unwrap_or_else(|| period::month_of(clock));
    let to = to.unwrap_or_else(|| Hour::of(clock).next());
    let windows = period::range(from, to).map_err(|error| invalid("to", &error))?;
    let filter = UsageFilter { project: query.project, vm, meter: query.meter, group_by };
    let rows = api.ledger().run(move |ledger| ledger.usage(windows, &filter)).await;
    let rows = rows.map_err(|error: LedgerError| error.to_problem())?;
    let behind =
        rows.into_iter().filter(|row| page.after.as_ref().is_none_or(|after| key(row) > *after));
    Ok(Found(page.page(behind, |row| write_cursor(&key(row)), revision)))
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
