//! A guest moves and moves, and at every step of a migration an agent is killed or its link is cut.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use novacron_agent::hold::{Hold, Moment, Step};
use novacron_protocol::migration::MigrationStatus;
use novacron_tests::attempt::Attempt;
use novacron_tests::fleet::{Fleet, Guest, NODES};
use novacron_tests::steps::{Deed, Round};

/// Which rounds, with commas between them, such as `source:Go:before:kill`; or `all`, as `cargo xtask steps` says. One
/// round of each step if it is not set.
const VARIABLE: &str = "NOVACRON_STEPS";

/// Clusters at the same time: a link that is cut is waited for most of the time.
const CLUSTERS: usize = 3;

#[test]
fn killed_and_cut_off_at_every_step() {
    let rounds = chosen().unwrap();
    let work = Work { rounds: Mutex::new(rounds.into()), failures: Mutex::default() };
    std::thread::scope(|scope| {
        for _ in 0..CLUSTERS {
            scope.spawn(|| work.run());
        }
    });
    let failures = work.failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn chosen() -> Result<Vec<Round>> {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) => Ok(sample()),
        Ok("all") => Ok(Step::all().flat_map(rounds).collect()),
        Ok(names) => names.split(',').map(str::parse).collect(),
    }
}

/// All that can be done at a step.
fn rounds(step: Step) -> [Round; 4] {
    let round = |(moment, deed)| Round { hold: Hold { step, moment }, deed };
    let (before, after) = (Moment::Before, Moment::After);
    [(before, Deed::Kill), (after, Deed::Cut), (after, Deed::Kill), (before, Deed::Cut)].map(round)
}

/// One round of each step: neighbours in the list have different ones.
fn sample() -> Vec<Round> {
    Step::all().enumerate().map(|(index, step)| rounds(step)[index % 4]).collect()
}

/// What is to do, and what went wrong.
struct Work {
    rounds: Mutex<VecDeque<Round>>,
    failures: Mutex<Vec<String>>,
}

impl Work {
    fn next(&self) -> Option<Round> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Until there is nothing more to do; what went wrong leaves a cluster on which nothing else is tried.
    fn run(&self) {
        while let Some(first) = self.next() {
            let mut round = first;
            let done = Fleet::with_small(|fleet| {
                let guest = fleet.boot_small("web-01", NODES[0])?;
                // There and back: its disks are known at both.
                undisturbed(&guest)?;
                undisturbed(&guest)?;
                loop {
                    try_round(round, &guest)?;
                    match self.next() {
                        Some(next) => round = next,
                        None => return undisturbed(&guest),
                    }
                }
            });
            if let Err(error) = done {
                let replay = format!(
                    "To run this again: cargo build --release --bins && {VARIABLE}={round} cargo test --release -p novacron-tests --test steps"
                );
                println!("RESULT {round} FAILED: {error:#}");
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("{round}: {error:#}\n{replay}"));
            }
        }
    }
}

fn undisturbed(guest: &Guest<'_>) -> Result<()> {
    let view = Attempt::begin(guest)?.settle()?;
    ensure!(view.status == MigrationStatus::Completed, "{view:#?}");
    Ok(())
}

fn try_round(round: Round, guest: &Guest<'_>) -> Result<()> {
    let began = Instant::now();
    guest.fleet.note(&format!("round {round}"));
    if round.needs_links() && !guest.fleet.has_links {
        guest.fleet.note("there are no links to cut without root");
        return Ok(());
    }
    let view = round.run(guest).with_context(|| format!("in round {round}"))?;
    let (status, seconds) = (view.status, began.elapsed().as_secs_f64());
    println!("RESULT {round} {status:?} {seconds:.1} s {}", view.reason);
    Ok(())
}
