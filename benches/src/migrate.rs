//! `novacron-benches migrate`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tempfile::TempDir;

use crate::args::{Args, Command, Migrate};
use crate::guest::Guest;
use crate::interruption::Interruption;
use crate::measurement::Measurement;
use crate::network::{Network, Shape};
use crate::ours::together;
use crate::peer::storage;
use crate::report::{self, Comparison, Machine};
use crate::schedule::{Contender, contenders, schedule};
use crate::workload::Workload;
use crate::{idle, ours, peer};

/// Compares, prints and judges. The exit code says whether a bar was missed.
pub fn run(args: &Migrate) -> Result<ExitCode> {
    let comparison = compare(args)?;
    publish(args, &comparison)?;
    Ok(if comparison.is_missed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// As if it had been typed.
pub fn typed(words: &str, runs: u32, is_recorded: bool) -> Result<Migrate> {
    let runs = runs.to_string();
    let mut line = vec!["novacron-benches", "migrate", "--runs", &runs];
    line.extend(words.split_whitespace());
    line.extend(is_recorded.then_some("--record"));
    match Args::try_parse_from(line)?.command {
        Some(Command::Migrate(migrate)) => Ok(*migrate),
        _ => bail!("`{words}` is no comparison"),
    }
}

/// Makes all runs and draws the sum.
pub fn compare(args: &Migrate) -> Result<Comparison> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this needs root: the hosts are network namespaces"
    );
    let interruption = Interruption::listen()?;
    let bench = Bench {
        args,
        workload: args.workload(),
        guest: Guest::find(args.guest.as_deref())?,
        programs: programs(args)?,
        shape: shape(args)?,
        interruption: &interruption,
    };
    let machine = Machine::here();
    let runs = bench.run_all()?;
    let comparison =
        Comparison::new(bench.name(), bench.workload.clone(), machine, &args.bar, runs);
    Ok(comparison.with_remarks(bench.remarks()))
}

/// Where NovaCron's programs are.
fn programs(args: &Migrate) -> Result<PathBuf> {
    let directory = match &args.programs {
        Some(directory) => directory.clone(),
        None => env::current_exe()?.parent().context("this program is nowhere")?.to_owned(),
    };
    let program = directory.join("novacron");
    ensure!(args.no_ours || program.is_file(), "{} is not there: build it", program.display());
    Ok(directory)
}

/// How peers' links are shaped: found out even if none takes part, for ours must have the same.
fn shape(args: &Migrate) -> Result<Shape> {
    Network::create(&args.link, args.peer_tcp)?.wire().shape()
}

fn publish(args: &Migrate, comparison: &Comparison) -> Result<()> {
    println!("\n{}\n\n{}", comparison.title(), comparison.table());
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(comparison)?;
        fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.record {
        let section = comparison.section(&command(env::args()));
        report::record(Path::new(env!("CARGO_MANIFEST_DIR")), &comparison.title(), &section)?;
    }
    Ok(())
}

/// What to type for the same again. Where files are on this machine is nobody else's matter.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["cargo xtask bench".to_owned()];
    let mut arguments = arguments.skip(1);
    while let Some(word) = arguments.next() {
        let option = word.split('=').next().unwrap_or_default();
        if matches!(option, "--programs" | "--guest" | "--json") {
            if option == word {
                arguments.next();
            }
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

/// All that the runs have in common.
struct Bench<'a> {
    args: &'a Migrate,
    workload: Workload,
    guest: Guest,
    programs: PathBuf,
    shape: Shape,
    interruption: &'a Interruption,
}

impl Bench<'_> {
    /// The link, and what else is special.
    fn name(&self) -> String {
        let tcp = self.args.peer_tcp.map(|tcp| format!("peers on TCP {tcp}"));
        let back = self.args.back_after_s.map(|seconds| format!("back after {seconds} s"));
        let clones = self.is_batch().then(|| format!("{} clones together", self.args.clones));
        let at_once = self.args.migrations_per_node.map(|most| format!("{most} at once"));
        let cut = self.args.cut_s.map(|seconds| format!("cut for {seconds} s"));
        let parts = [Some(self.args.link.to_string()), tcp, back, cut, clones, at_once];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn is_batch(&self) -> bool {
        self.args.clones > 1
    }

    /// What else the reader must know.
    fn remarks(&self) -> Vec<String> {
        let batch = self
            .is_batch()
            .then(|| together::remark(self.args.clones, self.args.migrations_per_node));
        let disk = self.workload.disk().map(|_| storage::REMARK.to_owned());
        batch.into_iter().chain(disk).collect()
    }

    fn run_all(&self) -> Result<Vec<(Contender, Measurement)>> {
        let contenders = contenders(&self.args.modes(), !self.args.no_ours);
        let order = schedule(&contenders, self.args.runs);
        let count = order.len();
        println!("{}, {}: {count} runs", self.args.link, self.workload);
        let mut runs = Vec::with_capacity(count);
        for (number, contender) in (1..).zip(order) {
            let idle_before =
                idle::wait(Duration::from_secs(self.args.idle_wait_s), self.interruption)?;
            let measured =
                self.run(contender).with_context(|| format!("run {number}, {contender}"))?;
            let measurement = Measurement { idle_before, ..measured };
            println!("{number}/{count} {contender}: {}", report::line(&measurement));
            runs.push((contender, measurement));
        }
        Ok(runs)
    }

    fn run(&self, contender: Contender) -> Result<Measurement> {
        // Short, since paths of sockets must be.
        let directory =
            tempfile::Builder::new().prefix("nvb").tempdir().context("cannot make a directory")?;
        let measured = match contender {
            Contender::Peer(mode) => {
                self.peer(mode, directory.path()).map(|one| one.times(self.args.clones))
            }
            Contender::Ours => self.ours(directory.path()),
        };
        if measured.is_err() && self.args.keep_logs {
            keep(directory);
        }
        measured
    }

    fn peer(&self, mode: peer::Mode, directory: &Path) -> Result<Measurement> {
        let run = peer::Run {
            mode,
            link: &self.args.link,
            tcp: self.args.peer_tcp,
            guest: &self.guest,
            workload: &self.workload,
            deadline: self.deadline(),
            directory,
            interruption: self.interruption,
        };
        run.measure()
    }

    fn ours(&self, directory: &Path) -> Result<Measurement> {
        let run = ours::Run {
            programs: &self.programs,
            link: &self.args.link,
            shape: self.shape,
            guest: &self.guest,
            workload: &self.workload,
            deadline: self.deadline(),
            clones: self.args.clones,
            migrations_per_node: self.args.migrations_per_node,
            back_after: self.args.back_after_s.map(Duration::from_secs),
            cut: self.args.cut_s.map(Duration::from_secs),
            directory,
            keep_logs: self.args.keep_logs,
            interruption: self.interruption,
        };
        run.measure()
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(self.args.deadline_s)
    }
}

fn keep(directory: TempDir) {
    println!("the logs of this run are in {}", directory.keep().display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_command_names_no_directory() {
        let line = "novacron-benches --runs 5 --json /tmp/a --programs=/opt/b --record";
        let typed = command(line.split(' ').map(str::to_owned));
        assert_eq!(typed, "cargo xtask bench --runs 5 --record");
    }
}
