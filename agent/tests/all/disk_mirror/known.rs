//! Disks that hold something at the target before anything is sent.

use std::path::PathBuf;

use novacron_agent::vm::image::DiskMaker;

use super::harness::*;

/// Disks that begin as the source's once were: an image, or what an earlier visit left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_target_holds_already_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    for disk in 0..offers().len() {
        std::fs::copy(source.file(disk), target.file(disk)).unwrap();
    }
    let maker = DiskMaker { qemu_img: "qemu-img".into(), images: PathBuf::new() };
    let mut extents = Vec::new();
    for disk in 0..offers().len() {
        let format = target.offers[disk].format;
        extents.push(maker.extents(&target.file(disk), format).await.unwrap());
    }
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin_holding(&at_target, &target, extents).await;
    assert!(incoming.pieces().count() > 0);

    // Since then something was written, and something was discarded that the target still has.
    let mut writers = writers(&at_source, &source).await;
    let change = tokio::task::spawn_blocking(move || {
        for writer in &mut writers {
            writer.write(5 * MIB, &[0xaa; 4096]).unwrap();
            writer.write_zeroes(2 * MIB, 1 << 20).unwrap();
        }
        writers
    });
    let mut writers = change.await.unwrap();
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    let wire_bytes = outgoing.counters().bytes_wire();
    println!("{wire_bytes} bytes for two blocks and two holes");
    assert!(wire_bytes < 4 * BLOCK_BYTES, "{wire_bytes} bytes for two blocks and two holes");
    let disturbed = tokio::task::spawn_blocking(move || {
        writers.iter_mut().for_each(|writer| disturb(writer, &mut Random(103)));
        writers.into_iter().try_for_each(Writer::disconnect)
    });
    disturbed.await.unwrap().unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}
