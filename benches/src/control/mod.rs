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
    table: String,
    verdict: Vec<Judged>,
}

/// A scenario by name.
struct Scenario {
    name: &'static str,
    run: fn(&Setting) -> Result<Found>,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "writes", run: writes::run },
    Scenario { name: "reads", run: reads::run },
    Scenario { name: "failover", run: failover::run },
    Scenario { name: "usage", run: usage::run },
    Scenario { name: "api", run: api::run },
    Scenario { name: "fleet", run: fleet::run },
    Scenario { name: "restart", run: restart::run },
    Scenario { name: "growth", run: growth::run },
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
        println!("\n{}\n\n{table}", found.title);
        if args.record {
            let section = found.section(&machine, &args.command(scenario.name), &table)?;
            record(Path::new(env!("CARGO_MANIFEST_DIR")), &found.title, &section)?;
        }
    }
    Ok(if is_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Found {
    /// All that another needs to judge the figures or to measure again.
    fn section(&self, machine: &Machine, command: &str, table: &str) -> Result<String> {
        let here = machine.without_guests(&etcd::version()?);
        Ok(format!("{here}\n\n{}\n\nCommand: `{command}`\n\n{table}", self.method))
    }
}
