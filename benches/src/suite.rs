//! `novacron-benches suite`: the links and workloads that NovaCron must win on, each with its bars.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::args::{Args, Command, Suite};
use crate::migrate;

/// A comparison by name: its words on the command line.
struct Scenario {
    name: &'static str,
    words: &'static str,
}

/// Peers that do not encrypt. Only some of them end at all where the guest writes faster than the link carries.
const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "idle",
        words: "--working-set 1 --rate 0 --peers plain,multifd,multifd-zstd,xbzrle \
                --total-max 1.0 --downtime-max 1.0 --wire-max 0.6",
    },
    Scenario {
        name: "small-50",
        words: "--rate 50 --peers plain,multifd,multifd-zstd,xbzrle \
                --total-max 0.7 --downtime-max 0.7 --wire-max 0.8",
    },
    Scenario {
        name: "small-200",
        words: "--rate 200 --peers multifd-zstd,xbzrle \
                --total-max 0.5 --downtime-max 1.0 --wire-max 0.45",
    },
    Scenario {
        name: "full-20",
        words: "--rate 0 --full-rate 20 --peers plain,multifd,multifd-zstd,xbzrle \
                --total-max 1.1 --downtime-max 1.0 --wire-max 1.05",
    },
    Scenario {
        name: "unshaped",
        words: "--link 100gbit --memory 1024 --working-set 512 --rate 50 \
                --peers plain-tls,multifd-tls,multifd-zstd-tls \
                --total-max 1.0 --downtime-max 1.5 --wire-max 0.8",
    },
    Scenario {
        name: "return",
        words: "--rate 50 --back-after-s 120 --peers multifd-zstd,xbzrle \
                --total-max 0.3 --downtime-max 1.0 --wire-max 0.25",
    },
];

/// Runs the scenarios that are asked for, all of them unless said. The exit code says whether a bar was missed.
pub fn run(suite: &Suite) -> Result<ExitCode> {
    let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    for name in &suite.only {
        ensure!(names.contains(&name.as_str()), "there is no `{name}`: {}", names.join(", "));
    }
    let is_asked = |scenario: &&Scenario| {
        suite.only.is_empty() || suite.only.iter().any(|name| name == scenario.name)
    };
    let mut code = ExitCode::SUCCESS;
    for scenario in SCENARIOS.iter().filter(is_asked) {
        println!("==> {}", scenario.name);
        if migrate::run(&arguments(scenario, suite)?)? != ExitCode::SUCCESS {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// As if it had been typed.
fn arguments(scenario: &Scenario, suite: &Suite) -> Result<crate::args::Migrate> {
    let runs = suite.runs.to_string();
    let mut words = vec!["novacron-benches", "migrate", "--runs", &runs];
    words.extend(scenario.words.split_whitespace());
    words.extend(suite.record.then_some("--record"));
    match Args::try_parse_from(words)?.command {
        Some(Command::Migrate(migrate)) => Ok(migrate),
        _ => anyhow::bail!("`{}` is no comparison", scenario.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_typed() {
        let suite = Suite { only: Vec::new(), runs: 2, record: false };
        for scenario in &SCENARIOS {
            let migrate = arguments(scenario, &suite).unwrap();
            assert_eq!(migrate.runs, 2);
            assert!(!migrate.modes().is_empty(), "{}", scenario.name);
        }
    }
}
