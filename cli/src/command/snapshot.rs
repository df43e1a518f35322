//! Snapshots of machines.

use novacron_protocol::api::{SnapshotState, SnapshotView};
use novacron_sdk::Client;

use crate::args::{SnapshotCommand, SnapshotOrder};
use crate::failure::Failure;
use crate::output::{Printer, notice};

/// `novacron vm snapshot`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &SnapshotCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        SnapshotCommand::List { vm } => printer.list(&client.snapshots(vm)?, "no snapshots"),
        SnapshotCommand::Show(which) => printer.one(&client.snapshot(&which.vm, &which.snapshot)?),
        SnapshotCommand::Create(order) => {
            let view = client.snapshot_create(&order.which.vm, &order.which.snapshot)?;
            settle(view, order, client, printer)
        }
        SnapshotCommand::Delete(order) => {
            let view = client.snapshot_delete(&order.which.vm, &order.which.snapshot)?;
            settle(view, order, client, printer)
        }
    }
}

/// `novacron vm restore`.
///
/// # Errors
/// Why it did not work.
pub fn restore(order: &SnapshotOrder, client: &Client, printer: Printer) -> Result<(), Failure> {
    let view = client.snapshot_restore(&order.which.vm, &order.which.snapshot)?;
    settle(view, order, client, printer)
}

/// Waits until it is done, if that was asked for, and prints the snapshot. One that stays and has a reason is not what was
/// asked for.
fn settle(
    view: SnapshotView,
    order: &SnapshotOrder,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    if !order.wait.wait {
        return printer.one(&view);
    }
    // By id: the name may come to mean another machine.
    let (vm, name) = (view.vm.to_string(), view.name.as_str());
    let Some(view) = client.snapshot_wait(&vm, name, order.wait.timeout)? else {
        notice(&format!("snapshot {name} is deleted"));
        return Ok(());
    };
    printer.one(&view)?;
    match (view.state, view.reason.as_str()) {
        (SnapshotState::Failed, reason) => {
            Err(Failure::failed(format!("snapshot {name} failed: {reason}")))
        }
        (_, "") => Ok(()),
        (_, reason) => Err(Failure::failed(format!("snapshot {name}: {reason}"))),
    }
}
