//! `novacron-benches`: what NovaCron costs beside what QEMU's own migration costs.
//!
//! | module | holds |
//! |---|---|
//! | [`args`] [`workload`] [`schedule`] | what is compared, and in which order: values |
//! | [`network`] | two hosts and a switch, and the bytes that crossed the link |
//! | [`guest`] [`console`] | what the guest is, and what it says |
//! | [`peer`] | a pair of plain QEMUs |
//! | [`ours`] | a development cluster of NovaCron |
//! | [`watch`] | the guest's pause as somebody outside sees it; processors and memory |
//! | [`measurement`] [`bar`] [`report`] | figures, the bar, tables and records |
//! | [`interruption`] [`execute`] [`child`] [`idle`] | signals, commands, processes, the machine's other work |
//! | [`control`] | the control plane beside etcd: no guest, no page |
//! | [`migrate`] [`suite`] [`growth`] [`goodput`] [`micro`] | the subcommands |

#![forbid(unsafe_code)]

mod args;
mod bar;
mod child;
mod console;
mod control;
mod execute;
mod goodput;
mod growth;
mod guest;
mod idle;
mod interruption;
mod link_cut;
mod measurement;
mod micro;
mod migrate;
mod network;
mod ours;
mod peer;
mod report;
mod reservoir;
mod schedule;
mod suite;
mod watch;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command.unwrap_or_else(|| Command::Migrate(Box::new(args.migrate))) {
        Command::Migrate(migrate) => migrate::run(&migrate),
        Command::Suite(suite) => suite::run(&suite),
        Command::Goodput(goodput) => goodput::run(&goodput),
        Command::Control(control) => control::run(&control),
        Command::Micro(micro) => micro::run(&micro),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
