//! The table of all routes. Router and description are made from it and from nothing else.

use super::route::Route;
use super::{
    alerts, annotations, audit, backup, batches, cluster, console, events, health, invoices,
    ledger, metrics, migrations, networks, nodes, overview, principals, projects, rates, regions,
    secrets, snapshots, tokens, usage, vms, whoami,
};

/// Where the API's resources live; what is outside is for probes.
pub const PREFIX: &str = "/api/v1";

/// Every route.
pub fn table() -> Vec<Route> {
    [
        vms::routes(),
        annotations::routes(),
        snapshots::routes(),
        console::routes(),
        migrations::routes(),
        batches::routes(),
        nodes::routes(),
        regions::routes(),
        networks::routes(),
        events::routes(),
        alerts::routes(),
        audit::routes(),
        cluster::routes(),
        backup::routes(),
        tokens::routes(),
        secrets::routes(),
        projects::routes(),
        principals::routes(),
        whoami::routes(),
        overview::routes(),
        metrics::routes(),
        usage::routes(),
        invoices::routes(),
        rates::routes(),
        ledger::routes(),
        health::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
