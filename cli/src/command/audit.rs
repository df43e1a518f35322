//! The audit log.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, copy, stdout};
use std::path::Path;

use novacron_protocol::api::AuditVerdict;
use novacron_protocol::audit::{Chain, FaultAt, Known, Verifier, parse_line};
use novacron_sdk::{AuditFilter, Client};

use crate::args::{AuditCommand, AuditList, AuditVerify};
use crate::failure::Failure;
use crate::output::{Printer, audit, notice};

/// `novacron audit`; `connect` makes the client of those that need one.
///
/// # Errors
/// Why it did not work, also a log that is not intact.
pub fn run(
    command: &AuditCommand,
    connect: impl FnOnce() -> Result<Client, Failure>,
    printer: Printer,
) -> Result<(), Failure> {
    match command {
        AuditCommand::List(list) if list.follow => follow(list, &connect()?, printer),
        AuditCommand::List(list) => {
            let entries = connect()?.audit(&filter(list), list.count)?;
            printer.list(&entries, "no records")
        }
        AuditCommand::Export { file } => export(&connect()?, file),
        AuditCommand::Verify(verify) => {
            let verdict = match &verify.file {
                Some(file) => verify_file(file, known(verify)?)?,
                None => connect()?.audit_verify(verify.known.as_deref())?,
            };
            printer.one(&verdict)?;
            judge(&verdict)
        }
    }
}

/// Without a place, the newest records come first, and then what is behind the newest of all as it was before they were
/// read: so nothing is missed in between.
fn follow(list: &AuditList, client: &Client, printer: Printer) -> Result<(), Failure> {
    let filter = filter(list);
    let mut after = list.after.clone();
    if after.is_none() {
        let newest = client.audit(&AuditFilter::default(), 1)?.pop();
        let last = newest.as_ref().map_or(0, |newest| newest.number);
        let shown = client.audit(&filter, list.count)?;
        for entry in shown.iter().rev().filter(|entry| entry.number <= last) {
            printer.next(entry, &audit::line(entry))?;
        }
        after = newest.map(|newest| format!("{}:{}", newest.number, newest.hash));
    }
    for entry in client.watch_audit(filter, after) {
        let entry = entry?;
        printer.next(&entry, &audit::line(&entry))?;
    }
    Ok(())
}

fn filter(list: &AuditList) -> AuditFilter {
    let AuditList { actor, action, object, .. } = list;
    AuditFilter { actor: actor.clone(), action: action.clone(), object: object.clone() }
}

fn judge(verdict: &AuditVerdict) -> Result<(), Failure> {
    match (verdict.fault_at, &verdict.fault) {
        _ if verdict.intact => Ok(()),
        (Some(number), Some(fault)) => {
            Err(Failure::failed(format!("the audit log is not intact: record {number}: {fault}")))
        }
        _ => Err(Failure::failed("the audit log is not intact")),
    }
}

fn export(client: &Client, file: &Path) -> Result<(), Failure> {
    let mut log = client.audit_export()?;
    if file == Path::new("-") {
        return copied(&mut log, &mut stdout());
    }
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).open(file);
    let mut made =
        made.map_err(|error| Failure::io(format!("cannot make {}", file.display()), &error))?;
    let copied = copied(&mut log, &mut made).and_then(|()| {
        made.sync_all()
            .map_err(|error| Failure::io(format!("cannot write {}", file.display()), &error))
    });
    match copied {
        Ok(()) => {
            notice(&format!("check it with `novacron audit verify --file {}`", file.display()))
        }
        // A part must not be taken for the whole.
        Err(_) => drop(std::fs::remove_file(file)),
    }
    copied
}

fn copied(log: &mut impl Read, to: &mut impl std::io::Write) -> Result<(), Failure> {
    copy(log, to).map(drop).map_err(|error| Failure::io("the log was not read to its end", &error))
}

fn known(verify: &AuditVerify) -> Result<Option<Known>, Failure> {
    let parse = |text: &String| {
        let wrong = |_| {
            Failure::usage(format!("`{text}` is not NUMBER:HASH, as `audit verify` prints them"))
        };
        text.parse().map_err(wrong)
    };
    verify.known.as_ref().map(parse).transpose()
}

fn verify_file(file: &Path, known: Option<Known>) -> Result<AuditVerdict, Failure> {
    let unreadable = |error| Failure::io(format!("cannot read {}", file.display()), &error);
    let mut lines = BufReader::new(File::open(file).map_err(unreadable)?).lines().peekable();
    let first = match lines.peek() {
        Some(Ok(line)) => first_number(line).unwrap_or(1),
        _ => 0,
    };
    let mut verifier = Verifier::new(first, known);
    for line in lines {
        if let Err(fault) = verifier.line(&line.map_err(unreadable)?) {
            return Ok(verdict(&verifier.chain(), first, Some(fault)));
        }
    }
    Ok(verdict(&verifier.chain(), first, verifier.end().err()))
}

/// The number that a record gives itself.
fn first_number(line: &str) -> Option<u64> {
    let (_, record) = parse_line(line).ok()?;
    let record: serde_json::Value = serde_json::from_str(record).ok()?;
    record.get("number")?.as_u64().filter(|number| *number > 0)
}

fn verdict(chain: &Chain, first: u64, fault: Option<FaultAt>) -> AuditVerdict {
    AuditVerdict {
        intact: fault.is_none(),
        first,
        last: chain.number,
        hash: chain.hash.to_string(),
        fault_at: fault.map(|fault| fault.number),
        fault: fault.map(|fault| fault.fault.to_string()),
    }
}
