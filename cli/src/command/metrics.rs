//! Metrics: over time, and as they come.

use std::time::{SystemTime, UNIX_EPOCH};

use novacron_protocol::time::Timestamp;
use novacron_sdk::Client;

use crate::args::{MetricsCommand, MetricsOf};
use crate::failure::Failure;
use crate::output::{Printer, metrics};

/// `novacron metrics`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &MetricsCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        MetricsCommand::List => printer.list(&client.metric_definitions()?, "nothing is measured"),
        MetricsCommand::Vm(of) => show(of, "vm", client, printer),
        MetricsCommand::Node(of) => show(of, "node", client, printer),
        MetricsCommand::Region(of) => show(of, "region", client, printer),
    }
}

fn show(of: &MetricsOf, kind: &str, client: &Client, printer: Printer) -> Result<(), Failure> {
    let query = of.query(kind, now());
    if !of.watch {
        let history = client.metrics(&query)?;
        let nothing =
            "nothing was measured then: agents begin ten seconds after they have a session";
        return printer.whole(&history, &history.series, nothing);
    }
    for answer in client.watch_metrics(query) {
        let answer = answer?;
        printer.next(&answer, &metrics::lines(&answer))?;
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
