//! Who asks, and whether it may.
//!
//! Somebody is who its client certificate says, which TLS has verified, or whom its API key speaks for; nothing else in
//! a request can change that. What it may do is in the replicated state (`state::access`), which decides again when a
//! change is applied. This is the only place that makes a [`Grant`] or an [`Authorized`] value, so whatever takes one
//! cannot be reached around it.
//!
//! | module | holds |
//! |---|---|
//! | [`presented`] | what a request shows: a certificate, or a key |
//! | [`grant`] | what the fleet says to that, and what may be seen |
//! | [`refusal`] | why not |

pub mod grant;
pub mod presented;
pub mod refusal;

use std::net::IpAddr;

use novacron_transport::Identity;
use novacron_transport::identity::IdentityError;

pub use grant::{Access, Authorized, Grant, Sight, Where};
pub use presented::Presented;
pub use refusal::NotAllowed;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it showed in the handshake.
    pub shown: Shown,
    /// Where it is.
    pub address: Option<IpAddr>,
}

/// What somebody showed in a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// No certificate.
    Nothing,
    /// A certificate of some cluster's authority that names nobody.
    Nameless(IdentityError),
    /// That of a member of a cluster.
    Member(Identity),
}

impl Caller {
    /// Who a finished handshake says it is.
    pub fn from_handshake(
        identity: Result<Identity, IdentityError>,
        address: Option<IpAddr>,
    ) -> Self {
        let shown = match identity {
            Ok(identity) => Shown::Member(identity),
            Err(IdentityError::NoCertificate) => Shown::Nothing,
            Err(error) => Shown::Nameless(error),
        };
        Self { shown, address }
    }
}
