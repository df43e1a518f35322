//! Clients that ask all the time, or so often a second: the same for both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::dialect::Key;
use super::latencies::Latencies;
use super::link::{Ask, Door, Link};
use super::work::Work;

/// Clients that share a connection, as clients of one program do.
const CLIENTS_PER_CONNECTION: usize = 8;
/// An operation that takes longer has failed; it is more than any election takes.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// A load.
#[derive(Debug, Clone)]
pub struct Load {
    /// What the clients do.
    pub work: Arc<dyn Work>,
    /// How many there are, each with one operation under way at most.
    pub clients: usize,
    /// Operations a second of all together; as many as can be unless said.
    pub per_second: Option<u32>,
    /// Before latencies count.
    pub warm_up: Duration,
    /// For which they count.
    pub measured: Duration,
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Of the operations that began and ended within the measured time.
    pub latencies: Latencies,
    /// The measured time in seconds.
    pub seconds: f64,
}

impl Tally {
    /// Operations a second.
    pub fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.seconds.max(f64::EPSILON)
    }
}

impl Load {
    /// Runs it against members, to which the clients' connections are dealt in turn. An operation that fails fails the
    /// load: there is nobody here who makes operations fail.
    pub async fn run(self, doors: &[Door]) -> Result<Tally> {
        let links = self.links(doors).await?;
        let start = Instant::now() + self.warm_up;
        let end = start + self.measured;
        let pace = Arc::new(Pace::new(self.per_second, Instant::now()));
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let client = Client {
                number,
                work: Arc::clone(&self.work),
                link: links[number / CLIENTS_PER_CONNECTION].clone(),
                pace: Arc::clone(&pace),
                counted: (start, end),
            };
            clients.spawn(client.run());
        }
        let mut tally = Tally { seconds: self.measured.as_secs_f64(), ..Tally::default() };
        while let Some(ended) = clients.join_next().await {
            tally.latencies.merge(&ended.context("a client ended")??);
        }
        Ok(tally)
    }

    async fn links(&self, doors: &[Door]) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for (_, door) in
            (0..self.clients.div_ceil(CLIENTS_PER_CONNECTION)).zip(doors.iter().cycle())
        {
            links.push(door.open().await?);
        }
        Ok(links)
    }
}

/// Gives out numbers of operations, and when each is due.
#[derive(Debug)]
struct Pace {
    next: AtomicU64,
    begun: Instant,
    period: Option<Duration>,
}

impl Pace {
    fn new(per_second: Option<u32>, begun: Instant) -> Self {
        let period = per_second.map(|rate| Duration::from_secs(1) / rate);
        Self { next: AtomicU64::new(0), begun, period }
    }

    /// The next operation's number, and since when it waits: a client that is late is charged for what it is late,
    /// or a side that stalls would be asked less and look better.
    async fn next(&self) -> (u64, Instant) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let Some(period) = self.period else { return (number, now) };
        let due = self.begun + Duration::from_nanos(nanoseconds(period).saturating_mul(number));
        if due <= now {
            return (number, due);
        }
        sleep_until(due).await;
        // Timers are a millisecond coarse, which is no doing of the side that is asked.
        (number, Instant::now())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

struct Client {
    number: usize,
    work: Arc<dyn Work>,
    link: Link,
    pace: Arc<Pace>,
    counted: (Instant, Instant),
}

impl Client {
    async fn run(self) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        let (start, end) = self.counted;
        loop {
            let (number, begun) = self.pace.next().await;
            if begun >= end {
                return Ok(latencies);
            }
            let ask = self.work.ask(Key { client: self.number, number });
            self.exchange(ask).await?;
            let ended = Instant::now();
            if begun >= start && ended <= end {
                latencies.add(ended - begun);
            }
        }
    }

    async fn exchange(&self, ask: Ask) -> Result<()> {
        let what = format!("{} {}", ask.method, ask.path);
        let answered = timeout(OPERATION_TIMEOUT, self.link.exchange(ask)).await;
        let answer =
            answered.map_err(|_| anyhow!("no answer in {} s", OPERATION_TIMEOUT.as_secs()));
        let checked = answer.and_then(|answer| answer).and_then(|answer| self.work.check(&answer));
        checked.context(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_late_is_charged_for_it() {
        let begun = Instant::now();
        let pace = Pace::new(Some(100), begun);
        assert_eq!(pace.next().await, (0, begun));
        let (number, since) = pace.next().await;
        assert_eq!((number, since - begun), (1, Duration::from_millis(10)));
        tokio::time::advance(Duration::from_millis(500)).await;
        let (number, since) = pace.next().await;
        assert_eq!((number, since - begun), (2, Duration::from_millis(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pace_every_operation_is_due_at_once() {
        let pace = Pace::new(None, Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.next().await, (0, Instant::now()));
    }
}
