//! What was used, what it costs, and whether the ledger can be trusted.

use std::io::{copy, stdout};

use novacron_sdk::Client;

use crate::args::{Invoice, LedgerCommand, RateCommand, Usage};
use crate::failure::Failure;
use crate::output::series::curves;
use crate::output::{Printer, notice, print};

/// `novacron usage`.
///
/// # Errors
/// Why it did not work.
pub fn usage(usage: &Usage, client: &Client, printer: Printer) -> Result<(), Failure> {
    let Some(step) = usage.step()? else {
        return printer.list(&client.usage(&usage.filter())?, "nothing was used");
    };
    let series = client.usage_series(&usage.filter(), step)?;
    if !(usage.curve && printer.is_for_people()) {
        return printer.whole(&series, &series.points, "nothing was used");
    }
    match curves(&series) {
        curves if curves.is_empty() => notice("nothing was used"),
        curves => print(&curves)?,
    }
    Ok(())
}

/// `novacron invoice`.
///
/// # Errors
/// Why it did not work.
pub fn invoice(invoice: &Invoice, client: &Client, printer: Printer) -> Result<(), Failure> {
    if !invoice.csv {
        return printer.one(&client.invoice(&invoice.period, &invoice.filter())?);
    }
    let filter = invoice.filter();
    let mut text = client.invoice_csv(&invoice.period, &filter)?;
    let copied = copy(&mut text, &mut stdout());
    copied.map(drop).map_err(|error| Failure::io("the invoice was not read to its end", &error))
}

/// `novacron rate`.
///
/// # Errors
/// Why it did not work.
pub fn rate(command: &RateCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    let rates = match command {
        RateCommand::List => client.rates()?,
        RateCommand::Set(set) => client.rate_set(&set.request())?,
        RateCommand::Plan(plan) => client.plan_set(&plan.request())?,
    };
    printer.one(&rates)
}

/// `novacron ledger`.
///
/// # Errors
/// Why it did not work, also a ledger that is not intact.
pub fn ledger(command: &LedgerCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        LedgerCommand::Windows => printer.list(&client.ledger_windows()?, "no window is sealed"),
        LedgerCommand::Entries { window } => {
            printer.list(&client.ledger_entries(*window)?, "the window has no entries")
        }
        LedgerCommand::Correct(correct) => printer.one(&client.usage_correct(&correct.request())?),
        LedgerCommand::Verify { known } => verify(known.as_deref(), client, printer),
    }
}

fn verify(known: Option<&str>, client: &Client, printer: Printer) -> Result<(), Failure> {
    let verdict = client.ledger_verify(known, |part| {
        if let (true, Some(last)) = (part.next_cursor.is_some(), &part.last) {
            notice(&format!("intact up to {last}"));
        }
    })?;
    printer.one(&verdict)?;
    match (&verdict.fault_at, &verdict.fault) {
        _ if verdict.intact => Ok(()),
        (Some(place), Some(fault)) => {
            Err(Failure::failed(format!("the ledger is not intact: {place}: {fault}")))
        }
        _ => Err(Failure::failed("the ledger is not intact")),
    }
}
