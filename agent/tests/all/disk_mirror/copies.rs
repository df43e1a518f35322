//! Disks arrive as they are, and only what is in them travels.

use std::path::Path;

use novacron_agent::qmp::{Capability, MigrateStatus, Qmp, RunState};
use novacron_protocol::session::message::DiskOffer;
use novacron_protocol::vm::DiskFormat;

use super::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_are_being_written_arrive_equal() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    let at_source = source.open_source().await;
    let at_target = target.open_target().await;
    let mut link = connect_agents().await;
    let (mut incoming, mut events) = begin(&at_target, &target).await;

    let mut writers = writers(&at_source, &source).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    let counters = outgoing.counters();
    let disturbed = tokio::task::spawn_blocking(move || {
        let mut random = Random(100);
        // While the disks are copied, and as long as that is certain to take.
        while counters.bytes_disk() < 12 * MIB {
            writers.iter_mut().for_each(|writer| disturb(writer, &mut random));
        }
        writers
    });
    let mut writers = within("writing", disturbed).await.unwrap();
    within("copying", outgoing.wait_ready()).await.unwrap();
    let progress = outgoing.progress().await.unwrap();
    assert!(progress.done_bytes > 12 * MIB && progress.total_bytes >= progress.done_bytes);

    // And when they are kept in step. Then a guest would be stopped.
    let disturbed = tokio::task::spawn_blocking(move || {
        writers.iter_mut().for_each(|writer| disturb(writer, &mut Random(101)));
        writers.into_iter().try_for_each(Writer::disconnect)
    });
    disturbed.await.unwrap().unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    let applied = within("finishing", incoming.finish()).await.unwrap();
    assert_eq!(sent, applied);
    assert!(sent.len() == 2 && sent[0] != [0; 16] && sent[0] != sent[1]);
    assert!(incoming.records_applied() > 0 && events.try_recv().is_err());
    assert_clean(&at_source, &source).await;

    let counters = outgoing.counters();
    assert_eq!(counters.bytes_total(), 84 * MIB);
    assert!(counters.bytes_wire() < counters.bytes_sent(), "{counters:?}");
    assert!(counters.bytes_sent() <= counters.bytes_disk(), "{counters:?}");

    // Taken back after all: nothing is left to abandon.
    outgoing.abandon().await;
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}

async fn until(qmp: &Qmp, wanted: MigrateStatus) {
    let reached = async {
        loop {
            let info = qmp.migration().await.unwrap();
            if info.status == wanted {
                return;
            }
            assert!(info.status != MigrateStatus::Failed, "failed: {info:?}");
            tokio::task::yield_now().await;
        }
    };
    within(&format!("reaching {wanted:?}"), reached).await;
}

/// The order of things with a guest that runs; its memory takes QEMU's own way here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_guest_moves_with_its_disks() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    let at_source = source.open_source().await;
    let at_target = target.open_target().await;
    at_source.qmp.cont().await.unwrap();
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();

    let capabilities = [(Capability::ReturnPath, true), (Capability::Events, true)];
    at_target.qmp.set_capabilities(&capabilities).await.unwrap();
    at_source.qmp.set_capabilities(&capabilities).await.unwrap();
    let pause = [(Capability::PauseBeforeSwitchover, true)];
    at_source.qmp.set_capabilities(&pause).await.unwrap();
    let socket = directory.path().join("m");
    at_target.qmp.migrate_incoming(&socket).await.unwrap();
    at_source.qmp.migrate(&socket).await.unwrap();
    until(&at_source.qmp, MigrateStatus::PreSwitchover).await;
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_clean(&at_source, &source).await;
    at_source.qmp.migrate_continue().await.unwrap();
    until(&at_source.qmp, MigrateStatus::Completed).await;
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);

    at_target.qmp.cont().await.unwrap();
    assert_eq!(at_target.qmp.status().await.unwrap().status, RunState::Running);
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_costs_next_to_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let offers = [DiskOffer { size_bytes: 20 << 30, format: DiskFormat::Qcow2 }];
    let source = Disks::create(directory.path().join("source"), &offers);
    let target = Disks::create(directory.path().join("target"), &offers);
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    assert_eq!((sent, incoming.records_applied()), (vec![[0; 16]], 0));
    assert_eq!(outgoing.counters().bytes_wire(), 0);
}

/// Bytes that a file takes on the host.
fn allocated_bytes(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).unwrap().blocks() * 512
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_and_what_was_discarded_cost_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let offer = |format| DiskOffer { size_bytes: 8 << 30, format };
    let offers = [offer(DiskFormat::Qcow2), offer(DiskFormat::Raw)];
    let source = filled_source(directory.path(), &offers).await;
    let target = Disks::create(directory.path().join("target"), &offers);
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let discard = writers(&at_source, &source).await.into_iter().map(|mut writer| {
        tokio::task::spawn_blocking(move || {
            // All but the last block of what `fill` wrote.
            writer.write_zeroes(0, 13 << 20).unwrap();
            writer.write_zeroes(writer.size_bytes() - 3 * BLOCK_BYTES, 128 << 10).unwrap();
            writer.disconnect().unwrap();
        })
    });
    for discarded in discard {
        discarded.await.unwrap();
    }
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    let wire_bytes = outgoing.counters().bytes_wire();
    assert!(wire_bytes <= 2 * (BLOCK_BYTES + 64), "{wire_bytes} bytes for two blocks");
    at_source.quit().await;
    at_target.quit().await;
    for disk in 0..offers.len() {
        let bytes = allocated_bytes(&target.file(disk));
        assert!(bytes < MIB, "{bytes} bytes are taken by disk {disk}");
    }
    assert_equal(&source, &target);
}
