//! Whether members are fit, as the world knows it, and what has to follow: who has no room stores nothing new, a leader that
//! is unfit is replaced if another one can lead, and changes go on being acknowledged while a majority is fit.

use novacron_coordinator::fitness::clocks::CLOCK_OFF_MS_MAX;

/// Bytes that a member keeps free: two snapshots and two files of the log, as far as they grow here.
pub const RESERVE_BYTES: u64 = 4 << 20;

/// How long a member may take to see that it has no room: it looks at its disk every second, and asks others in between.
const NOTICED_MS: u64 = 5_000;

/// How long the others may take to replace a leader that is unfit: a comparison of clocks, and some elections.
const SETTLED_MS: u64 = 30_000;

/// How long no client may be told that its change was made: all may wait for a member that cannot answer, some times in a
/// row.
const SILENT_MS_MAX: u64 = 45_000;

/// A member at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// Whether a process serves, and does not stand still.
    pub is_up: bool,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
    /// By how much its clock is off.
    pub offset_ms: i64,
    /// The last entry of its log.
    pub last_index: u64,
    /// Whether it leads.
    pub leads: bool,
    /// The term that it is in.
    pub term: u64,
}

impl Sight {
    fn is_short(&self) -> bool {
        self.is_up && self.free_bytes < RESERVE_BYTES
    }

    /// Beyond doubt: with what it takes to be fit again.
    fn is_fit(&self) -> bool {
        let has_room = self.free_bytes > RESERVE_BYTES + RESERVE_BYTES / 8;
        self.is_up && has_room && self.offset_ms.unsigned_abs() * 10 < CLOCK_OFF_MS_MAX
    }

    fn is_unfit(&self) -> bool {
        let is_off = self.offset_ms.unsigned_abs() > CLOCK_OFF_MS_MAX + 1_000;
        self.is_short() || (self.is_up && is_off)
    }
}

/// What is known of a member over time.
#[derive(Debug, Clone, Default)]
struct Course {
    short_since_ms: Option<u64>,
    unfit_since_ms: Option<u64>,
    fit_since_ms: Option<u64>,
    /// How it was when it had to know that it has no room.
    kept: Option<Sight>,
}

/// Judges members.
#[derive(Debug, Clone)]
pub struct Judge {
    courses: Vec<Course>,
    /// Whether nothing else goes wrong in this world: only then it can be said how soon what has to happen.
    is_quiet: bool,
    written: u64,
    written_at_ms: u64,
}

fn since(before: Option<u64>, is_so: bool, now_ms: u64) -> Option<u64> {
    is_so.then(|| before.unwrap_or(now_ms))
}

fn lasts(since_ms: Option<u64>, now_ms: u64, long_ms: u64) -> bool {
    since_ms.is_some_and(|since_ms| now_ms - since_ms >= long_ms)
}

impl Judge {
    /// Of so many members.
    pub fn new(members: usize, is_quiet: bool) -> Self {
        let courses = vec![Course::default(); members];
        Self { courses, is_quiet, written: 0, written_at_ms: 0 }
    }

    /// Looks at all of them, and at how many writes were acknowledged so far.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn look(&mut self, now_ms: u64, members: &[Sight], written: u64) -> Result<(), String> {
        for (number, (course, sight)) in (1..).zip(self.courses.iter_mut().zip(members)) {
            course.note(now_ms, sight);
            course.check_log(now_ms, sight).map_err(|what| format!("m{number} {what}"))?;
        }
        if std::mem::replace(&mut self.written, written) != written {
            self.written_at_ms = now_ms;
        }
        let fit = |course: &&Course| lasts(course.fit_since_ms, now_ms, SETTLED_MS);
        let is_majority = self.courses.iter().filter(fit).count() > members.len() / 2;
        if self.is_quiet && is_majority { self.check_progress(now_ms, members) } else { Ok(()) }
    }

    fn check_progress(&self, now_ms: u64, members: &[Sight]) -> Result<(), String> {
        for (number, (course, sight)) in (1..).zip(self.courses.iter().zip(members)) {
            if sight.leads && lasts(course.unfit_since_ms, now_ms, SETTLED_MS) {
                return Err(format!("m{number} leads, although it is unfit and a majority is fit"));
            }
        }
        if now_ms - self.written_at_ms >= SILENT_MS_MAX {
            return Err("a majority is fit, and no change is acknowledged".to_owned());
        }
        Ok(())
    }
}

