//! The ledger itself: its sealed windows, its entries, and whether all of it agrees.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{
    Code, EntryKind, EntryPlace, EntryView, LedgerVerdict, Page, Problem, Whole, WindowFile,
    WindowSum, WindowView,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Found;
use super::body::NoBody;
use super::lists::{ListQuery, unknown_cursor};
use super::parameters::Nothing;
use super::route::{Call, Route, get};
use super::usage::hour;
use crate::auth::{Sight, Where};
use crate::ledger::LedgerError;
use crate::ledger::pages::Entry;
use crate::ledger::verify::Known;
use crate::state::Fleet;
use crate::state::ledger::content::file_name;
use crate::state::ledger::entry::{EntryId, What};
use crate::state::ledger::hash::ContentHash;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::seal::WindowHeader;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/ledger/windows", "listLedgerWindows", "List sealed windows of the ledger")
            .needs(Permission::LedgerRead, Where::Fleet)
            .to(list),
        get("/api/v1/ledger/entries", "listLedgerEntries", "List the entries of a window")
            .needs(Permission::LedgerRead, Where::Fleet)
            .to(entries),
        get("/api/v1/ledger/verify", "verifyLedger", "Check a part of the ledger")
            .needs(Permission::LedgerRead, Where::Fleet)
            .to(verify),
    ]
}

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Found<Page<WindowView>>, Problem> {
    let mut page = call.query.window(|text| text.parse().ok().map(Hour))?.gather();
    let look = |fleet: &Fleet, _: &Sight<'_>| {
        let rows = fleet.sealed_windows_after(page.after().copied());
        let show = |header: &WindowHeader| Some(window_view(header));
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |header| header.window, show))
    };
    call.survey(call.query.is_scan(), look).await?;
    page.into_page(|hour| hour.0.to_string()).map(Found)
}

fn window_view(header: &WindowHeader) -> WindowView {
    let sums = Meter::ALL.into_iter().zip(&header.sums).map(|(meter, sum)| WindowSum {
        meter,
        used: whole(sum.used),
        taken_back: whole(sum.taken_back),
    });
    let files = header.files().map(|(kind, file)| WindowFile {
        name: file_name(header.window, kind),
        hash: file.hash.to_string(),
        bytes: file.bytes,
    });
    WindowView {
        window: header.window.begin(),
        first_index: header.first_index,
        last_index: header.last_index,
        entries: header.entries,
        sums: sums.collect(),
        files: files.collect(),
        sealed_at: header.sealed_at,
        previous: header.previous.to_string(),
        chain: header.chain.to_string(),
    }
}

fn whole(quantity: u128) -> Whole {
    Whole(i128::try_from(quantity).unwrap_or(i128::MAX))
}

/// Which entries.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntriesQuery {
    /// The window: a full hour, open or sealed.
    window: Timestamp,
    /// Items of a page, 1 to 1,000; 100 unless said.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

async fn entries(
    call: Call<Nothing, EntriesQuery, NoBody>,
) -> Result<Found<Page<EntryView>>, Problem> {
    let EntriesQuery { window, limit, cursor } = call.query.clone();
    let window = hour("window", window)?;
    let page = ListQuery { limit, cursor, page: None }.window(|text| text.parse::<u64>().ok())?;
    let revision = call.api.read(Fleet::revision).await?;
    let (after, most) = (page.after.unwrap_or(0), page.limit + 1);
    let read =
        move |ledger: &crate::ledger::Ledger| ledger.entries(window, after, most, entry_view);
    let _place = call.dig().await?;
    let entries = call.api.ledger().run(read).await;
    let entries = entries.map_err(|error: LedgerError| error.to_problem())?;
    Ok(Found(page.page(entries.into_iter(), |entry| entry.index.to_string(), revision)))
}

fn entry_view(id: EntryId, entry: &Entry<'_>) -> EntryView {
    let (kind, corrects) = match entry.entry.what {
        What::Interval { .. } => (EntryKind::Interval, None),
        What::Migration { .. } => (EntryKind::Migration, None),
        What::Reversal(correction) => (EntryKind::Reversal, Some(correction.original)),
        What::Replacement(correction) => (EntryKind::Replacement, Some(correction.original)),
    };
    let note = entry.batch.note.as_ref();
    EntryView {
        window: id.window.begin(),
        index: id.index,
        kind,
        vm: entry.vm,
        project: entry.project.clone(),
        node: entry.batch.provider.clone(),
        meter: entry.entry.meter,
        quantity: whole(entry.entry.quantity()),
        used: entry.entry.used().begin(),
        posted_at: entry.batch.posted_at,
        corrects: corrects
            .map(|EntryId { window, index }| EntryPlace { window: window.begin(), index }),
        actor: note.map(|note| note.actor.clone()),
        reason: note.map(|note| note.reason.clone()),
    }
}

/// Which part, and what the caller knows of the ledger.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyQuery {
    /// `next_cursor` of the part before.
    #[serde(default)]
    cursor: Option<String>,
    /// `last` of an earlier check: that window must be there and be the same.
    #[serde(default)]
    known: Option<String>,
}

async fn verify(call: Call<Nothing, VerifyQuery, NoBody>) -> Result<Found<LedgerVerdict>, Problem> {
    let VerifyQuery { cursor, known } = call.query.clone();
    let from = match cursor.as_deref() {
        None => Hour(0),
        Some(text) => text.parse().map(Hour).map_err(|_| unknown_cursor())?,
    };
    let known = known.as_deref().map(parse_known).transpose()?;
    call.api.read(|_| ()).await?;
    let _place = call.dig().await?;
    let verdict = call.api.ledger().run(move |ledger| ledger.verify(from, known)).await;
    verdict.map(Found).map_err(|error: LedgerError| error.to_problem())
}

fn parse_known(text: &str) -> Result<Known, Problem> {
    let parsed = text.split_once(':').and_then(|(window, hash)| {
        Some((Hour(window.parse().ok()?), hash.parse::<ContentHash>().ok()?))
    });
    let wrong = "known: hand in `last` of an earlier check";
    parsed.ok_or_else(|| Problem::new(Code::InvalidRequest, wrong).about("known"))
}
