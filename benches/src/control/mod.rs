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
        println!("\n{}\n\n{table}", found.title);
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
        format!("{here}\n\n{}\n\nCommand: `{command}`\n\n{table}", self.method)
    }
}
