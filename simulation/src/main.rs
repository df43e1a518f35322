//! `novacron-simulation`: one seed in this process, or many in processes of their own.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use novacron_simulation::entropy;
use novacron_simulation::panics;
use novacron_simulation::planted::Planted;
use novacron_simulation::scenario::Scenario;
use novacron_simulation::world::{self, Outcome};

/// A minute of the world takes about a second; on a machine that does ten other things, some.
const HANGS_AFTER: Duration = Duration::from_secs(180);

#[derive(Parser)]
#[command(about = "Coordinators in a world that a seed decides", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// One seed, in this process.
    One {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Minutes of the world during which things go wrong.
        #[arg(long, default_value_t = 1)]
        minutes: u64,
        /// The bug to plant.
        #[arg(long, value_enum, default_value_t)]
        planted: Planted,
        /// Print everything that happens.
        #[arg(long)]
        trace: bool,
        /// What members log, as `RUST_LOG` says it.
        #[arg(long)]
        log: Option<String>,
    },
    /// Many seeds, each in a process of its own; ends at the first that finds something.
    Many {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// How many.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// Minutes of the world during which things go wrong.
        #[arg(long, default_value_t = 1)]
        minutes: u64,
        /// The bug to plant.
        #[arg(long, value_enum, default_value_t)]
        planted: Planted,
        /// Processes at once.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::One { seed, minutes, planted, trace, log } => one(seed, minutes, planted, trace, log),
        Task::Many { first, seeds, minutes, planted, jobs } => {
            many(first..first + seeds, minutes, planted, jobs)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Answers whether all was as it must be.
fn one(
    seed: u64,
    minutes: u64,
    planted: Planted,
    trace: bool,
    log: Option<String>,
) -> Result<bool> {
    entropy::seed(seed);
    if let Some(filter) = log {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
        // What that took of it would be missing.
        entropy::seed(seed);
    }
    panics::note();
    thread::spawn(move || end_if_it_hangs(seed, minutes));
    let begun = Instant::now();
    let outcome = world::run(&Scenario::new(seed, minutes, planted), trace)?;
    println!("{} in {:.2} s", line(seed, &outcome), begun.elapsed().as_secs_f64());
    Ok(outcome.violation.is_none())
}

/// Tasks that wake each other for ever let no time pass in the world.
fn end_if_it_hangs(seed: u64, minutes: u64) {
    thread::sleep(HANGS_AFTER * u32::try_from(minutes.max(1)).unwrap_or(u32::MAX));
    println!("seed {seed}: BUG the run does not come to an end");
    std::process::exit(1);
}

fn line(seed: u64, outcome: &Outcome) -> String {
    let Outcome { tally, trace, failures, changes, world_ms, .. } = outcome;
    let verdict =
        outcome.violation.as_ref().map_or("ok".to_owned(), |found| format!("BUG {found}"));
    let faults = outcome.faults.iter().map(|(kind, count)| format!("{count} {kind:?}"));
    let faults = faults.collect::<Vec<_>>().join(" ");
    format!(
        "seed {seed}: {verdict}; trace {trace:016x}; {} entries, {} writes, {} reads, {} leaders, \
         {changes} members changed, {} corrections, {} windows; {faults}; {failures} ended by themselves; {} s",
        tally.entries,
        tally.written,
        tally.read,
        tally.leaders,
        tally.corrections,
        tally.sealed,
        world_ms / 1000
    )
}

/// Answers whether all seeds were as they must be.
fn many(seeds: std::ops::Range<u64>, minutes: u64, planted: Planted, jobs: usize) -> Result<bool> {
    let program = std::env::current_exe().context("this program is gone")?;
    let planted = clap::ValueEnum::to_possible_value(&planted).context("no such bug")?;
    let seeds = Mutex::new(seeds);
    let is_well = AtomicBool::new(true);
    let run = |seed: u64| -> Result<()> {
        let mut command = Command::new(&program);
        command.args(["one", "--seed", &seed.to_string()]);
        command.args(["--minutes", &minutes.to_string(), "--planted", planted.get_name()]);
        let output = command.stderr(Stdio::inherit()).output()?;
        print!("{}", String::from_utf8_lossy(&output.stdout));
        is_well.fetch_and(output.status.success(), Ordering::Relaxed);
        Ok(())
    };
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    // Some seeds take ten times as long as others: nobody waits for them.
    let work = || -> Result<()> {
        while is_well.load(Ordering::Relaxed) {
            let Some(seed) = next() else { break };
            run(seed)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(worked) => worked,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(is_well.into_inner())
}
