//! Orders from the console and the power button, and the loop that serves them between two ticks.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::report::{self, Uptime};
use crate::tally::Tally;

/// Orders that may wait. A person types them.
const ORDERS_MAX: usize = 16;

/// Something that the guest is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Print a summary.
    Status,
    /// Compare every page of the working set and every block of the disk now, and say so when done.
    Sweep,
    /// End, so that the machine is powered off.
    PowerOff,
}

/// The order to compare everything, on its way to a thread that owns a part of it.
#[derive(Debug)]
pub struct Sweep;

/// The way of orders to the main loop.
pub fn channel() -> (SyncSender<Order>, Receiver<Order>) {
    sync_channel(ORDERS_MAX)
}

/// The way of sweeps to one of the threads: while one waits, another would add nothing.
pub fn sweep_channel() -> (SyncSender<Sweep>, Receiver<Sweep>) {
    sync_channel(1)
}

/// Prints the counter and serves orders until one of them is to power off.
pub fn serve(
    inbox: &Receiver<Order>,
    sweeps: &[SyncSender<Sweep>],
    tally: &Tally,
    tick: Duration,
    now: Instant,
) {
    let uptime = Uptime::start(now);
    let mut next_tick = now;
    let mut ticks: u64 = 0;
    loop {
        let now = Instant::now();
        if now >= next_tick {
            ticks += 1;
            print_tick(ticks, uptime.ms(now), tally);
            // After a pause the counter goes on at its pace: it is numbered, not caught up.
            next_tick = (next_tick + tick).max(now);
        }
        match inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
            Ok(Order::Status) => print_status(ticks, uptime.ms(Instant::now()), tally),
            // Full means that one is waiting already; its line answers this order too.
            Ok(Order::Sweep) => sweeps.iter().for_each(|way| drop(way.try_send(Sweep))),
            Ok(Order::PowerOff) => break,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    report::line(format_args!("powering off after tick={ticks} faults={}", tally.counts().faults));
}

fn print_tick(tick: u64, uptime_ms: u128, tally: &Tally) {
    let counts = tally.counts();
    report::line(format_args!(
        "tick={tick} uptime_ms={uptime_ms} memory_checked_pages={} disk_checked_blocks={} faults={}",
        counts.memory_checked_pages, counts.disk_checked_blocks, counts.faults
    ));
}

fn print_status(tick: u64, uptime_ms: u128, tally: &Tally) {
    let counts = tally.counts();
    report::line(format_args!(
        "status last_tick={tick} uptime_ms={uptime_ms} memory_checked_pages={} \
         disk_written_blocks={} disk_checked_blocks={} faults={}",
        counts.memory_checked_pages,
        counts.disk_written_blocks,
        counts.disk_checked_blocks,
        counts.faults
    ));
}
