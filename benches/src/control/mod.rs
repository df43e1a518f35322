//! `novacron-benches control`: the control plane beside etcd, both sides under the same clients; and under a whole fleet,
//! which has no peer.
//!
//! | module | holds |
//! |---|---|
//! | [`link`] [`dialect`] | a client's connection, and how a side is asked |
//! | [`cluster`] [`etcd`] [`coordinators`] | three members of either side |
//! | [`load`] [`work`] [`latencies`] | clients, and how long they waited |
//! | [`setting`] [`sides`] [`verdict`] | what runs share; who is compared; bars |
//! | [`stage`] [`hosts`] [`machines`] | a fleet: coordinators, simulated hosts, machines |
//! | [`changes`] [`reading`] [`members`] [`spreads`] | what is asked of a fleet, and what that costs |
//! | [`past`] [`restarting`] [`footprint`] | a ledger of many hours; members that start again; disks |
//! | [`writes`] [`reads`] [`failover`] | the scenarios beside etcd |
//! | [`usage`] [`api`] [`fleet`] [`restart`] [`growth`] | the scenarios of a fleet |

mod api;
mod changes;
mod cluster;
mod coordinators;
mod dialect;
mod etcd;
mod failover;
mod fleet;
mod footprint;
mod growth;
mod hosts;
mod latencies;
mod link;
mod load;
mod machines;
mod members;
mod past;
mod reading;
mod reads;
mod restart;
mod restarting;
mod setting;
mod sides;
mod spreads;
mod stage;
mod usage;
mod verdict;
mod work;
mod writes;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::args::Control;
use crate::report::{Machine, record};
use setting::Setting;
use verdict::Judged;

/// What a scenario found.
struct Found {
    title: String,
    method: &'static str,
    /// Of what it is, as the run had it; `None` where the tables have all sizes.
    size: Option<String>,
    table: String,
    verdict: Vec<Judged>,
}

/// A scenario by name.
struct Scenario {
    name: &'static str,
    is_beside_etcd: bool,
    run: fn(&Setting) -> Result<Found>,
}

impl Scenario {
    const fn beside_etcd(name: &'static str, run: fn(&Setting) -> Result<Found>) -> Self {
        Self { name, is_beside_etcd: true, run }
    }

    const fn of_a_fleet(name: &'static str, run: fn(&Setting) -> Result<Found>) -> Self {
        Self { name, is_beside_etcd: false, run }
    }
}

const SCENARIOS: [Scenario; 8] = [
    Scenario::beside_etcd("writes", writes::run),
    Scenario::beside_etcd("reads", reads::run),
    Scenario::beside_etcd("failover", failover::run),
    Scenario::of_a_fleet("usage", usage::run),
    Scenario::of_a_fleet("api", api::run),
    Scenario::of_a_fleet("fleet", fleet::run),
    Scenario::of_a_fleet("restart", restart::run),
    Scenario::of_a_fleet("growth", growth::run),
];

/// Runs the scenarios that are asked for, all of them unless said. The exit code says whether a bar was missed.
pub fn run(args: &Control) -> Result<ExitCode> {
    let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    for name in &args.only {
        ensure!(names.contains(&name.as_str()), "there is no `{name}`: {}", names.join(", "));
    }
    let setting = Setting::new(args)?;
    let is_asked = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut is_missed = false;
    for scenario in SCENARIOS.iter().filter(|scenario| is_asked(scenario.name)) {
        println!("==> {}", scenario.name);
        let machine = Machine::here();
        let found = (scenario.run)(&setting)?;
        is_missed |= found.verdict.iter().any(|judged| !judged.is_met());
        let table = found.table.clone() + &verdict::table(&found.verdict);
        println!("\n{}\n{}\n{table}", found.title, found.size_line());
        if args.record {
            let programs =
                if scenario.is_beside_etcd { etcd::version()? } else { "no peer".to_owned() };
            let here = machine.without_guests(&programs);
            let section = found.section(&here, &args.command(scenario.name), &table);
            record(Path::new(env!("CARGO_MANIFEST_DIR")), &found.title, &section)?;
        }
    }
    Ok(if is_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Found {
    /// All that another needs to judge the figures or to measure again.
    fn section(&self, here: &str, command: &str, table: &str) -> String {
        let (method, size) = (self.method, self.size_line());
        format!("{here}\n\n{method}\n\nCommand: `{command}`\n{size}\n{table}")
    }

    /// A paragraph of its own, if it is not in the tables.
    fn size_line(&self) -> String {
        self.size.as_ref().map_or_else(String::new, |size| format!("\nSize: {size}.\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::stage::Size;
    use super::*;

    #[test]
    fn a_section_says_how_large_a_fleet_its_figures_are_of() {
        let size = Some(Size { hosts: 1_000, machines: 10_000 }.to_string());
        let (title, table) = ("API".to_owned(), "| 1 |".to_owned());
        let found = Found { title, method: "How.", size, table, verdict: Vec::new() };
        let section = found.section("Here", "bench", &found.table);
        assert_eq!(
            section,
            "Here\n\nHow.\n\nCommand: `bench`\n\nSize: 1000 hosts, 10000 machines.\n\n| 1 |"
        );
        let section = Found { size: None, ..found }.section("Here", "bench", "| 1 |");
        assert_eq!(section, "Here\n\nHow.\n\nCommand: `bench`\n\n| 1 |");
    }
}
