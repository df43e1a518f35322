//! A machine's serial console: the terminal's keys go to the guest, what the guest writes comes to the terminal.
//!
//! Two threads, one for each direction; the first that ends, ends the session.

use std::io::{self, IsTerminal, Read, stdin};
use std::sync::mpsc;
use std::thread;

use novacron_protocol::api::VmView;
use novacron_protocol::vm::VmState;
use novacron_sdk::Client;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;

use crate::args::VmConsole;
use crate::failure::{Exit, Failure};
use crate::output::{Printer, notice, print_bytes, word};

/// Ctrl-], as telnet has it.
const ESCAPE: u8 = 0x1d;
/// Beyond the end of every log: from now on.
const FROM_NOW: u64 = u64::MAX;
/// Bytes that are read at once; a person types far less, a paste is cut into such pieces.
const BUFFER_BYTES: usize = 4096;

#[derive(Serialize)]
struct ConsoleLog<'a> {
    vm: &'a str,
    log: String,
}

/// `novacron vm console`.
///
/// # Errors
/// Why it did not work.
pub fn run(console: &VmConsole, client: &Client, printer: Printer) -> Result<(), Failure> {
    if console.log {
        return print_log(&console.vm.vm, client, printer);
    }
    attach(&console.vm.vm, client)
}

fn print_log(vm: &str, client: &Client, printer: Printer) -> Result<(), Failure> {
    let mut reader = client.console(vm, 0, false)?;
    if printer.is_for_people() {
        return pump(&mut reader);
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    let log = String::from_utf8_lossy(&bytes).into_owned();
    printer.next(&ConsoleLog { vm, log }, "")
}

fn attach(vm: &str, client: &Client) -> Result<(), Failure> {
    refuse_stopped(&client.vm(vm)?)?;
    let mut reader = client.console(vm, FROM_NOW, true)?;
    if stdin().is_terminal() {
        notice(&format!("attached to {vm}; Ctrl-] detaches"));
    }
    let terminal = RawTerminal::enter()?;
    let (ended, first_end) = mpsc::sync_channel(2);
    let (output_ended, input_client, vm_name) = (ended.clone(), client.clone(), vm.to_owned());
    // The other side may have ended first and nobody listens any more; so sends may fail.
    thread::spawn(move || output_ended.send(pump(&mut reader)));
    thread::spawn(move || ended.send(type_in(&input_client, &vm_name)));
    let result = first_end.recv().unwrap_or(Ok(()));
    drop(terminal);
    result
}

/// Nobody writes to the console of a machine that does not run, or reads what is typed. One of which nothing is known
/// most likely runs.
fn refuse_stopped(vm: &VmView) -> Result<(), Failure> {
    match vm.state {
        VmState::Pending
        | VmState::Creating
        | VmState::Stopped
        | VmState::Failed
        | VmState::Deleted => {
            let text = format!("{} does not run: it is {}", vm.name, word(&vm.state));
            Err(Failure::new(Exit::Conflict, text)
                .hint("`--log` prints what its console has said so far"))
        }
        VmState::Starting
        | VmState::Running
        | VmState::Paused
        | VmState::Migrating
        | VmState::Stopping
        | VmState::Unknown => Ok(()),
    }
}

/// Copies what the guest writes, piece by piece as it comes.
fn pump(reader: &mut impl Read) -> Result<(), Failure> {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => print_bytes(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(broken(&error)),
        }
    }
}

/// Sends what is typed, until the escape or the end of the input.
fn type_in(client: &Client, vm: &str) -> Result<(), Failure> {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        let count = stdin().lock().read(&mut buffer).map_err(|error| broken(&error))?;
        let (typed, is_end) = until_escape(&buffer[..count]);
        if !typed.is_empty() {
            client.console_input(vm, typed)?;
        }
        if is_end {
            return Ok(());
        }
    }
}

/// What is for the guest, and whether that was the last of it.
fn until_escape(bytes: &[u8]) -> (&[u8], bool) {
    match bytes.iter().position(|&byte| byte == ESCAPE) {
        Some(end) => (&bytes[..end], true),
        None => (bytes, bytes.is_empty()),
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::io("the console broke off", error)
}

/// The terminal in raw mode, for as long as this lives.
struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    fn enter() -> Result<Self, Failure> {
        if !stdin().is_terminal() {
            return Ok(Self { before: None });
        }
        let failed = |error: rustix::io::Errno| Failure::io("cannot set up the terminal", &error);
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that has gone needs no restoring.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_ends_and_is_not_sent() {
        assert_eq!(until_escape(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_escape(b"ls\x1dmore"), (&b"ls"[..], true));
        assert_eq!(until_escape(b""), (&b""[..], true));
    }
}