impl Course {
    fn note(&mut self, now_ms: u64, sight: &Sight) {
        self.short_since_ms = since(self.short_since_ms, sight.is_short(), now_ms);
        self.unfit_since_ms = since(self.unfit_since_ms, sight.is_unfit(), now_ms);
        self.fit_since_ms = since(self.fit_since_ms, sight.is_fit(), now_ms);
    }

    /// A member that has to know that it has no room adds nothing to its log but the entries with which it begins terms: if
    /// nobody else can lead, it does.
    fn check_log(&mut self, now_ms: u64, sight: &Sight) -> Result<(), String> {
        if !lasts(self.short_since_ms, now_ms, NOTICED_MS) {
            self.kept = None;
            return Ok(());
        }
        let kept = self.kept.get_or_insert(*sight);
        // The term had come in which it asked for votes, and begins only now.
        if sight.leads && !kept.leads && sight.term == kept.term {
            kept.leads = true;
            kept.last_index += 1;
        }
        let (index, stored) = (kept.last_index, sight.last_index);
        if stored > index + sight.term.saturating_sub(kept.term) {
            return Err(format!("has no room and stores entry {stored} after {index}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: Sight = Sight {
        is_up: true,
        free_bytes: u64::MAX,
        offset_ms: 0,
        last_index: 10,
        leads: false,
        term: 1,
    };
    const SHORT: Sight = Sight { free_bytes: RESERVE_BYTES - 1, ..FIT };

    /// The same members over some time, all the while acknowledging or not.
    fn look(
        judge: &mut Judge,
        from_ms: u64,
        members: &[Sight],
        writes: bool,
    ) -> Result<(), String> {
        (0..=50).try_for_each(|second| {
            let now_ms = from_ms + second * 1_000;
            judge.look(now_ms, members, if writes { now_ms } else { 0 })
        })
    }

    #[test]
    fn a_term_may_begin_later_than_votes_are_asked_for_in_it() {
        let mut judge = Judge::new(1, false);
        look(&mut judge, 0, &[SHORT], true).unwrap();
        let begun = Sight { leads: true, last_index: 11, ..SHORT };
        look(&mut judge, 51_000, &[begun], true).unwrap();
        look(&mut judge, 102_000, &[Sight { leads: false, ..begun }], true).unwrap();
        look(&mut judge, 153_000, &[Sight { last_index: 12, ..begun }], true).unwrap_err();
    }

    #[test]
    fn who_has_no_room_may_begin_a_term_and_store_no_more() {
        let mut judge = Judge::new(1, false);
        look(&mut judge, 0, &[SHORT], true).unwrap();
        let begun = Sight { leads: true, term: 2, last_index: 11, ..SHORT };
        look(&mut judge, 51_000, &[begun], true).unwrap();
        let more = Sight { last_index: 12, ..begun };
        let found = look(&mut judge, 102_000, &[more], true).unwrap_err();
        assert_eq!(found, "m1 has no room and stores entry 12 after 10");
        // Until it has to have noticed, and when it was started again, it may.
        let mut judge = Judge::new(1, false);
        judge.look(0, &[SHORT], 0).unwrap();
        judge.look(NOTICED_MS - 1, &[more], 0).unwrap();
        judge.look(NOTICED_MS, &[Sight { is_up: false, ..more }], 0).unwrap();
        judge.look(NOTICED_MS + 1, &[Sight { last_index: 99, ..more }], 0).unwrap();
    }

    #[test]
    fn an_unfit_leader_and_a_silence_are_found_where_a_majority_is_fit() {
        let unfit = Sight { leads: true, offset_ms: 60_000, ..FIT };
        let members = [unfit, FIT, FIT];
        let found = look(&mut Judge::new(3, true), 0, &members, true).unwrap_err();
        assert_eq!(found, "m1 leads, although it is unfit and a majority is fit");
        let members = [Sight { leads: false, ..unfit }, Sight { leads: true, ..FIT }, FIT];
        look(&mut Judge::new(3, true), 0, &members, true).unwrap();
        assert!(look(&mut Judge::new(3, true), 0, &members, false).is_err());
        // Among other faults, nobody can say how soon.
        look(&mut Judge::new(3, false), 0, &members, false).unwrap();
        look(&mut Judge::new(3, true), 0, &[unfit, SHORT, FIT], false).unwrap();
    }
}
