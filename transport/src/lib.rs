//! How members of a cluster reach each other: QUIC with mutual TLS 1.3, certificates that name a role, frames.
//!
//! It moves bytes between peers whose identity is proven. It must not know what the bytes mean: messages and
//! their codec belong to `novacron-protocol`, sessions to the agent and the coordinator.
//!
//! | module | holds |
//! |---|---|
//! | [`identity`] | cluster, role and name, and how a certificate says them |
//! | [`authority`] [`credentials`] | the cluster's certificate authority; a member's own key and certificate |
//! | [`token`] [`api_key`] | join tokens and API keys: pure functions |
//! | [`tls`] | the rustls configurations: links, enrolment, HTTPS |
//! | [`settings`] [`counters`] | limits of a link with their arithmetic; what was refused |
//! | [`endpoint`] [`connection`] | QUIC sockets, and connections whose peer has been verified |
//! | [`frames`] | length-delimited frames on a stream |
//! | [`enrolment`] | from a token to credentials over the wire |
#![forbid(unsafe_code)]

mod accept;
pub mod api_key;
pub mod authority;
pub mod connection;
pub mod counters;
pub mod credentials;
pub mod endpoint;
pub mod enrolment;
mod files;
pub mod frames;
mod hex;
pub mod identity;
mod keyed;
mod reset;
pub mod settings;
pub mod tls;
pub mod token;

pub use authority::ClusterAuthority;
pub use connection::{CloseCode, Connection};
pub use counters::Counters;
pub use credentials::Credentials;
pub use endpoint::{Acceptor, Endpoint};
pub use frames::{FrameError, FramedRecv, FramedSend};
pub use identity::{ExpectedPeer, Identity, Role, SubjectName};
pub use settings::LinkSettings;
