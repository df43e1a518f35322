//! Targets that stand still, links that break, QEMUs that die, sources that break the rules.

use std::time::{Duration, Instant};

use novacron_agent::disk::{DiskError, DiskEvent, IncomingDisks};
use novacron_agent::migrate::relay::Inlets;
use novacron_protocol::disk::{RECORD_BYTES_MAX, Record, RecordEncoder, RunContent};
use novacron_protocol::pages::Compression;
use novacron_protocol::session::message::{DiskOffer, StreamHeader};
use novacron_protocol::vm::DiskFormat;
use novacron_protocol::wire::codec;
use novacron_transport::FramedSend;
use tokio::time::timeout;

use super::harness::*;

/// A QEMU that has not answered by then waits for something.
const DEAF: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_stands_still_is_abandoned_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    until_sending(&outgoing).await;
    assert!(matches!(outgoing.complete().await, Err(DiskError::NotReady { .. })));

    // QEMU waits for its mirror's writes here, and is deaf; unless it was asked before the mirror had filled its socket,
    // which happens on a busy machine.
    let qmp = at_source.qmp.clone();
    let stopping = tokio::spawn(async move { qmp.stop().await });
    let is_deaf = async || timeout(DEAF, at_source.qmp.status()).await.is_err();
    within("becoming deaf", async { while !stopping.is_finished() && !is_deaf().await {} }).await;
    let begun = Instant::now();
    within("abandoning", outgoing.abandon()).await;
    within("stopping", stopping).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert_clean(&at_source, &source).await;
    outgoing.abandon().await;
    assert!(matches!(outgoing.wait_ready().await, Err(DiskError::Failed { .. })));
}

/// A mirror that is under way must not keep QEMU from starting the next one, whoever takes its stream or does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_mirrors_start_while_nobody_takes_their_streams() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let begun = Instant::now();
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    within("abandoning", outgoing.abandon()).await;
    assert_clean(&at_source, &source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_when_it_is_in_step_is_noticed_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let target = Disks::create(directory.path().join("target"), &one_offer());
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let mut writers = writers(&at_source, &source).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    link.outlets.end();
    // It shows with the next write.
    let write = move || writers[0].write(0, &[1; 512]);
    tokio::task::spawn_blocking(write).await.unwrap().unwrap();
    let failure = within("failing", outgoing.failure()).await;
    assert!(matches!(failure, Some(DiskError::Failed { disk: 0, .. })), "{failure:?}");
    outgoing.abandon().await;
    assert!(outgoing.failure().await.is_none(), "it is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_ends_fails_the_mirror_and_a_second_attempt_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    let (_, mut inlet) = link.take_disk().await;
    for _ in 0..3 {
        inlet.receive().await.unwrap().unwrap();
    }
    link.outlets.end();
    let failure = within("failing", outgoing.wait_ready()).await;
    assert!(matches!(failure, Err(DiskError::Failed { disk: 0, .. })), "{failure:?}");
    // As if the agent had died: only the sockets are closed, and QEMU is left with what it has.
    drop(outgoing);

    let target = Disks::create(directory.path().join("target"), &one_offer());
    let at_target = target.open_target().await;
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    assert_clean(&at_source, &source).await;
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_lost_are_outlived() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let mut writers = writers(&at_source, &source).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    // In the middle of copying…
    until_sending(&outgoing).await;
    link.break_and_mend(2).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    // … and when the disks are kept in step.
    link.break_and_mend(2).await;
    let disturbed = tokio::task::spawn_blocking(move || {
        writers.iter_mut().for_each(|writer| disturb(writer, &mut Random(102)));
        writers.into_iter().try_for_each(Writer::disconnect)
    });
    disturbed.await.unwrap().unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    link.break_and_mend(2).await;
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    assert_clean(&at_source, &source).await;
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qemu_that_dies_fails_its_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let mut at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    until_sending(&outgoing).await;
    at_source.process.0.kill().unwrap();
    assert!(within("failing", outgoing.wait_ready()).await.is_err());
    let begun = Instant::now();
    outgoing.abandon().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

/// A stream with these frames, as a source would open it.
async fn send_frames(link: &Link, disk: u16, frames: &[Vec<u8>]) -> FramedSend<quinn::SendStream> {
    let stream = link.to_target.open_uni().await.unwrap();
    let mut stream = FramedSend::new(stream, RECORD_BYTES_MAX);
    stream.send(codec::encode(&StreamHeader::Disk { disk }).unwrap().into()).await.unwrap();
    for frame in frames {
        stream.send(frame.clone().into()).await.unwrap();
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_breaks_the_rules_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let offers = vec![DiskOffer { size_bytes: 4 * MIB, format: DiskFormat::Raw }; 3];
    let target = Disks::create(directory.path().join("target"), &offers);
    let at_target = target.open_target().await;
    let mut link = connect_agents().await;
    let (mut incoming, mut events) = begin(&at_target, &target).await;

    let mut encoder = RecordEncoder::new(Compression::Off).unwrap();
    let mut beyond = Vec::new();
    let record = Record { offset: 4 * MIB, content: RunContent::Zero(BLOCK_BYTES as u32) };
    encoder.encode(&record, &mut beyond).unwrap();
    for (disk, frame) in [(0, beyond), (1, vec![0xff; 100])] {
        let _stream = send_frames(&link, disk, &[frame]).await;
        let (disk, inlet) = link.take_disk().await;
        incoming.add_disk(disk, inlet).unwrap();
        let DiskEvent::Failed { reason } = within("refusing", events.recv()).await.unwrap();
        assert!(reason.contains("record"), "{reason}");
    }
    for disk in [1, 3] {
        let _stream = send_frames(&link, disk, &[]).await;
        // As if it had never come before.
        link.inlets = Inlets::default();
        let (disk, inlet) = link.take_disk().await;
        let refusal = incoming.add_disk(disk, inlet);
        assert!(matches!(refusal, Err(DiskError::UnexpectedStream { .. })), "{refusal:?}");
    }
    assert!(matches!(incoming.finish().await, Err(DiskError::Failed { disk: 0, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_another_size_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let offer = |size_bytes| vec![DiskOffer { size_bytes, format: DiskFormat::Qcow2 }];
    let target = Disks::create(directory.path().join("target"), &offer(4 * MIB));
    let at_target = target.open_target().await;
    let plan = plan(&target, &offer(8 * MIB), Vec::new());
    let begun = IncomingDisks::begin(&at_target.qmp, plan).await;
    assert!(matches!(begun, Err(DiskError::OtherSize { disk: 0, .. })));
}
