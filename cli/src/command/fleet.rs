//! Events and tokens.

use novacron_protocol::ids::Revision;
use novacron_sdk::{Client, EventFilter};

use crate::args::{Events, TokenCommand};
use crate::failure::Failure;
use crate::output::{Printer, event, notice};

/// `novacron events`.
///
/// # Errors
/// Why it did not work.
pub fn events(events: &Events, client: &Client, printer: Printer) -> Result<(), Failure> {
    let filter = EventFilter {
        vm: events.vm.clone(),
        migration: events.migration,
        node: events.node.clone(),
        project: events.project.clone(),
        kinds: events.kinds.clone(),
    };
    let from = events.from.unwrap_or(Revision(0));
    if !events.follow {
        return printer.list(&client.events(&filter, from)?, "no events");
    }
    for event in client.watch_events(filter, from) {
        let event = event?;
        printer.next(&event, &event::line(&event))?;
    }
    Ok(())
}

/// `novacron token`.
///
/// # Errors
/// Why it did not work.
pub fn token(command: &TokenCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    let TokenCommand::Create(create) = command;
    let view = client.token_create(&create.request())?;
    printer.one(&view)?;
    if let Some(address) = view.coordinators.first().filter(|_| printer.is_for_people()) {
        let redeem = match view.role.as_str() {
            "agent" => "novacron-agent join --config FILE",
            "coordinator" => "novacron-coordinator join --config FILE",
            _ => "novacron-coordinator operator --name NAME --out DIR",
        };
        notice(&format!("use it with `{redeem} --token TOKEN --coordinator {address}`"));
    }
    Ok(())
}
