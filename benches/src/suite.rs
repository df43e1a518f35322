//! `novacron-benches suite`: the links and workloads that NovaCron must win on, each with its bars.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::args::Suite;
use crate::{growth, link_cut, migrate};

/// A comparison by name: its words on the command line.
struct Scenario {
    name: &'static str,
    words: &'static str,
}

/// What is no comparison with others, because they cannot do it or have nothing to do with it.
const ALONE: [Alone; 2] =
    [Alone { name: "growth", run: growth::run }, Alone { name: "link-cut", run: link_cut::run }];

struct Alone {
    name: &'static str,
    run: fn(runs: u32, is_recorded: bool) -> Result<ExitCode>,
}

/// Peers that do not encrypt. Only some of them end at all where the guest writes faster than the link carries.
const SCENARIOS: [Scenario; 10] = [
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
    // Peers that send pages as they are or only compressed never end there: with 0.5 % loss, CUBIC gives a connection less
    // than what the guest writes.
    Scenario {
        name: "wan",
        words: "--link 100mbit --delay 20ms --loss 0.5% --working-set 128 --rate 5 --peer-tcp cubic \
                --peers xbzrle --deadline-s 1800 --total-max 0.35 --downtime-max 0.5 --wire-max 0.8",
    },
    // The same with a TCP that does not take loss for a full link.
    Scenario {
        name: "wan-bbr",
        words: "--link 100mbit --delay 20ms --loss 0.5% --working-set 128 --rate 5 --peer-tcp bbr \
                --peers plain,multifd,multifd-zstd,xbzrle --deadline-s 600 \
                --total-max 0.35 --downtime-max 0.5 --wire-max 0.8",
    },
    Scenario {
        name: "return",
        words: "--rate 50 --back-after-s 120 --peers multifd-zstd,xbzrle \
                --total-max 0.3 --downtime-max 1.0 --wire-max 0.25",
    },
    Scenario {
        name: "clones",
        words: "--clones 4 --working-set 1 --rate 0 --peers plain,multifd,multifd-zstd,xbzrle \
                --deadline-s 300 --total-max 0.5 --wire-max 0.35 --total-and-wire-only",
    },
    Scenario {
        name: "disk",
        words: "--working-set 1 --rate 0 --disk 4096 --disk-used 1024 --disk-rate 5 \
                --peers plain,multifd-zstd --deadline-s 300 \
                --total-max 0.7 --downtime-max 1.0 --wire-max 0.5",
    },
];

/// Runs the scenarios that are asked for, all of them unless said. The exit code says whether a bar was missed.
pub fn run(suite: &Suite) -> Result<ExitCode> {
    let alone = ALONE.iter().map(|alone| alone.name);
    let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).chain(alone).collect();
    for name in &suite.only {
        ensure!(names.contains(&name.as_str()), "there is no `{name}`: {}", names.join(", "));
    }
    let is_asked = |name: &str| suite.only.is_empty() || suite.only.iter().any(|only| only == name);
    let mut code = ExitCode::SUCCESS;
    for name in names.iter().filter(|name| is_asked(name)) {
        println!("==> {name}");
        if run_one(name, suite)? != ExitCode::SUCCESS {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn run_one(name: &str, suite: &Suite) -> Result<ExitCode> {
    if let Some(alone) = ALONE.iter().find(|alone| alone.name == name) {
        return (alone.run)(suite.runs, suite.record);
    }
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.with_context(|| format!("there is no `{name}`"))?;
    migrate::run(&migrate::typed(scenario.words, suite.runs, suite.record)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_typed() {
        for scenario in &SCENARIOS {
            let migrate = migrate::typed(scenario.words, 2, false).unwrap();
            assert_eq!(migrate.runs, 2);
            assert!(!migrate.modes().is_empty(), "{}", scenario.name);
        }
    }
}
