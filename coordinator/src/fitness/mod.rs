//! Whether this member is fit: has room on its disk, and a clock that the others agree with.
//!
//! A member without room stores no entries, and one that is not fit proposes nothing: a full disk must not end it in the
//! middle of a write, and a wrong time in a command cannot be taken back, since the fleet's clock never is. While others
//! can lead, it steps aside; if nobody can, it goes on leading, answers reads, and declines changes. Both end by
//! themselves when there is room again, or the clock is right.

pub mod clocks;
mod storing;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::api::Code;
use novacron_protocol::ids::MemberId;
use novacron_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::clocks::{Anchor, CLOCK_OFF_MS_MAX};
use self::storing::Storing;
use crate::state::formats::{FIRST, FormatVersion, SECRETS};

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
    /// It could, but most others cannot store what it proposes.
    #[error(
        "{can_store} of {voters} coordinators can store changes, and a majority has to: make room on those that \
         `novacron cluster status` shows without; changes are taken again by themselves then"
    )]
    OthersNoRoom {
        /// How many of those that vote have room and answer.
        can_store: u32,
        /// How many vote.
        voters: u32,
    },
    /// It has just started, and its clock was not compared with the others' yet.
    #[error("this coordinator has just started: its clock is being compared with the others'")]
    ClockUnknown,
}

fn direction(offset_ms: i64) -> &'static str {
    if offset_ms > 0 { "ahead of" } else { "behind" }
}

impl Unfit {
    /// The stable code that the API answers with.
    pub fn code(&self) -> Code {
        match self {
            Self::NoRoom { .. } | Self::OthersNoRoom { .. } => Code::StorageFull,
            Self::ClockOff { .. } | Self::ClockJumped { .. } | Self::ClockUnknown => Code::ClockOff,
        }
    }

    /// Whether it is over as soon as the clocks were compared, within a moment.
    pub(crate) fn is_momentary(&self) -> bool {
        matches!(self, Self::ClockJumped { .. } | Self::ClockUnknown)
    }

