//! Simulated hosts: agents that speak the link's protocol over QUIC, each with a certificate of its own, thousands of
//! them on one thread. What they do, they do at once; guests there are none.
//!
//! | module | holds |
//! |---|---|
//! | [`care`] | the machines of a host, and what becomes of effects: pure |
//! | [`tape`] | what it has metered: pure |
//! | [`agent`] | its link |
//! | [`shared`] | what is asked of all, and what was counted |

mod agent;
mod care;
mod shared;
mod tape;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use novacron_protocol::ids::NodeName;
use novacron_protocol::time::Timestamp;
use novacron_transport::authority::Grant;
use novacron_transport::{ClusterAuthority, Credentials, Role};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::interruption::Interruption;
use agent::Agent;
pub use shared::Counts;
use shared::Shared;
pub use tape::Span;

/// Machines that a host has room for.
pub const MACHINES_PER_HOST_MAX: usize = 512;
/// The heartbeats of all hosts begin within this.
const PHASES: Duration = Duration::from_secs(5);
/// Between two looks at what is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For all hosts to be connected: 2,000 handshakes and commits on a machine that does much else.
const CONNECT_PATIENCE: Duration = Duration::from_secs(180);

/// Hosts that run until this is dropped.
#[derive(Debug)]
pub struct Hosts {
    count: usize,
    shared: Arc<Shared>,
    orders: watch::Sender<Option<(u64, Span)>>,
    ordered: u64,
    // A thread of its own: hosts answer while the scenario waits for something else.
    runtime: Option<Runtime>,
}

impl Hosts {
    /// Starts so many, which connect to whichever of the coordinators leads.
    pub fn start(
        authority: &ClusterAuthority,
        doors: Vec<SocketAddr>,
        count: usize,
    ) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (orders, taken) = watch::channel(None);
        let shared = Arc::new(Shared::new(doors, taken));
        for number in 0..count {
            let node = name(number)?;
            let agent = Agent::new(node.clone(), certified(authority, node)?, Arc::clone(&shared));
            let phase = PHASES * u32::try_from(number)? / u32::try_from(count)?;
            runtime.spawn(agent.run(phase));
        }
        Ok(Self { count, shared, orders, ordered: 0, runtime: Some(runtime) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// An error if something happened to a host that must not.
    pub fn check(&self) -> Result<()> {
        match self.shared.trouble() {
            Some(trouble) => bail!("a simulated host: {trouble}"),
            None => Ok(()),
        }
    }

    /// Waits until all have a session.
    pub fn await_connected(&self, interruption: &Interruption) -> Result<()> {
        interruption.wait("all hosts' sessions", CONNECT_PATIENCE, LOOK_AGAIN, || {
            self.check()?;
            let connected = Counts::of(&self.counts().connected);
            Ok((connected == self.count as u64).then_some(()))
        })
    }

    /// From now on all send what their machines used in a span, a batch after the other, each waiting for its
    /// acknowledgement.
    pub fn meter(&mut self, span: Span) {
        self.ordered += 1;
        self.orders.send_replace(Some((self.ordered, span)));
    }

    /// Nothing more is sent of a span.
    pub fn stop_metering(&self) {
        self.orders.send_replace(None);
    }

    /// The same as [`Self::meter`]; returns when all of it is acknowledged.
    pub fn meter_all(
        &mut self,
        span: Span,
        patience: Duration,
        interruption: &Interruption,
    ) -> Result<()> {
        let wanted = Counts::of(&self.counts().spans) + self.count as u64;
        self.meter(span);
        interruption.wait("all of what was metered", patience, LOOK_AGAIN, || {
            self.check()?;
            Ok((Counts::of(&self.counts().spans) >= wanted).then_some(()))
        })
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nobody waits for what hosts have under way.
            runtime.shutdown_background();
        }
    }
}

/// The name of a host.
pub fn name(number: usize) -> Result<NodeName> {
    format!("host-{number:05}").parse().context("no name of a host")
}

fn certified(authority: &ClusterAuthority, node: NodeName) -> Result<Credentials> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Timestamp::from_unix_ms(u64::try_from(since_1970.as_millis())?);
    authority.issue(&Grant::new(Role::Agent, node.into(), now)).context("no certificate for a host")
}
