//! The program that a demo guest runs: it keeps memory and disk busy, checks both all the time
//! against what it remembers elsewhere, and prints a counter to the console.
//!
//! Whatever a migration loses, repeats, tears or swaps shows up either as a line with `FAULT`, or as
//! a gap or a repeat of the counter as seen from outside.
//!
//! ```text
//! memory thread ── owns the working set ──┐
//! disk thread ──── owns the block region ─┼─► tally (atomics) ─► main loop: one line per tick
//! console, power button ── orders ────────┘                      and the answers to orders
//! ```

mod button;
mod console;
mod content;
mod disk;
mod memory;
mod orders;
mod pace;
mod parameters;
mod report;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parameters::Parameters;
use tally::Tally;

fn main() -> ExitCode {
    let parameters = match Parameters::of_this_boot() {
        Ok(parameters) => parameters,
        Err(error) => {
            report::line(format_args!("FAULT parameters {error}"));
            return ExitCode::FAILURE;
        }
    };
    let tally = Arc::new(Tally::default());
    let (orders, inbox) = orders::channel();
    let (memory_sweeps, memory_inbox) = orders::sweep_channel();
    let mut sweeps = vec![memory_sweeps];

    let working_set = memory::WorkingSet::filled(parameters.memory_pages);
    let region = disk::Region::open(&parameters);
    report::line(format_args!("ready {parameters}"));

    let (memory_tally, memory_rates) = (Arc::clone(&tally), parameters.memory_rates);
    thread::spawn(move || memory::run(working_set, memory_rates, &memory_tally, &memory_inbox));
    match region {
        Ok(region) => {
            let (disk_tally, rate) = (Arc::clone(&tally), parameters.disk_bytes_per_s);
            let (disk_sweeps, disk_inbox) = orders::sweep_channel();
            sweeps.push(disk_sweeps);
            thread::spawn(move || disk::run(region, rate, &disk_tally, &disk_inbox));
        }
        Err(reason) => report::line(format_args!("disk unused: {reason}")),
    }
    console::listen(orders.clone());
    button::listen(&orders);

    orders::serve(&inbox, &sweeps, &tally, parameters.tick, Instant::now());
    ExitCode::SUCCESS
}
