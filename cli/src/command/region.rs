//! Regions, and machines that stand against a rule of residency.

use novacron_protocol::api::RegionChange;
use novacron_protocol::region::RegionStatus;
use novacron_sdk::Client;

use crate::args::RegionCommand;
use crate::failure::Failure;
use crate::output::{Printer, notice};

/// `novacron region`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &RegionCommand, client: &Client, printer: Printer) -> Result<(), Failure> {
    let set_status = |region: &str, status| {
        let change = RegionChange { status: Some(status), ..RegionChange::default() };
        printer.one(&client.region_change(region, &change)?)
    };
    match command {
        RegionCommand::List => printer.list(&client.regions()?, "no regions"),
        RegionCommand::Show { region } => printer.one(&client.region(region)?),
        RegionCommand::Create(create) => printer.one(&client.region_create(&create.request())?),
        RegionCommand::Set(set) => printer.one(&client.region_change(&set.region, &set.request())?),
        RegionCommand::Drain { region } => set_status(region, RegionStatus::Draining),
        RegionCommand::Undrain { region } => set_status(region, RegionStatus::Active),
        RegionCommand::Delete { region } => {
            client.region_delete(region)?;
            notice(&format!("region {region} is deleted"));
            Ok(())
        }
        RegionCommand::Assign { node, region } => {
            let region = Some(region.as_str()).filter(|region| *region != "none");
            printer.one(&client.node_region(node, region)?)
        }
        RegionCommand::Route { from, project } => {
            let route = client.region_route(from, project.as_deref())?;
            printer.whole(&route, &route.regions, "there are no regions")
        }
        RegionCommand::Violations => {
            printer.list(&client.residency_violations()?, "no machine stands against a rule")
        }
    }
}
