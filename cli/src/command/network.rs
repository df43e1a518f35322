//! Networks.

use novacron_sdk::Client;

use crate::args::NetworkCommand;
use crate::failure::Failure;
use crate::output::{Printer, notice};

/// `novacron network`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &NetworkCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    match command {
        NetworkCommand::List => printer.list(&client.networks()?, "no networks"),
        NetworkCommand::Show { network } => printer.one(&client.network(network)?),
        NetworkCommand::Create(create) => printer.one(&client.network_create(&create.request())?),
        NetworkCommand::Set(set) => {
            printer.one(&client.network_change(&set.network, &set.request())?)
        }
        NetworkCommand::Delete { network } => {
            client.network_delete(network)?;
            notice(&format!("network {network} is deleted"));
            Ok(())
        }
    }
}
