//! A warm migration, once the disks were copied: they are kept in step until little is left, then the guest is shut
//! down, and what it wrote last follows.

use std::time::{Duration, Instant};

use super::progress::per_second;
use super::{Run, Step};
use crate::qmp::{Qmp, RunState};
use crate::reason::reason;
use crate::vm::POWER_BUTTON_INTERVAL;

/// Bytes that may be left when the guest is told to shut down: what 1 Gbit/s carries in 70 ms, and less than a guest
/// writes while it shuts down.
const LEFT_BYTES_MAX: u64 = 8 << 20;

/// How often it is looked what is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A round that leaves more than this share (in percent) of what the round before left does not shrink.
const STAGNATION_PERCENT: u64 = 80;

/// Such rounds one after the other, before it is as good as it gets: no more, since each takes as many times longer than
/// the one before as the guest is faster than the link…
const STAGNANT_ROUNDS: u32 = 2;

/// … if they have taken at least as long: a guest may be busy for a while.
const STAGNATION_MIN: Duration = Duration::from_secs(30);

/// How long what is left then may take to be sent, with the guest down.
const LAST_ROUND_MAX: Duration = Duration::from_secs(5);

/// How often a guest that was told to shut down is looked at, whatever events come.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// Where the rounds stand. Pure: time is an argument.
#[derive(Debug, Default)]
pub(super) struct Warm {
    rounds: u32,
    round: Option<Round>,
    stagnant: Option<Stagnation>,
    is_shutting_down: bool,
}

/// One pass over what was left when it began.
#[derive(Debug, Clone, Copy)]
struct Round {
    began: Instant,
    left_bytes: u64,
    handled_before_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stagnation {
    since: Instant,
    rounds: u32,
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    /// Look again.
    Wait,
    /// Little enough is left.
    ShutDown,
    /// The guest writes faster than can be sent: bytes per second of both.
    Hopeless { written: u64, sent: u64 },
}

impl Warm {
    /// Rounds so far.
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Whether the guest was told to shut down.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.is_shutting_down
    }

    /// So much is left, and so much was handled so far.
    fn look(&mut self, now: Instant, left_bytes: u64, handled_bytes: u64) -> Advice {
        if left_bytes <= LEFT_BYTES_MAX {
            self.rounds += 1;
            return Advice::ShutDown;
        }
        let next = Round { began: now, left_bytes, handled_before_bytes: handled_bytes };
        let Some(round) = self.round else {
            self.round = Some(next);
            return Advice::Wait;
        };
        let sent_bytes = handled_bytes.saturating_sub(round.handled_before_bytes);
        if sent_bytes < round.left_bytes {
            return Advice::Wait;
        }
        self.rounds += 1;
        self.round = Some(next);
        self.note_progress(round, next);
        self.judge(now, round, left_bytes, sent_bytes)
    }

    fn note_progress(&mut self, ended: Round, next: Round) {
        let shrinks = next.left_bytes.saturating_mul(100)
            <= ended.left_bytes.saturating_mul(STAGNATION_PERCENT);
        let before = self.stagnant.unwrap_or(Stagnation { since: ended.began, rounds: 0 });
        let stagnant = Stagnation { rounds: before.rounds + 1, ..before };
        self.stagnant = (!shrinks).then_some(stagnant);
    }

    fn judge(&self, now: Instant, ended: Round, left_bytes: u64, sent_bytes: u64) -> Advice {
        let is_as_good_as_it_gets = self.stagnant.is_some_and(|stagnant| {
            stagnant.rounds >= STAGNANT_ROUNDS
                && now.duration_since(stagnant.since) >= STAGNATION_MIN
        });
        if !is_as_good_as_it_gets {
            return Advice::Wait;
        }
        let took = now.duration_since(ended.began);
        let (written, sent) = (per_second(left_bytes, took), per_second(sent_bytes, took));
        let last_round_bytes = u128::from(sent) * u128::from(LAST_ROUND_MAX.as_secs());
        match u128::from(left_bytes) <= last_round_bytes {
            true => Advice::ShutDown,
            false => Advice::Hopeless { written, sent },
        }
    }
}

impl Run {
    /// The disks have been copied once.
    pub(super) fn begin_rounds(&mut self) {
        self.look_at_disks(Duration::ZERO);
    }

    fn look_at_disks(&mut self, pause: Duration) {
        let disks = self.disks.clone();
        self.steps.spawn(async move {
            tokio::time::sleep(pause).await;
            let Some(disks) = disks else { return Step::Left(Some(0)) };
            let left = disks.progress().await.ok();
            Step::Left(left.map(|jobs| jobs.total_bytes.saturating_sub(jobs.done_bytes)))
        });
    }

