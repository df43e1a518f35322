//! What is kept of what happened, and where a stream cannot go on.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{RequestId, Revision};

use crate::state::event::{About, EVENTS_MAX};
use crate::state::fleet::Applying;
use crate::state::incarnation::{REVISIONS_GAP, Restored};
use crate::state::testing::*;
use crate::state::{Body, Command, Fleet};

/// Events of a revision.
fn happen(fleet: &mut Fleet, revision: u64, events: usize) {
    let mut now = Applying::at(fleet.clock());
    now.revision = Revision(revision);
    for _ in 0..events {
        fleet.emit(&mut now, EventKind::SettingsChanged, About::default(), String::new());
    }
}

#[test]
fn a_stream_goes_on_exactly_where_nothing_is_forgotten() {
    let mut fleet = Fleet::default();
    let lost = |fleet: &Fleet, revision, sequence| {
        fleet.events_lost_before(Revision(revision), sequence).map(|oldest| oldest.0)
    };
    // Three events a revision, until two of revision 3 are forgotten.
    let revisions = (EVENTS_MAX as u64 + 2 * 3).div_ceil(3);
    for revision in 1..=revisions {
        happen(&mut fleet, revision, 3);
        let is_lost = lost(&fleet, 0, u32::MAX).is_some();
        assert_eq!(is_lost, revision * 3 > EVENTS_MAX as u64, "{revision}");
    }
    let oldest = *fleet.events.first_key().unwrap();
    assert_eq!((oldest.revision, oldest.sequence), (Revision(3), 2));
    assert_eq!(fleet.events.len(), EVENTS_MAX);
    assert_eq!(fleet.oldest_event_revision(), Revision(4));
    assert_eq!(lost(&fleet, 3, u32::MAX), None);
    assert_eq!(lost(&fleet, 3, 1), None, "it has seen what is forgotten of revision 3");
    assert_eq!(lost(&fleet, 3, 0), Some(4));
    assert_eq!(lost(&fleet, 2, u32::MAX), Some(4));

    happen(&mut fleet, revisions + 1, 1);
    assert_eq!(fleet.oldest_event_revision(), Revision(4));
    assert_eq!(lost(&fleet, 3, u32::MAX), None);
    assert_eq!(lost(&fleet, 3, 1), Some(4));
}

#[test]
fn what_a_restore_undid_is_not_gone_on_from() {
    let mut scene = Scene::new();
    scene.found();
    scene.join("node-01", 16);
    let backup = scene.fleet.revision().0;
    let restored = Restored {
        incarnation: scene.fleet.incarnation().next(),
        member: scene.fleet.next_first_member(),
        facts: member_facts("c9"),
    };
    let request = RequestId(scene.id());
    let command = Command::of_cluster(request, scene.now, Body::BeginIncarnation(restored));
    let begun = backup + REVISIONS_GAP + 1;
    let fleet = &mut scene.fleet;
    fleet.apply(Revision(begun), &command).unwrap();
    happen(fleet, begun + 1, 1);
    for same in [0, 1, backup, begun - 1, begun, begun + 1] {
        assert!(!fleet.is_undone(Revision(same)), "{same}");
    }
    for undone in [backup + 1, backup + 1_000_000] {
        assert!(fleet.is_undone(Revision(undone)), "{undone}");
    }
}
