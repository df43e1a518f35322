//! Migrations: begin, follow, give up.

use novacron_protocol::api::MigrationView;
use novacron_protocol::ids::MigrationId;
use novacron_protocol::migration::MigrationStatus;
use novacron_sdk::Client;

use super::batch;
use crate::args::{MigrateCommand, VmMigrate, Wait};
use crate::failure::{Exit, Failure};
use crate::output::{Printer, notice};
use crate::progress::Progress;

/// `novacron migrate`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &MigrateCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        MigrateCommand::Status { migration: None, list, .. } => {
            printer.list(&client.migrations_like(&list.filter())?, "there are no migrations")
        }
        MigrateCommand::Status { migration: Some(migration), wait, watch, .. } => {
            let view = client.migration(*migration)?;
            if wait.wait || *watch {
                return follow(view, *wait, *watch, client, printer);
            }
            printer.one(&view)
        }
        MigrateCommand::Cancel { migration, wait } => cancel(*migration, *wait, client, printer),
        MigrateCommand::Batch(migrate) => batch::begin(migrate, client, printer),
        MigrateCommand::BatchStatus { batch: None, .. } => {
            printer.list(&client.batches()?, "there are no batches")
        }
        MigrateCommand::BatchStatus { batch: Some(batch), wait, watch } => {
            let view = client.batch(*batch)?;
            if wait.wait || *watch {
                return batch::follow(view, *wait, *watch, client, printer);
            }
            printer.one(&view)
        }
        MigrateCommand::BatchCancel { batch, wait } => {
            batch::cancel(*batch, *wait, client, printer)
        }
    }
}

/// `novacron vm migrate`.
///
/// # Errors
/// Why it did not work, or the migration did not.
pub fn begin(migrate: &VmMigrate, client: &Client, printer: Printer) -> Result<(), Failure> {
    let view = client.vm_migrate(&migrate.vm.vm, &migrate.request())?;
    if migrate.wait.wait || migrate.watch {
        return follow(view, migrate.wait, migrate.watch, client, printer);
    }
    printer.one(&view)?;
    notice(&format!("follow it with `novacron migrate status {} --watch`", view.migration_id));
    Ok(())
}

fn cancel(
    migration: MigrationId,
    wait: Wait,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    let mut view = client.migration_cancel(migration)?;
    if wait.wait {
        view = client.migration_wait(migration, wait.timeout, |_| ())?;
    }
    printer.one(&view)?;
    if !view.status.is_terminal() {
        notice(&format!(
            "it was asked to end; `novacron migrate status {migration} --watch` shows when it has, and how"
        ));
    }
    cancelled(&view)
}

/// Follows a migration to its end, prints its record and fails if it did.
fn follow(
    view: MigrationView,
    wait: Wait,
    watch: bool,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    let mut progress = Progress::new(watch);
    progress.show(&view);
    let ended = client.migration_wait(view.migration_id, wait.timeout, |view| progress.show(view));
    progress.finish();
    let view = ended?;
    printer.one(&view)?;
    completed(&view)
}

fn completed(view: &MigrationView) -> Result<(), Failure> {
    match view.status {
        MigrationStatus::Completed => Ok(()),
        _ => Err(unlike(view, Exit::Failed)),
    }
}

fn cancelled(view: &MigrationView) -> Result<(), Failure> {
    match view.status {
        MigrationStatus::Completed => Err(unlike(view, Exit::Conflict)),
        _ => Ok(()),
    }
}

fn unlike(view: &MigrationView, exit: Exit) -> Failure {
    let (name, source, target) = (&view.vm_name, &view.source, &view.target);
    let reason = if view.reason.is_empty() { String::new() } else { format!(": {}", view.reason) };
    match view.status {
        MigrationStatus::Completed => {
            Failure::new(exit, format!("{name} had already moved to {target}"))
        }
        MigrationStatus::Cancelled => Failure::new(
            exit,
            format!("the migration was cancelled; {name} is on {source}{reason}"),
        ),
        _ => Failure::new(exit, format!("the migration failed; {name} is on {source}{reason}")),
    }
}
