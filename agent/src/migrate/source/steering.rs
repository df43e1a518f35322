//! Between the pilot and QEMU: at the end of each round QEMU is asked what is left, the pilot draws its conclusion, and
//! QEMU is told.

use std::io;
use std::time::{Duration, Instant};

use super::pilot::{Advice, Course, Pilot, RoundEnd, Setting};
use super::{Run, Step};
use crate::migrate::account::Mark;
use crate::qmp::MigrateParameters;
use crate::reason::reason;
use crate::vm::{MachineDirectories, Throttle};

/// Rounds that follow each other more quickly are counted as one: an idle guest's QEMU begins thousands in a second.
const ROUND_MIN: Duration = Duration::from_millis(5);

/// Bandwidths that differ by less than this part are the same to QEMU.
const BANDWIDTH_CHANGE_MIN: u64 = 8;

/// Where the rounds of a migration stand.
#[derive(Debug)]
pub(super) struct Steering {
    course: Course,
    pilot: Pilot,
    bandwidth: u64,
    round: Option<Round>,
    is_asking: bool,
    throttle: Option<Throttle>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    began: Instant,
    bytes_before: u64,
}

impl Steering {
    pub(super) fn new(course: Course) -> Self {
        let pilot = Pilot::new(course);
        let bandwidth = pilot.first_bandwidth();
        Self { course, pilot, bandwidth, round: None, is_asking: false, throttle: None }
    }

    pub(super) fn course(&self) -> Course {
        self.course
    }

    pub(super) fn first_bandwidth(&self) -> u64 {
        self.pilot.first_bandwidth()
    }

    /// Whether it is worth asking what is left, and if so, that it is being asked.
    fn asks(&mut self) -> bool {
        let is_early = self.round.is_some_and(|round| round.began.elapsed() < ROUND_MIN);
        let asks = !self.is_asking && !is_early;
        self.is_asking |= asks;
        asks
    }

    /// The round that ends as another begins; `None` for the very first.
    fn turn(&mut self, now: Instant, bytes: u64) -> Option<(u64, u64)> {
        self.is_asking = false;
        let ended = self.round.replace(Round { began: now, bytes_before: bytes })?;
        let took_us = u64::try_from(now.duration_since(ended.began).as_micros());
        Some((bytes.saturating_sub(ended.bytes_before), took_us.unwrap_or(u64::MAX)))
    }

    /// What slows the guest down.
    fn throttle(&mut self, directories: &MachineDirectories) -> io::Result<&mut Throttle> {
        match &mut self.throttle {
            Some(throttle) => Ok(throttle),
            none => Ok(none.insert(Throttle::of(directories)?)),
        }
    }

    /// The guest has all of its time again: it stands still, or nothing of it moves at the moment.
    pub(super) fn release(&mut self) {
        self.throttle = None;
    }

    /// Whether QEMU has to be told, and if so, that it is.
    fn changes(&mut self, bandwidth: u64) -> bool {
        let is_other = bandwidth.abs_diff(self.bandwidth) > self.bandwidth / BANDWIDTH_CHANGE_MIN;
        if is_other {
            self.bandwidth = bandwidth;
        }
        is_other
    }
}

impl Run {
    /// QEMU ended a round: how much is left it has to be asked. It may not have looked yet; then what it says is what
    /// is left of the round, which is nothing, and a pilot that is told so only leaves everything as it is.
    pub(super) fn round_ends(&mut self) {
        let Some(qmp) = self.qmp() else { return };
        // A QEMU that has stopped the guest hears nothing, and has nothing more to be told.
        if self.account.reached(Mark::Stopped) || !self.steering.asks() {
            return;
        }
        self.steps.spawn(async move {
            let memory = qmp.migration().await.ok().and_then(|info| info.ram);
            Step::Round(memory.map(|memory| memory.remaining))
        });
    }

    pub(super) fn round_began(&mut self, left_bytes: Option<u64>) {
        let bytes = self.memory_totals().bytes_guest;
        let ended = self.steering.turn(Instant::now(), bytes);
        let (Some(left_bytes), Some((bytes, took_us))) = (left_bytes, ended) else { return };
        let round = RoundEnd { now_ms: self.context.now_ms(), bytes, took_us, left_bytes };
        let advice = self.steering.pilot.round_ended(round);
        tracing::debug!(?round, ?advice, "a round ended");
        match advice {
            Advice::Go(Setting { bandwidth, throttle_percent }) => {
                self.tell_bandwidth(bandwidth);
                self.slow_down(throttle_percent);
            }
            Advice::Hopeless(verdict) => self.fail(format!(
                "{verdict}; allow a longer --downtime-limit, slow the guest down with --auto-converge, or move it when \
                 it writes less"
            )),
        }
    }

    fn slow_down(&mut self, percent: u8) {
        // The pilot never takes back what it asked for: nobody is slowed down yet.
        if percent == 0 {
            return;
        }
        let throttle = self.steering.throttle(&self.facts.directories);
        if let Err(error) = throttle.and_then(|throttle| throttle.set(percent)) {
            // There is a verdict for a guest that stays too fast. After the next round it is tried with another one.
            tracing::warn!(%error, "the guest cannot be slowed down");
            self.steering.release();
        }
    }

    /// Beside everything else: a QEMU that is just stopping the guest answers late.
    fn tell_bandwidth(&mut self, bandwidth: u64) {
        if !self.steering.changes(bandwidth) {
            return;
        }
        let Some(qmp) = self.qmp() else { return };
        let parameters = MigrateParameters {
            avail_switchover_bandwidth: Some(bandwidth),
            ..MigrateParameters::default()
        };
        self.steps.spawn(async move {
            if let Err(error) = qmp.set_migrate_parameters(&parameters).await {
                // It goes on with what it was told before.
                tracing::warn!(error = reason(&error), "QEMU takes no bandwidth");
            }
            Step::Told
        });
    }
}
