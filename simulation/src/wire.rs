//! One process's end of the network: what it sends, and whom it waits for. Members' messages are encoded and decoded
//! by the product; here they are bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use novacron_coordinator::peers::{Carrier, PeerError};
use novacron_coordinator::raft::MemberNode;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::network::{Content, Packet, Place};

/// When a link on which nothing comes is taken for dead, as coordinators' links are.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A packet and how long after the start of its process it was sent.
pub type Departure = (Duration, Packet);

/// The end of one process.
#[derive(Debug)]
pub struct Wire {
    own: u64,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sent: Vec<Departure>,
    /// Numbers of calls never repeat, not even over lives of a member: nobody takes the answer of another.
    next_call: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Bytes>>,
    /// Members that were there when they were heard last.
    connected: BTreeSet<u64>,
}

/// Nobody waits any more when this goes.
struct Waiting<'a> {
    wire: &'a Wire,
    call: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.wire.state().waiting.remove(&self.call);
    }
}

/// The address of the member of a machine, and its name.
pub fn address(machine: u64) -> String {
    format!("m{machine}")
}

fn machine_at(node: &MemberNode) -> Option<u64> {
    node.peer_address.strip_prefix('m')?.parse().ok()
}

fn unreachable(node: &MemberNode) -> PeerError {
    PeerError::Resolve {
        address: node.peer_address.clone(),
        source: io::ErrorKind::HostUnreachable.into(),
    }
}

impl Wire {
    /// The end of a process that starts now, the `life`th of machine `own`.
    pub fn new(own: u64, life: u64) -> Self {
        let state = State {
            sent: Vec::new(),
            next_call: life << 40,
            waiting: BTreeMap::new(),
            connected: BTreeSet::new(),
        };
        Self { own, started: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends something.
    pub fn send(&self, to: Place, content: Content) {
        let packet = Packet { from: Place::Member(self.own), to, content };
        self.state().sent.push((self.started.elapsed(), packet));
    }

    /// What was sent since this was asked last.
    pub fn take_sent(&self) -> Vec<Departure> {
        std::mem::take(&mut self.state().sent)
    }

    /// An answer came.
    pub fn answered(&self, call: u64, bytes: Bytes) {
        if let Some(waiting) = self.state().waiting.remove(&call) {
            // Who gave up needs no answer.
            let _ = waiting.send(bytes);
        }
    }

    /// Sends and waits.
    async fn ask(
        &self,
        to: u64,
        limit: Duration,
        content: impl FnOnce(u64) -> Content,
    ) -> Option<Bytes> {
        let (answer, answered) = oneshot::channel();
        let call = {
            let mut state = self.state();
            state.next_call += 1;
            let call = state.next_call;
            state.waiting.insert(call, answer);
            call
        };
        let _waiting = Waiting { wire: self, call };
        self.send(Place::Member(to), content(call));
        let answered = timeout(limit, answered).await.ok().and_then(Result::ok);
        if answered.is_none() {
            self.state().connected.remove(&to);
        }
        answered
    }

    /// Makes sure that a member is there, and answers which one it is.
    async fn greet(&self, node: &MemberNode) -> Result<u64, PeerError> {
        let to = machine_at(node).ok_or_else(|| unreachable(node))?;
        if !self.state().connected.contains(&to) {
            let welcomed = self.ask(to, HANDSHAKE_TIMEOUT, Content::Hello).await;
            welcomed.ok_or_else(|| unreachable(node))?;
            self.state().connected.insert(to);
        }
        Ok(to)
    }
}

/// A process's wire as the product sees it.
#[derive(Debug, Clone)]
pub struct Link(pub Arc<Wire>);

impl Carrier for Link {
    fn connect<'a>(&'a self, node: &'a MemberNode) -> BoxFuture<'a, Result<(), PeerError>> {
        async { self.0.greet(node).await.map(drop) }.boxed()
    }

    fn exchange<'a>(
        &'a self,
        node: &'a MemberNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        async {
            let to = self.0.greet(node).await?;
            let content = |call| Content::Request(call, request);
            self.0.ask(to, IDLE_TIMEOUT, content).await.ok_or(PeerError::NoAnswer)
        }
        .boxed()
    }
}
