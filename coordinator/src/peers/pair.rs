//! Two members and a line from the first to the second, for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use novacron_protocol::ids::{ClusterId, Incarnation, MemberId};
use novacron_protocol::wire::codec;
use novacron_storage::disk::{Disk, SimulatedDisk};
use novacron_storage::log::{Log, LogOptions};
use uuid::Uuid;

use super::desk::Desk;
use super::message::{PeerRequest, PeerResponse};
use super::{Answer, Call, Carrier, PeerError, PeerLinks};
use crate::clock::{Clock, new_request};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::testing::pass;
use crate::raft::timing::Timing;
use crate::raft::words::RaftMetrics;
use crate::raft::{DiskWork, Haste, Heard, MemberNode, Raft};
use crate::state::Body;
use crate::state::formats::Formats;
use crate::state::member::MemberFacts;
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

    /// The desk of the first, which is a cluster of one that has admitted the second.
    pub(crate) async fn desk(&self) -> Desk {
        self.one.initialize(BTreeMap::from([(1, MemberNode::default())])).await.unwrap();
        self.one.trigger().elect().await.unwrap();
        let leads = |metrics: &RaftMetrics<u64, MemberNode>| metrics.current_leader == Some(1);
        self.one.metrics().wait_for(leads).await.unwrap();
        let (raft, haste) = (self.one.clone(), self.haste.clone());
        let clock = Clock::system();
        let desk = Desk::new((raft, haste), self.cell.clone(), clock.clone(), None);
        let (cluster, operator) = (ClusterId(Uuid::from_u128(1)), "root".parse().unwrap());
        let found = Body::FoundCluster { cluster, member: facts("one"), operator };
        for body in [found, Body::AdmitMember(facts("other"))] {
            desk.propose_body(new_request(clock.now()), body).await.unwrap();
        }
        desk
    }
}

fn facts(name: &str) -> MemberFacts {
    let (name, formats) = (name.to_owned(), Formats::default());
    MemberFacts { peer_address: name.clone(), api_address: name.clone(), name, formats }
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
