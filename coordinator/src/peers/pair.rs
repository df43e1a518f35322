//! Two members and a line from the first to the second, for tests.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use novacron_protocol::ids::{Incarnation, MemberId};
use novacron_protocol::wire::codec;
use novacron_storage::disk::{Disk, SimulatedDisk};
use novacron_storage::log::{Log, LogOptions};

use super::message::{PeerRequest, PeerResponse};
use super::{Answer, Call, Carrier, PeerError, PeerLinks};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::testing::pass;
use crate::raft::timing::Timing;
use crate::raft::{DiskWork, Haste, Heard, MemberNode, Raft};
use crate::view::FleetCell;

/// Members 1 and 2, neither of which knows of a cluster yet.
pub(crate) struct Pair {
    /// The first.
    pub(crate) one: Raft,
    /// Its fleet.
    pub(crate) cell: FleetCell,
    /// Who waits for its commits.
    pub(crate) haste: Haste,
    /// The second.
    pub(crate) other: Raft,
    /// The way from each to the second.
    pub(crate) line: Arc<Line>,
}

/// The way to the other member.
#[derive(Default)]
pub(crate) struct Line {
    /// Where it ends, once there is somebody.
    other: OnceLock<Raft>,
    takes: Mutex<Duration>,
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Line")
    }
}

impl Line {
    /// How long a call is under way from now on.
    pub(crate) fn takes(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }

    async fn answer(&self, request: &[u8]) -> Result<Bytes, PeerError> {
        let other = self.other.get().ok_or(PeerError::NoAnswer)?;
        let takes = *self.takes.lock().unwrap();
        if !takes.is_zero() {
            pass(takes).await;
        }
        let answer = match codec::decode::<PeerRequest>(request)?.call {
            Call::Append(rpc) => Answer::Append(other.append_entries(rpc).await),
            Call::Vote(rpc) => Answer::Vote(other.vote(rpc).await),
            call => panic!("{call:?}"),
        };
        Ok(codec::encode(&PeerResponse::Answer(Box::new(answer)))?.into())
    }
}

impl Carrier for Line {
    fn connect<'a>(&'a self, _: &'a MemberNode) -> BoxFuture<'a, Result<(), PeerError>> {
        async { Ok(()) }.boxed()
    }

    fn exchange<'a>(
        &'a self,
        _: &'a MemberNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        async move { self.answer(&request).await }.boxed()
    }
}

impl Pair {
    /// On empty disks.
    pub(crate) async fn new() -> Self {
        let line = Arc::<Line>::default();
        let (one, cell, haste) = member(1, &line).await;
        let (other, _, _) = member(2, &line).await;
        assert!(line.other.set(other.clone()).is_ok());
        Self { one, cell, haste, other, line }
    }
}

async fn member(id: u64, line: &Arc<Line>) -> (Raft, FleetCell, Haste) {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(id));
    let log = Log::open(Arc::clone(&disk), "log", LogOptions::default()).unwrap();
    let work = DiskWork::on_threads();
    let machine = Machine::open_without_tables(disk, work.clone()).unwrap();
    let links = PeerLinks::carried(MemberId(id), Incarnation(1), Arc::clone(line) as _);
    let (cell, haste) = (machine.cell(), Haste::default());
    let network = Network::new(links, haste.clone(), Heard::default());
    let pace = Timing::default().config().unwrap();
    let log = LogStore::new(log, work);
    (Raft::new(id, pace, network, log, machine).await.unwrap(), cell, haste)
}
