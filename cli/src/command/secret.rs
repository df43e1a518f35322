//! `novacron secret`, and the turn of the key that secrets are encrypted with.

use std::fs::File;
use std::io::{Read, Write, stdin, stdout};
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use novacron_protocol::api::KeyTurn;
use novacron_protocol::limits::SECRET_VALUE_BYTES_MAX;
use novacron_protocol::secret::SecretText;
use novacron_sdk::Client;

use crate::args::{Duration, SecretCommand, SecretName, Wait};
use crate::failure::{Exit, Failure};
use crate::output::{Printer, notice};

/// How often to look how far a turn is.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// `novacron secret`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &SecretCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        SecretCommand::List { project } => {
            printer.list(&client.secrets(project.as_deref())?, "no secrets")
        }
        SecretCommand::Show { secret, reveal: false } => {
            printer.one(&client.secret(secret.project.as_deref(), &secret.name)?)
        }
        SecretCommand::Show { secret, reveal: true } => reveal(secret, client, printer),
        SecretCommand::Set { secret, from_file } => {
            let value = read(from_file.as_deref())?;
            printer.one(&client.secret_put(secret.project.as_deref(), &secret.name, value)?)
        }
        SecretCommand::Delete { secret } => {
            client.secret_delete(secret.project.as_deref(), &secret.name)?;
            notice(&format!("secret {} is removed", secret.name));
            Ok(())
        }
    }
}

/// People get the value and nothing else, so that it can be written into a file as it is.
fn reveal(secret: &SecretName, client: &Client, printer: Printer) -> Result<(), Failure> {
    let revealed = client.secret_reveal(secret.project.as_deref(), &secret.name)?;
    if !printer.is_for_people() {
        return printer.one(&revealed);
    }
    let mut out = stdout().lock();
    let written = out.write_all(revealed.value.expose().as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::io("cannot print the value", &error))
}

/// Never an argument: those are seen by everybody on the machine.
fn read(file: Option<&Path>) -> Result<SecretText, Failure> {
    let failed = |error| Failure::io("cannot read the value", &error);
    let mut bytes = Vec::new();
    let limit = SECRET_VALUE_BYTES_MAX as u64 + 2;
    match file {
        Some(path) => {
            let file = File::open(path).map_err(|error| Failure::io(path.display(), &error))?;
            file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        }
        None => {
            stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
        }
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Failure::usage("the value is no text: encode it as base64"))?;
    let value = SecretText::new(text);
    value.check_value().map_err(|wrong| Failure::usage(wrong.to_string()))?;
    Ok(value)
}

/// `novacron cluster rotate-key`.
///
/// # Errors
/// Why it did not work.
pub fn rotate_key(wait: Wait, client: &Client, printer: Printer) -> Result<(), Failure> {
    let mut view = client.secret_key_turn()?;
    let end = Instant::now() + wait.timeout;
    while wait.wait && view.turn != KeyTurn::Settled {
        if Instant::now() >= end {
            let text = "the key has not turned in time; it goes on turning";
            return Err(Failure::new(Exit::TimedOut, text));
        }
        sleep(LOOK_PERIOD);
        view = client.secret_keys()?;
    }
    printer.one(&view)
}
