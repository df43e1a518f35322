//! Where an event stands in the history, and whether a stream can go on from there.

use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::Revision;

use crate::state::Fleet;
use crate::state::event::EventRow;

/// Where an event stands: its revision, and its number there. Written `57.2`, and `57` behind all events of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::http) struct Position {
    pub(super) revision: Revision,
    sequence: u32,
}

impl Position {
    pub(super) fn of(event: &EventRow) -> Self {
        Self { revision: event.revision, sequence: event.sequence }
    }

    /// Behind the last event of a revision.
    pub(super) fn behind(revision: Revision) -> Self {
        Self { revision, sequence: u32::MAX }
    }

    /// Before the first event of a revision.
    pub(super) fn before(revision: Revision) -> Option<Self> {
        revision.0.checked_sub(1).map(|revision| Self::behind(Revision(revision)))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some((revision, sequence)) = text.split_once('.') else {
            return text.parse().ok().map(|revision| Self::behind(Revision(revision)));
        };
        Some(Self { revision: Revision(revision.parse().ok()?), sequence: sequence.parse().ok()? })
    }

    pub(super) fn to_text(self) -> String {
        match self.sequence {
            u32::MAX => self.revision.to_string(),
            sequence => format!("{}.{sequence}", self.revision),
        }
    }
}

/// Events behind a position, oldest first; all without one.
pub(super) fn after(fleet: &Fleet, last: Option<Position>) -> impl Iterator<Item = &EventRow> {
    let last = last.unwrap_or(Position { revision: Revision(0), sequence: 0 });
    fleet.events_after(last.revision, Some(last.sequence))
}

/// Refuses to go on from a place behind which events may be missing: a stream must not have a gap that nobody sees.
pub(super) fn check(fleet: &Fleet, last: Option<Position>) -> Result<(), Problem> {
    let Some(last) = last else { return Ok(()) };
    let (asked, now) = (last.revision.next(), fleet.revision());
    if last.revision > now {
        let detail = format!(
            "from_revision: the cluster has not come to revision {asked}: it is at {now}. Read the lists, and follow \
             from the revision after theirs"
        );
        return Err(refused(Code::RevisionAhead, detail));
    }
    if let Some(oldest) = fleet.events_lost_before(last.revision, last.sequence) {
        let detail = format!(
            "from_revision: events before revision {oldest} are forgotten. Read the lists, and follow from the revision \
             after theirs"
        );
        return Err(refused(Code::RevisionGone, detail));
    }
    if fleet.is_undone(last.revision) {
        let detail = format!(
            "from_revision: the cluster was restored from a backup that is older than revision {}. Read the lists, and \
             follow from the revision after theirs",
            last.revision
        );
        return Err(refused(Code::RevisionUndone, detail));
    }
    Ok(())
}

fn refused(code: Code, detail: String) -> Problem {
    Problem::new(code, detail).about("from_revision")
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::RequestId;

    use super::*;
    use crate::state::event::EVENTS_MAX;
    use crate::state::incarnation::{REVISIONS_GAP, Restored};
    use crate::state::testing::{Scene, happen, member_facts};
    use crate::state::{Body, Command};

    #[test]
    fn a_position_comes_back() {
        let position = Position { revision: Revision(7), sequence: 2 };
        assert_eq!(Position::parse(&position.to_text()), Some(position));
        let behind = Position::behind(Revision(7));
        assert_eq!((behind.to_text().as_str(), Position::parse("7")), ("7", Some(behind)));
        for wrong in ["", "7.x", "x", "7.", ".7", "7.1.1", "-7", "7.4294967296"] {
            assert_eq!(Position::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_place_that_nobody_can_go_on_from_says_which_it_is() {
        let mut scene = Scene::new();
        scene.found();
        let backup = scene.fleet.revision();
        let restored = Restored {
            incarnation: scene.fleet.incarnation().next(),
            member: scene.fleet.next_first_member(),
            facts: member_facts("c9"),
        };
        let request = RequestId(scene.id());
        let command = Command::of_cluster(request, scene.now, Body::BeginIncarnation(restored));
        let begun = Revision(backup.0 + REVISIONS_GAP + 1);
        scene.fleet.apply(begun, &command).unwrap();
        let code = |revision: Revision| {
            let checked = check(&scene.fleet, Some(Position::behind(revision)));
            checked.err().map(|problem| problem.code)
        };
        assert_eq!(check(&scene.fleet, None), Ok(()));
        assert_eq!((code(backup), code(begun)), (None, None));
        assert_eq!(code(backup.next()), Some(Code::RevisionUndone));
        assert_eq!(code(begun.next()), Some(Code::RevisionAhead));
    }

    #[test]
    fn nobody_goes_on_where_events_are_forgotten() {
        let from_the_first = |oldest| {
            let mut fleet = Fleet::default();
            happen(&mut fleet, oldest, EVENTS_MAX);
            check(&fleet, Some(Position::behind(Revision(0))))
        };
        assert_eq!(from_the_first(1), Ok(()));
        let problem = from_the_first(2).unwrap_err();
        assert_eq!(problem.code, Code::RevisionGone);
        assert!(problem.detail.contains("before revision 2 are forgotten"), "{}", problem.detail);
    }

    #[test]
    fn from_a_revision_is_behind_the_one_before() {
        let before = Position::before(Revision(7)).unwrap();
        let at = |revision, sequence| Position { revision: Revision(revision), sequence };
        assert!(at(6, 9) < before && before < at(7, 0));
        assert_eq!(Position::before(Revision(0)), None);
    }
}
