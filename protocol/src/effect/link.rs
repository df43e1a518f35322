//! The messages on the link between an agent and the leading coordinator.
//!
//! The agent opens one bidirectional stream for [`AgentMessage`] / [`CoordinatorMessage`]. The coordinator opens
//! one further stream per console ([`StreamRequest`]), which carries plain bytes after the first frame.

use serde::{Deserialize, Serialize};

use super::{Effect, MachineReport, Report};
use crate::ids::{ClusterId, Incarnation, NodeName, VmId};
use crate::limits::CONTROL_MESSAGE_BYTES_MAX;
use crate::node::NodeFacts;
use crate::usage::{RecordOutcome, UsageRecord};
use crate::version::MinorRange;
use crate::wire::codec::Message;

/// From the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentMessage {
    /// First message.
    Hello(Hello),
    /// Reports, numbered from 1 in each session; unacknowledged ones are sent again in the next session.
    Reports {
        /// Number of the first report of this message.
        first_sequence: u64,
        /// The reports in order.
        reports: Vec<Report>,
    },
    /// Still here; sent every two seconds.
    Heartbeat,
    /// What machines used. One such message at a time: the next one comes after the answer. Sent again in the next session
    /// if there was none.
    Usage {
        /// A number for the answer, of the agent's choice; it grows.
        sequence: u64,
        /// At most `USAGE_RECORDS_PER_BATCH_MAX`.
        records: Vec<UsageRecord>,
    },
}

/// What an agent says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions that the agent speaks.
    pub versions: MinorRange,
    /// The node; must be the name in the certificate.
    pub node: NodeName,
    /// The latest life of the cluster that the agent has met; 0 before the first. A coordinator of an earlier one sends
    /// it away.
    pub incarnation: Incarnation,
    /// What the host has.
    pub facts: NodeFacts,
    /// Every machine in the agent's care. A machine that the coordinator places here and that is missing is lost.
    pub machines: Vec<MachineReport>,
}

/// From the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoordinatorMessage {
    /// The agent is welcome; effects follow.
    Welcome {
        /// The cluster.
        cluster: ClusterId,
        /// Which life of it.
        incarnation: Incarnation,
        /// The minor version that both speak.
        minor: u16,
        /// Addresses of all coordinators, for the next time.
        coordinators: Vec<String>,
    },
    /// This coordinator does not lead.
    NotLeader {
        /// Address of the leader, if it is known.
        leader: Option<String>,
    },
    /// The agent is not welcome, and why.
    Refused {
        /// For a person.
        reason: String,
    },
    /// Effects; may repeat.
    Effects(Vec<Effect>),
    /// All reports up to this number are committed.
    Committed {
        /// Number of the last committed report.
        sequence: u64,
    },
    /// What became of usage is committed.
    UsageCommitted {
        /// The message's number.
        sequence: u64,
        /// What became of its records, in their order.
        outcomes: Vec<RecordOutcome>,
    },
    /// Usage cannot be taken at the moment; it may be sent again later.
    UsageDeclined {
        /// The message's number.
        sequence: u64,
        /// For a person.
        reason: String,
    },
}

/// First frame on a stream that the coordinator opens to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamRequest {
    /// A machine's serial console: after the response the agent sends what the guest writes, and what it
    /// receives goes to the guest.
    Console {
        /// The machine.
        vm: VmId,
        /// Send the log from this byte on first; beyond its end means from now on.
        from_offset: u64,
        /// Whether to go on after the log's present end.
        follow: bool,
    },
}

/// The agent's answer to a [`StreamRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamResponse {
    /// Bytes follow.
    Open,
    /// Not possible, and why.
    Refused {
        /// For a person.
        reason: String,
    },
}

impl Message for AgentMessage {
    const VERSION: u16 = 6;
    const BYTES_MAX: usize = CONTROL_MESSAGE_BYTES_MAX;
    const NAME: &'static str = "agent message";
}

impl Message for CoordinatorMessage {
    const VERSION: u16 = 4;
    const BYTES_MAX: usize = CONTROL_MESSAGE_BYTES_MAX;
    const NAME: &'static str = "coordinator message";
}

impl Message for StreamRequest {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 4096;
    const NAME: &'static str = "stream request";
}

impl Message for StreamResponse {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 4096;
    const NAME: &'static str = "stream response";
}
