//! Alerts: what somebody has to look at.

use novacron_protocol::api::AlertStateFilter;
use novacron_sdk::Client;

use crate::args::AlertCommand;
use crate::failure::Failure;
use crate::output::Printer;

/// `novacron alert`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &AlertCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        AlertCommand::List(list) => {
            let is_open = matches!(list.state, None | Some(AlertStateFilter::Open)) && !list.all;
            let nothing = if is_open { "no such alerts are open" } else { "no such alerts" };
            printer.list(&client.alerts(&list.filter())?, nothing)
        }
        AlertCommand::Show { alert } => printer.one(&client.alert(*alert)?),
        AlertCommand::Raise(raise) => printer.one(&client.alert_raise(&raise.request())?),
        AlertCommand::Ack { alert, note } => printer.one(&client.alert_acknowledge(*alert, note)?),
        AlertCommand::Unack { alert } => printer.one(&client.alert_unacknowledge(*alert)?),
        AlertCommand::Resolve { alert, note } => printer.one(&client.alert_resolve(*alert, note)?),
    }
}