    /// A QEMU that does not say what is left is asked again; if it is gone, that is noticed elsewhere.
    pub(super) async fn round_looked(&mut self, left_bytes: Option<u64>) {
        let handled_bytes = self.disk_counters().bytes_disk;
        let look = |left| self.warm.look(Instant::now(), left, handled_bytes);
        match left_bytes.map_or(Advice::Wait, look) {
            Advice::Wait => self.look_at_disks(LOOK_INTERVAL),
            Advice::ShutDown => self.shut_down().await,
            Advice::Hopeless { written, sent } => self.fail(format!(
                "the guest writes {:.1} MB/s to its disks and {:.1} MB/s can be sent, so they would never be in step; \
                 stop it and move it cold, or move it when it writes less",
                written as f64 / 1e6,
                sent as f64 / 1e6
            )),
        }
    }

    async fn shut_down(&mut self) {
        let (Some(guest), Some(qmp)) = (&self.guest, self.qmp()) else {
            return self.fail("the guest's QEMU does not answer".to_owned());
        };
        let patience = Duration::from_secs(self.context.settings.shutdown_s);
        let force = guest.role().options.force_shutdown;
        self.warm.is_shutting_down = true;
        if let Err(error) = guest.shut_down().await {
            return self.fail(reason(&error));
        }
        self.steps
            .spawn(async move { Step::ShutDown(wait_until_down(&qmp, patience, force).await) });
    }

    /// The guest ends: because it was told to, or because somebody in it wanted so, who does not expect it to boot.
    pub(super) fn guest_ends(&mut self) {
        if !self.warm.is_shutting_down {
            self.fail("the guest shut itself down".to_owned());
        }
    }

    /// It writes nothing any more: the rest can follow.
    pub(super) fn guest_is_down(&mut self) {
        self.guest_stopped();
        self.drain_disks();
    }
}

/// Until the guest has shut down, whose power button was pressed just now, and is again from time to time; after so long
/// it is stopped, or that is an error.
async fn wait_until_down(qmp: &Qmp, patience: Duration, force: bool) -> Result<(), String> {
    let down = async {
        let mut events = qmp.events();
        let mut pressed_at = Instant::now();
        loop {
            let seen = qmp.status().await.map_err(|error| reason(&error))?;
            if seen.status == RunState::Shutdown {
                return Ok(());
            }
            if pressed_at.elapsed() >= POWER_BUTTON_INTERVAL {
                pressed_at = Instant::now();
                qmp.power_down().await.map_err(|error| reason(&error))?;
            }
            let _ = tokio::time::timeout(ASK_INTERVAL, events.recv()).await;
        }
    };
    match tokio::time::timeout(patience, down).await {
        Ok(is_down) => is_down,
        Err(_) if force => qmp.stop().await.map_err(|error| reason(&error)),
        Err(_) => Err(format!(
            "the guest did not shut down within {} s; it goes on here (--force-shutdown stops such a guest)",
            patience.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    /// A guest that writes at one rate and a link that sends at another, both in MB/s: rounds, and how it ends.
    fn run(written: u64, sent: u64, busy_for: Duration) -> (u32, Duration, Advice) {
        let begun = Instant::now();
        let (mut warm, mut left, mut handled) = (Warm::default(), 100 * MB, 0);
        for looks in 0..100_000 {
            let passed = LOOK_INTERVAL * looks;
            match warm.look(begun + passed, left, handled) {
                Advice::Wait => (),
                advice => return (warm.rounds(), passed, advice),
            }
            let milliseconds = LOOK_INTERVAL.as_millis() as u64;
            let written = if passed < busy_for { written * milliseconds * 1000 } else { 0 };
            let now = (sent * milliseconds * 1000).min(left + written);
            handled += now;
            left = left + written - now;
        }
        panic!("it neither ends nor gives up");
    }

    #[test]
    fn a_guest_that_writes_less_than_is_sent_is_shut_down_soon() {
        for written in [0, 1, 20, 80] {
            let (rounds, passed, advice) = run(written, 100, Duration::MAX);
            assert_eq!(advice, Advice::ShutDown, "{written}");
            assert!((1..12).contains(&rounds), "{written}: {rounds} rounds");
            assert!(passed < Duration::from_secs(10), "{written}: {passed:?}");
        }
    }

    #[test]
    fn one_that_keeps_pace_is_shut_down_when_it_gets_no_better() {
        let (_, passed, advice) = run(100, 100, Duration::MAX);
        assert_eq!(advice, Advice::ShutDown);
        assert!(passed >= STAGNATION_MIN);
    }

    #[test]
    fn one_that_is_faster_is_given_up_with_both_rates() {
        let (_, _, advice) = run(200, 10, Duration::MAX);
        let Advice::Hopeless { written, sent } = advice else { panic!("{advice:?}") };
        assert!(written > 10 * sent && sent / MB == 10, "{written} {sent}");
    }

    #[test]
    fn one_that_is_busy_for_a_while_is_waited_for() {
        let (_, _, advice) = run(200, 100, Duration::from_secs(10));
        assert_eq!(advice, Advice::ShutDown);
    }
}
