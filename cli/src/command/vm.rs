//! Machines.

use std::cell::Cell;
use std::io::{IsTerminal, Write, stderr, stdin};

use novacron_protocol::api::{Code, EventKind, VmStop, VmView};
use novacron_protocol::vm::VmState;
use novacron_sdk::{Client, Error, EventFilter};

use super::{console, migrate, snapshot};
use crate::args::{AnnotationChange, VmCommand, Wait};
use crate::failure::Failure;
use crate::output::{Printer, event, notice, vm::state_line};

/// `novacron vm`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &VmCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        VmCommand::List(list) => {
            printer.list(&client.vms(&list.filter())?, "there are no machines")
        }
        VmCommand::Create(create) => {
            let view = client.vm_create(&create.request()?)?;
            let wanted = if create.no_start { VmState::Stopped } else { VmState::Running };
            reach(view, wanted, create.wait, client, printer)
        }
        VmCommand::Show(vm) => printer.one(&client.vm(&vm.vm)?),
        VmCommand::Start { vm, wait } => {
            reach(client.vm_start(&vm.vm)?, VmState::Running, *wait, client, printer)
        }
        VmCommand::Stop { vm, force, wait } => {
            let view = client.vm_stop(&vm.vm, &VmStop { force: *force })?;
            reach(view, VmState::Stopped, *wait, client, printer)
        }
        VmCommand::Destroy { vm, yes, wait } => destroy(&vm.vm, *yes, *wait, client, printer),
        VmCommand::Watch(vm) => watch(&vm.vm, client, printer),
        VmCommand::Migrate(migrate) => migrate::begin(migrate, client, printer),
        VmCommand::Annotate { vm, changes } => annotate(&vm.vm, changes, client, printer),
        VmCommand::Snapshot(command) => snapshot::run(command, client, printer),
        VmCommand::Restore(order) => snapshot::restore(order, client, printer),
        VmCommand::Console(console) => console::run(console, client, printer),
    }
}

/// One after the other: what is before one that is refused is done.
fn annotate(
    vm: &str,
    changes: &[AnnotationChange],
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    // The name may come to mean another machine in between.
    let vm = client.vm(vm)?.id.to_string();
    for AnnotationChange { key, value } in changes {
        match value {
            Some(value) => drop(client.annotate(&vm, key, value)?),
            None => client.annotation_delete(&vm, key)?,
        }
    }
    printer.one(&client.vm(&vm)?)
}

/// Waits until a machine is in a state, if that was asked for, and prints the machine.
fn reach(
    view: VmView,
    wanted: VmState,
    wait: Wait,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    if !wait.wait {
        return printer.one(&view);
    }
    let said = Cell::new(false);
    let is_reached = |vm: &VmView| {
        // It may take for ever, and the reason says what would help.
        if vm.state == VmState::Pending && !vm.reason.is_empty() && !said.replace(true) {
            notice(&state_line(vm));
        }
        vm.state == wanted
    };
    // By id: the name may come to mean another machine.
    let view = client.vm_wait(&view.id.to_string(), wait.timeout, is_reached)?;
    printer.one(&view)?;
    if view.state == wanted {
        return Ok(());
    }
    Err(Failure::failed(state_line(&view)))
}

fn destroy(
    vm: &str,
    yes: bool,
    wait: Wait,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    if !yes {
        // Tells the caller of a wrong name before it asks.
        confirm(&client.vm(vm)?)?;
    }
    let mut view = client.vm_delete(vm)?;
    if wait.wait {
        view = await_gone(view, wait, client)?;
    }
    printer.one(&view)
}

fn await_gone(view: VmView, wait: Wait, client: &Client) -> Result<VmView, Failure> {
    match client.vm_wait(&view.id.to_string(), wait.timeout, |vm| vm.state == VmState::Deleted) {
        Ok(view) if view.state == VmState::Deleted => Ok(view),
        Ok(view) => Err(Failure::failed(state_line(&view))),
        Err(Error::Problem(problem)) if problem.code == Code::NotFound => {
            Ok(VmView { state: VmState::Deleted, node: None, ..view })
        }
        Err(error) => Err(error.into()),
    }
}

fn confirm(vm: &VmView) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::usage("nobody can be asked whether to destroy the machine")
            .hint("`--yes` does not ask"));
    }
    anstream::eprint!("Destroy {} and its disks? [y/N] ", vm.name);
    let mut answer = String::new();
    let read = stderr().flush().and_then(|()| stdin().read_line(&mut answer));
    read.map_err(|error| Failure::io("cannot read the answer", &error))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed(format!("{} is left as it is", vm.name))),
    }
}

/// Shows the machine's last change and every later one, until it is gone.
fn watch(vm: &str, client: &Client, printer: Printer) -> Result<(), Failure> {
    let view = client.vm(vm)?;
    if printer.is_for_people() {
        notice(&state_line(&view));
    }
    let filter = EventFilter { vm: Some(view.id.to_string()), ..EventFilter::default() };
    for event in client.watch_events(filter, view.revision) {
        let event = event?;
        printer.next(&event, &event::line(&event))?;
        if event.kind == EventKind::VmDeleted {
            break;
        }
    }
    Ok(())
}
