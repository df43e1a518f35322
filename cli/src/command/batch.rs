//! Batches of migrations: begin, follow, give up.

use novacron_protocol::api::{BatchStatus, BatchView};
use novacron_protocol::ids::BatchId;
use novacron_sdk::Client;

use crate::args::{BatchMigrate, Wait};
use crate::failure::{Exit, Failure};
use crate::output::{News, Printer, batch_line, notice};

/// `novacron migrate batch`.
///
/// # Errors
/// Why it did not work, or some machines did not move.
pub fn begin(batch: &BatchMigrate, client: &Client, printer: Printer) -> Result<(), Failure> {
    let view = client.batch_create(&batch.request())?;
    if batch.wait.wait || batch.watch {
        return follow(view, batch.wait, batch.watch, client, printer);
    }
    printer.one(&view)?;
    // It has ended already if none of its machines could be accepted.
    if view.status != BatchStatus::InProgress {
        return moved(&view);
    }
    notice(&format!("follow it with `novacron migrate batch-status {} --watch`", view.batch_id));
    Ok(())
}

/// Follows a batch to its end, prints it and fails if not all machines have moved.
pub fn follow(
    view: BatchView,
    wait: Wait,
    watch: bool,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    let mut news = News::new(watch);
    let show = |view: &BatchView| news.say(batch_line(view));
    let view = client.batch_wait(view.batch_id, wait.timeout, show)?;
    printer.one(&view)?;
    moved(&view)
}

/// Gives up what of a batch has not moved.
///
/// # Errors
/// Why it did not work.
pub fn cancel(
    batch: BatchId,
    wait: Wait,
    client: &Client,
    printer: Printer,
) -> Result<(), Failure> {
    let mut view = client.batch_cancel(batch)?;
    if wait.wait {
        view = client.batch_wait(batch, wait.timeout, |_| ())?;
    }
    printer.one(&view)?;
    if view.status == BatchStatus::InProgress {
        notice(&format!(
            "what has not moved was asked to end; `novacron migrate batch-status {batch} --watch` shows when it has"
        ));
    }
    Ok(())
}

/// Fails if not all machines of a batch that has ended have moved.
fn moved(view: &BatchView) -> Result<(), Failure> {
    match view.status {
        BatchStatus::Completed => Ok(()),
        _ => Err(Failure::new(Exit::Failed, batch_line(view))),
    }
}
