//! The audit log.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, copy, stdout};
use std::path::Path;

use novacron_protocol::api::AuditVerdict;
use novacron_protocol::audit::{Chain, ChainHash, Fault, FaultAt, parse_line};
use novacron_sdk::{AuditFilter, Client};

use crate::args::{AuditCommand, AuditList, AuditVerify};
use crate::failure::Failure;
use crate::output::{Printer, notice};

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

fn known(verify: &AuditVerify) -> Result<Option<(u64, ChainHash)>, Failure> {
    let Some(text) = &verify.known else { return Ok(None) };
    let parsed = text.split_once(':').and_then(|(number, hash)| {
        Some((number.parse::<u64>().ok()?, hash.parse::<ChainHash>().ok()?))
    });
    let wrong =
        || Failure::usage(format!("`{text}` is not NUMBER:HASH, as `audit verify` prints them"));
    parsed.ok_or_else(wrong).map(Some)
}

/// Checks a file line by line, so a log may be larger than memory. The first record of a log whose beginning is not
/// kept any more is trusted.
fn verify_file(file: &Path, known: Option<(u64, ChainHash)>) -> Result<AuditVerdict, Failure> {
    let unreadable = |error| Failure::io(format!("cannot read {}", file.display()), &error);
    let lines = BufReader::new(File::open(file).map_err(unreadable)?).lines();
    let (mut chain, mut first, mut is_known) = (Chain::start(), 0, known.is_none());
    let mut fault = None;
    for line in lines {
        let line = line.map_err(unreadable)?;
        if first == 0 {
            first = first_number(&line).unwrap_or(1);
        }
        let followed = follow(&mut chain, &line, first);
        let followed = followed.and_then(|()| match known {
            Some((number, hash)) if number == chain.number => {
                is_known = true;
                chain.ends_at(number, hash)
            }
            _ => Ok(()),
        });
        if let Err(found) = followed {
            fault = Some(found);
            break;
        }
    }
    if fault.is_none() && !is_known {
        fault = Some(FaultAt { number: chain.number + 1, fault: Fault::Cut });
    }
    Ok(verdict(&chain, first, fault))
}

fn follow(chain: &mut Chain, line: &str, first: u64) -> Result<(), FaultAt> {
    let at = |fault| FaultAt { number: chain.number.max(first - 1) + 1, fault };
    let (hash, record) = parse_line(line).map_err(at)?;
    if chain.number == 0 && first > 1 {
        *chain = Chain::behind(first, hash);
        return Ok(());
    }
    chain.follow(hash, record)
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
