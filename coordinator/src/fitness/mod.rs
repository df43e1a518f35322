//! Whether this member is fit: has room on its disk, and a clock that the others agree with.
//!
//! A member without room stores no entries, and one that is not fit proposes nothing: a full disk must not end it in the
//! middle of a write, and a wrong time in a command cannot be taken back, since the fleet's clock never is. While others
//! can lead, it steps aside; if nobody can, it goes on leading, answers reads, and declines changes. Both end by
//! themselves when there is room again, or the clock is right.

pub mod clocks;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::api::Code;
use novacron_protocol::ids::MemberId;
use novacron_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::clocks::CLOCK_OFF_MS_MAX;

/// Why a member is not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unfit {
    /// Its disk is full but for what is kept in reserve.
    #[error(
        "{free_bytes} bytes are free on the disk, and {reserve_bytes} are kept for snapshots: make room; it goes on by \
         itself then"
    )]
    NoRoom {
        /// What is free.
        free_bytes: u64,
        /// What is kept in reserve.
        reserve_bytes: u64,
    },
    /// Most others have another time.
    #[error(
        "the clock is {} ms {} most other coordinators' (at most {CLOCK_OFF_MS_MAX} are tolerated): set it right; it goes \
         on by itself then",
        offset_ms.unsigned_abs(), direction(*.offset_ms)
    )]
    ClockOff {
        /// How much later the own clock is than theirs.
        offset_ms: i64,
    },
    /// Its clock has jumped, and was not compared with the others' since.
    #[error(
        "the clock has jumped by {jump_ms} ms and is being compared with the other coordinators'"
    )]
    ClockJumped {
        /// By how much.
        jump_ms: i64,
    },
}

fn direction(offset_ms: i64) -> &'static str {
    if offset_ms > 0 { "ahead of" } else { "behind" }
}

impl Unfit {
    /// The stable code that the API answers with.
    pub fn code(&self) -> Code {
        match self {
            Self::NoRoom { .. } => Code::StorageFull,
            Self::ClockOff { .. } | Self::ClockJumped { .. } => Code::ClockOff,
        }
    }
}

/// What this member knows of its own fitness. One that nobody watches is fit. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fitness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The clocks have to be compared now.
    jumped: Notify,
}

#[derive(Debug, Default)]
struct State {
    room: Option<Room>,
    clock_off_ms: Option<i64>,
    /// How much later the own clock is than each of the others'.
    offsets_ms: BTreeMap<MemberId, i64>,
    /// When the clocks were compared last, by the wall clock and by the one that does not jump.
    compared: Option<(Timestamp, Instant)>,
    can_others_lead: bool,
}

#[derive(Debug, Clone, Copy)]
struct Room {
    free_bytes: u64,
    reserve_bytes: u64,
    is_short: bool,
}

impl State {
    fn check_room(&self) -> Result<(), Unfit> {
        match self.room {
            Some(Room { free_bytes, reserve_bytes, is_short: true }) => {
                Err(Unfit::NoRoom { free_bytes, reserve_bytes })
            }
            _ => Ok(()),
        }
    }

    fn check_clock(&self, wall: Timestamp) -> Result<(), Unfit> {
        if let Some(offset_ms) = self.clock_off_ms {
            return Err(Unfit::ClockOff { offset_ms });
        }
        let jump_ms = self.jump_ms(wall);
        match jump_ms.unsigned_abs() > CLOCK_OFF_MS_MAX {
            true => Err(Unfit::ClockJumped { jump_ms }),
            false => Ok(()),
        }
    }

    fn jump_ms(&self, wall: Timestamp) -> i64 {
        let Some((then, at)) = self.compared else { return 0 };
        let expected = then.unix_ms.saturating_add(at.elapsed().as_millis() as u64);
        clocks::difference_ms(wall.unix_ms, expected)
    }
}

impl Fitness {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this member may propose something at the time that its clock says.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn check(&self, wall: Timestamp) -> Result<(), Unfit> {
        let state = self.state();
        state.check_room().and_then(|()| state.check_clock(wall))
    }

    /// Has the clocks compared now, rather than in a while: somebody waits for it.
    pub fn hurry(&self) {
        self.0.jumped.notify_one();
    }

    /// Whether this member may store entries.
    ///
    /// # Errors
    /// [`Unfit::NoRoom`].
    pub fn check_room(&self) -> Result<(), Unfit> {
        self.state().check_room()
    }

    /// Whether the others agree with this member's clock, as far as they were asked: what it decides by its clock goes
    /// into commands, such as the end of a token.
    ///
    /// # Errors
    /// [`Unfit::ClockOff`].
    pub fn check_clock(&self) -> Result<(), Unfit> {
        let offset_ms = self.state().clock_off_ms;
        offset_ms.map_or(Ok(()), |offset_ms| Err(Unfit::ClockOff { offset_ms }))
    }

    /// Whether another member should lead, and can.
    pub fn is_aside(&self, wall: Timestamp) -> bool {
        let can_others_lead = self.state().can_others_lead;
        can_others_lead && self.check(wall).is_err()
    }

