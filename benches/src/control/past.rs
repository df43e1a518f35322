//! A ledger that was written to for many hours, in minutes.
//!
//! Windows of the ledger are sealed two hours after their hour, by the leader's clock. So the first member lives through
//! the past in this process, by a clock that is set to the end of one hour after the other: real consensus on a real disk,
//! real links to the simulated hosts, which send what they used in each hour; only the clock is not the machine's. Then it
//! ends, and the coordinators go on from its files as from those of any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use novacron_coordinator::clock::Clock;
use novacron_coordinator::config::Config;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::founding;
use novacron_protocol::limits::USAGE_AGE_S_MAX;
use novacron_protocol::usage::HOUR_S;
use tokio::runtime::Runtime;

use super::coordinators::Layout;
use super::hosts::{Hosts, Span};
use crate::interruption::Interruption;

/// Seconds of a record: agents cut at every fifth minute.
pub const RECORD_S: u64 = 300;
/// How long a window takes entries after its hour.
const GRACE_S: u64 = 2 * HOUR_S;
/// For the hosts to send what they used in an hour.
const HOUR_PATIENCE: Duration = Duration::from_secs(300);
/// For a coordinator to believe its clock again after it was set: it compares it at once, with nobody's.
const CLOCK_PATIENCE: Duration = Duration::from_secs(10);
const CLOCK_PERIOD: Duration = Duration::from_millis(20);

/// Which hours the ledger has entries of. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    begin_s: u64,
    end_s: u64,
}

impl Past {
    /// The hours before those whose windows are open at a second, as many as so many entries take.
    pub fn before(now_s: u64, entries: u64, machines: usize) -> Result<Self> {
        let end_s = now_s - GRACE_S - (now_s - GRACE_S) % HOUR_S;
        let an_hour = Span::new(end_s - HOUR_S, end_s, RECORD_S).records(machines);
        let begin_s = end_s - entries.div_ceil(an_hour) * HOUR_S;
        let oldest_s = now_s - USAGE_AGE_S_MAX;
        ensure!(begin_s > oldest_s, "the ledger would be older than 35 days: take more machines");
        Ok(Self { begin_s, end_s })
    }

    /// How many hours.
    pub fn hours(&self) -> u64 {
        (self.end_s - self.begin_s) / HOUR_S
    }

    /// What is used from its end on.
    pub fn since(&self, now_s: u64) -> Span {
        Span::new(self.end_s, now_s, RECORD_S)
    }

    /// Each hour.
    fn spans(&self) -> impl Iterator<Item = (u64, Span)> {
        let begins = (self.begin_s..self.end_s).step_by(HOUR_S as usize);
        begins.map(|begin_s| (begin_s + HOUR_S, Span::new(begin_s, begin_s + HOUR_S, RECORD_S)))
    }

    /// Founds a cluster when the past began, and runs its first member.
    pub fn found(&self, layout: &Layout) -> Result<PastCoordinator> {
        let config = Config::load(&layout.config(0))?;
        let behind = Arc::new(AtomicU64::new(0));
        set_clock(&behind, self.begin_s)?;
        let clock = clock(Arc::clone(&behind));
        let runtime = Runtime::new()?;
        let started = async {
            founding::init(&config, Some(&layout.operator()), clock.clone()).await?;
            anyhow::Ok(Coordinator::start(&config, clock.clone()).await?)
        };
        let coordinator = runtime.block_on(started).context("no coordinator of the past")?;
        Ok(PastCoordinator { coordinator, clock, behind, runtime })
    }
}

/// A coordinator of this process whose clock is behind.
pub struct PastCoordinator {
    coordinator: Coordinator,
    clock: Clock,
    behind: Arc<AtomicU64>,
    runtime: Runtime,
}

impl PastCoordinator {
    /// Hour after hour; then it ends in order.
    pub fn live_through(
        self,
        past: &Past,
        hosts: &mut Hosts,
        interruption: &Interruption,
    ) -> Result<()> {
        for (end_s, span) in past.spans() {
            set_clock(&self.behind, end_s)?;
            self.await_trust(interruption)?;
            hosts.meter_all(span, HOUR_PATIENCE, interruption)?;
        }
        println!("the ledger has {} hours of the past", past.hours());
        hosts.stop_metering();
        self.runtime.block_on(self.coordinator.shutdown());
        Ok(())
    }

    /// A clock that has jumped is not believed before it was compared. Hosts whose usage is declined meanwhile would all
    /// have to connect again.
    fn await_trust(&self, interruption: &Interruption) -> Result<()> {
        let fitness = self.coordinator.fitness();
        fitness.hurry();
        interruption.wait("the clock to be believed", CLOCK_PATIENCE, CLOCK_PERIOD, || {
            Ok(fitness.check(self.clock.now()).is_ok().then_some(()))
        })
    }
}

/// The seconds since 1970.
pub fn now_s() -> Result<u64> {
    Ok(now_ms()? / 1_000)
}

fn now_ms() -> Result<u64> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since_1970.as_millis())?)
}

fn set_clock(behind_ms: &AtomicU64, second: u64) -> Result<()> {
    behind_ms.store(now_ms()?.saturating_sub(second * 1_000), Ordering::SeqCst);
    Ok(())
}

fn clock(behind_ms: Arc<AtomicU64>) -> Clock {
    let now = move || {
        let now = Clock::system().now();
        let behind_ms = behind_ms.load(Ordering::SeqCst);
        novacron_protocol::time::Timestamp::from_unix_ms(now.unix_ms.saturating_sub(behind_ms))
    };
    Clock::from_fn(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_ends_where_windows_are_open() {
        let now_s = 500_000 * HOUR_S + 59;
        let past = Past::before(now_s, 10_000_000, 20_000).unwrap();
        assert_eq!((past.hours(), past.end_s), (21, 499_998 * HOUR_S));
        let spans: Vec<_> = past.spans().collect();
        assert_eq!(spans.len() as u64, past.hours());
        assert_eq!(spans.iter().map(|(_, span)| span.records(20_000)).sum::<u64>(), 21 * 480_000);
        assert_eq!(spans.last().map(|(end_s, _)| *end_s), Some(past.end_s));
        assert_eq!(past.since(now_s).records(1), 2 * 24);
    }

    #[test]
    fn a_past_is_not_older_than_the_ledger_takes() {
        assert!(Past::before(500_000 * HOUR_S, 10_000_000, 10).is_err());
    }
}