    /// Since which version of formats it can be said between members.
    pub(crate) fn since(&self) -> FormatVersion {
        match self {
            Self::OthersNoRoom { .. } | Self::ClockUnknown => SECRETS,
            Self::NoRoom { .. } | Self::ClockOff { .. } | Self::ClockJumped { .. } => FIRST,
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
    /// What the own clock said when the clocks were compared last.
    compared: Option<Anchor>,
    /// Whether they are to be compared at all.
    is_watched: bool,
    can_others_lead: bool,
    /// Whether the others can store.
    storing: Storing,
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
        if self.is_watched && self.compared.is_none() {
            return Err(Unfit::ClockUnknown);
        }
        let jump_ms = self.jump_ms(wall);
        match jump_ms.unsigned_abs() > CLOCK_OFF_MS_MAX {
            true => Err(Unfit::ClockJumped { jump_ms }),
            false => Ok(()),
        }
    }

    fn jump_ms(&self, wall: Timestamp) -> i64 {
        self.compared.map_or(0, |compared| compared.jump_ms(wall))
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

    /// From now on somebody watches: until the clocks were compared, nobody knows whether the own one is right.
    fn begin(&self) {
        self.state().is_watched = true;
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

    /// Whether a time that this member's clock says is to be believed, with room on the disk or without.
    ///
    /// # Errors
    /// [`Unfit::ClockOff`], [`Unfit::ClockJumped`] and [`Unfit::ClockUnknown`].
    pub fn check_time(&self, wall: Timestamp) -> Result<(), Unfit> {
        self.state().check_clock(wall)
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

    /// The clocks were compared, the own one being what `compared` says.
    fn note_clocks(
        &self,
        compared: Anchor,
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
        state.compared = Some(compared);
    }

    /// Whether so many members have room that a change can be acknowledged, as far as they said.
    ///
    /// # Errors
    /// [`Unfit::NoRoom`], [`Unfit::OthersNoRoom`].
    pub fn check_storing(&self) -> Result<(), Unfit> {
        let state = self.state();
        state.check_room().and_then(|()| state.storing.check())
    }

    /// Another member declined something for want of room.
    pub(crate) fn note_decline(&self, member: MemberId) {
        self.state().storing.declined(member);
    }

    /// The others that vote were asked whether they have room.
    fn note_rooms(&self, others: &BTreeSet<MemberId>, answers: &BTreeMap<MemberId, bool>) {
        let mut state = self.state();
        let could = state.storing.check();
        state.storing.note(others, answers);
        match (could, state.storing.check()) {
            (Ok(()), Err(reason)) => tracing::error!(%reason, "changes cannot be stored"),
            (Err(_), Ok(())) => tracing::info!("changes can be stored again"),
            _ => {}
        }
    }

    fn is_somebody_short(&self) -> bool {
        self.state().storing.is_short()
    }

    fn note_others(&self, can_lead: bool) {
        self.state().can_others_lead = can_lead;
    }

    /// Whether the clock was compared, and has not jumped since.
    fn is_clock_trusted(&self, wall: Timestamp) -> bool {
        let state = self.state();
        state.compared.is_some() && state.jump_ms(wall).unsigned_abs() <= CLOCK_OFF_MS_MAX
    }

    /// How much later the own clock is than that of each other member that answered last, in milliseconds.
    pub fn offsets_ms(&self) -> BTreeMap<MemberId, i64> {
        self.state().offsets_ms.clone()
    }

    /// What a person has to look at.
    pub fn alerts(&self, wall: Timestamp) -> Vec<String> {
        let state = self.state();
        let checks = [state.check_room(), state.check_clock(wall), state.storing.check()];
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

    use tokio::time::Instant;

    use super::*;

    fn since(wall: Timestamp) -> Anchor {
        Anchor { wall, at: Instant::now() }
    }

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
        assert_eq!(fitness.check(at(0)), Ok(()), "nobody looks");
        fitness.begin();
        assert_eq!(fitness.check(at(0)), Err(Unfit::ClockUnknown));
        assert!(!fitness.is_clock_trusted(at(0)));
        fitness.note_clocks(since(at(0)), BTreeMap::new(), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(fitness.check(at(60_000)), Ok(()));
        assert_eq!(fitness.check(at(60_000 + CLOCK_OFF_MS_MAX)), Ok(()));
        let forward = fitness.check(at(60_000 + hour_ms)).unwrap_err();
        assert_eq!(forward, Unfit::ClockJumped { jump_ms: 3_600_000 });
        fitness.note_room(0, GIB);
        assert_eq!(fitness.check_time(at(60_000 + hour_ms)), Err(forward), "room or none");
        assert_eq!(fitness.check_time(at(60_000)), Ok(()));
        fitness.note_room(2 * GIB, GIB);
        let back = fitness.check(Timestamp::from_unix_ms(99 * hour_ms)).unwrap_err();
        assert_eq!(back, Unfit::ClockJumped { jump_ms: -3_660_000 });
        assert_eq!(back.code(), Code::ClockOff);
        // The others say that it is right now, or wrong.
        let later = at(60_000 + hour_ms);
        fitness.note_clocks(since(later), BTreeMap::new(), None);
        assert_eq!(fitness.check(later), Ok(()));
        let offsets = BTreeMap::from([(MemberId(2), 3_600_000), (MemberId(3), 20)]);
        fitness.note_clocks(since(later), offsets, Some(3_600_000));
        assert!(fitness.check(later).unwrap_err().to_string().contains("3600000 ms ahead of"));
        let alerts = fitness.alerts(later);
        assert!(alerts.len() == 2 && alerts[1].ends_with("that of member 2"), "{alerts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_while_the_others_are_asked_is_no_slow_answer() {
        let fitness = Fitness::default();
        let hour_ms = 3_600_000;
        let wall = Timestamp::from_unix_ms(100 * hour_ms);
        fitness.begin();
        let compared = since(wall);
        tokio::time::advance(Duration::from_millis(50)).await;
        // The clock is an hour ahead now; the question took what it took.
        let (asked_ms, theirs_ms) = (wall.unix_ms, wall.unix_ms + 20);
        let answered_ms = compared.expected_ms();
        let reading = clocks::Reading { asked_ms, answered_ms, theirs_ms };
        assert_eq!((answered_ms, reading.offset_ms()), (wall.unix_ms + 50, 0));
        fitness.note_clocks(compared, BTreeMap::from([(MemberId(2), 0)]), None);
        let later = wall.plus_ms(hour_ms + 50);
        let jumped = Unfit::ClockJumped { jump_ms: 3_600_000 };
        assert_eq!(fitness.check(later), Err(jumped), "it was right when it was compared");
    }
}