    /// So much is free on the disk. A member that is short has to have an eighth of the reserve more before it is not,
    /// so that it does not change its mind with every file.
    pub fn note_room(&self, free_bytes: u64, reserve_bytes: u64) {
        let mut state = self.state();
        let was_short = state.room.is_some_and(|room| room.is_short);
        let needed = if was_short { reserve_bytes + reserve_bytes / 8 } else { reserve_bytes };
        let is_short = free_bytes < needed;
        if is_short != was_short {
            match is_short {
                true => tracing::error!(free_bytes, reserve_bytes, "no room on the disk"),
                false => tracing::info!(free_bytes, "there is room on the disk again"),
            }
        }
        state.room = Some(Room { free_bytes, reserve_bytes, is_short });
    }

    /// The clocks were compared.
    fn note_clocks(
        &self,
        wall: Timestamp,
        offsets_ms: BTreeMap<MemberId, i64>,
        clock_off_ms: Option<i64>,
    ) {
        let mut state = self.state();
        match (state.clock_off_ms, clock_off_ms) {
            (None, Some(offset_ms)) => tracing::error!(offset_ms, "the clock is off"),
            (Some(_), None) => tracing::info!("the clock is right again"),
            _ => {}
        }
        (state.offsets_ms, state.clock_off_ms) = (offsets_ms, clock_off_ms);
        state.compared = Some((wall, Instant::now()));
    }

    fn note_others(&self, can_lead: bool) {
        self.state().can_others_lead = can_lead;
    }

    fn has_jumped(&self, wall: Timestamp) -> bool {
        self.state().jump_ms(wall).unsigned_abs() > CLOCK_OFF_MS_MAX
    }

    /// How much later the own clock is than that of each other member that answered last, in milliseconds.
    pub fn offsets_ms(&self) -> BTreeMap<MemberId, i64> {
        self.state().offsets_ms.clone()
    }

    /// What a person has to look at.
    pub fn alerts(&self, wall: Timestamp) -> Vec<String> {
        let state = self.state();
        let checks = [state.check_room(), state.check_clock(wall)];
        let mut alerts: Vec<_> =
            checks.into_iter().filter_map(|check| Some(check.err()?.to_string())).collect();
        let far = state.offsets_ms.iter().filter(|(_, ms)| ms.unsigned_abs() > CLOCK_OFF_MS_MAX);
        alerts.extend(far.map(|(member, ms)| {
            let (ms, direction) = (ms.unsigned_abs(), direction(*ms));
            format!("the clock is {ms} ms {direction} that of member {member}")
        }));
        alerts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn who_is_short_of_room_needs_a_little_more_to_be_fit_again() {
        let fitness = Fitness::default();
        let at = Timestamp::from_unix_ms(0);
        assert_eq!(fitness.check(at), Ok(()), "nobody looks");
        let is_fit = |free_bytes| {
            fitness.note_room(free_bytes, 8 * GIB);
            fitness.check_room().is_ok()
        };
        assert_eq!(
            [8 * GIB, 8 * GIB - 1, 8 * GIB, 9 * GIB].map(is_fit),
            [true, false, false, true]
        );
        assert!(!is_fit(0));
        assert_eq!(fitness.check(at).unwrap_err().code(), Code::StorageFull);
        assert!(!fitness.is_aside(at), "nobody else can lead");
        fitness.note_others(true);
        assert!(fitness.is_aside(at));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_is_not_trusted_until_it_was_compared() {
        let (fitness, hour_ms) = (Fitness::default(), 3_600_000);
        let at = |ms: u64| Timestamp::from_unix_ms(100 * hour_ms + ms);
        fitness.note_clocks(at(0), BTreeMap::new(), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(fitness.check(at(60_000)), Ok(()));
        assert_eq!(fitness.check(at(60_000 + CLOCK_OFF_MS_MAX)), Ok(()));
        let forward = fitness.check(at(60_000 + hour_ms)).unwrap_err();
        assert_eq!(forward, Unfit::ClockJumped { jump_ms: 3_600_000 });
        let back = fitness.check(Timestamp::from_unix_ms(99 * hour_ms)).unwrap_err();
        assert_eq!(back, Unfit::ClockJumped { jump_ms: -3_660_000 });
        assert_eq!(back.code(), Code::ClockOff);
        // The others say that it is right now, or wrong.
        let later = at(60_000 + hour_ms);
        fitness.note_clocks(later, BTreeMap::new(), None);
        assert_eq!(fitness.check(later), Ok(()));
        let offsets = BTreeMap::from([(MemberId(2), 3_600_000), (MemberId(3), 20)]);
        fitness.note_clocks(later, offsets, Some(3_600_000));
        assert!(fitness.check(later).unwrap_err().to_string().contains("3600000 ms ahead of"));
        let alerts = fitness.alerts(later);
        assert!(alerts.len() == 2 && alerts[1].ends_with("that of member 2"), "{alerts:?}");
    }
}
