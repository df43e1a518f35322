//! What the other side gives as a reason, however long it is, becomes one that a report and a record can hold.

use novacron_protocol::limits::REASON_BYTES_MAX;
use novacron_protocol::session::message::{
    CONTROL_BYTES_MAX, Digests, MemoryDigest, SourceMessage, TargetMessage,
};
use novacron_protocol::session::source::{
    Source, SourceAction, SourceEvent, SourceLimits, SourceOutcome,
};
use novacron_protocol::session::target::{Target, TargetAction, TargetEvent, TargetLimits};

use crate::world::offer;

fn long() -> String {
    "ä".repeat(CONTROL_BYTES_MAX / 2 - 64)
}

fn digests(block: String) -> Digests {
    let memory = MemoryDigest { block, pages: 1, regions: vec![[0; 16]] };
    Digests { memory: vec![memory], disks: Vec::new() }
}

/// How a source takes its machine back to which this happens after its offer was taken.
fn taken_back_after(events: impl IntoIterator<Item = SourceEvent>) -> String {
    let mut source = Source::begin(offer(), SourceLimits::default());
    let missing_files = Vec::new();
    let taken = TargetMessage::Taken { minor: 0, missing_files, has_base: false, shelf: None };
    for event in [SourceEvent::Connected, SourceEvent::Message(taken)].into_iter().chain(events) {
        source.handle(event, 0);
    }
    let outcome = source.poll_actions().into_iter().find_map(|action| match action {
        SourceAction::TakeBack(SourceOutcome::Failed { reason }) => Some(reason),
        _ => None,
    });
    outcome.expect("it fails")
}

#[test]
fn a_target_cannot_make_a_source_keep_a_reason_without_end() {
    let failed = SourceEvent::Message(TargetMessage::Failed { reason: long() });
    let over = SourceEvent::Failed { reason: long() };
    let ready = TargetMessage::Ready { digests: digests(long()), load_us: 0 };
    let damaged = [
        SourceEvent::Message(TargetMessage::Prepared),
        SourceEvent::DisksSynchronised,
        SourceEvent::GuestStopped,
        SourceEvent::AllSent(digests("pc.ram".to_owned())),
        SourceEvent::Message(ready),
    ];
    for events in [vec![failed], vec![over], damaged.to_vec()] {
        let reason = taken_back_after(events);
        assert!(reason.contains('ä'), "{reason}");
        assert!(reason.len() <= REASON_BYTES_MAX, "{} bytes", reason.len());
    }
}

#[test]
fn what_a_source_says_when_it_gives_up_can_be_said_back() {
    let mut target = Target::begin(TargetLimits::default());
    let abort = SourceMessage::Abort { reason: long() };
    target.handle(TargetEvent::Message(abort), 0);
    target.handle(
        TargetEvent::Persisted(novacron_protocol::session::handover::TargetRecord::Refused),
        0,
    );
    let said = target.poll_actions().into_iter().find_map(|action| match action {
        TargetAction::Send(TargetMessage::Failed { reason }) => Some(reason),
        _ => None,
    });
    let said = said.expect("it says why");
    assert!(said.contains('ä') && said.len() <= REASON_BYTES_MAX, "{} bytes", said.len());
}
