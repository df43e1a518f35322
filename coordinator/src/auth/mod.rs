//! Who may do what.
//!
//! A caller is who its certificate says, which TLS has verified; nothing in a request can change that. This is the
//! only place that makes an [`Authorized`] value, so whatever takes one cannot be reached around it.

use std::net::IpAddr;

use novacron_protocol::api::{Code, Problem};
use novacron_transport::identity::IdentityError;
use novacron_transport::{Identity, Role};

use crate::state::{Asker, Credential};

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

/// A value that an operator asked for. Only [`authorize`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized<T> {
    value: T,
    asker: Asker,
}

impl<T> Authorized<T> {
    /// What was asked for.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Who asked.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// What was asked for, and who asked.
    pub fn into_parts(self) -> (T, Asker) {
        (self.value, self.asker)
    }
}

/// Why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// No certificate.
    #[error(
        "a client certificate is needed: connect with an operator's credentials, made by \
         `novacron-coordinator init` or with a token of role `operator`"
    )]
    NoCertificate,
    /// A certificate without a usable identity.
    #[error("the client certificate names no member of this cluster: {0}")]
    Nameless(IdentityError),
    /// Another role.
    #[error("the role `{0}` may not use the API: an operator's certificate is needed")]
    Role(Role),
}

impl From<NotAllowed> for Problem {
    fn from(refusal: NotAllowed) -> Self {
        Self::new(Code::NotAllowed, refusal.to_string())
    }
}

/// Lets an operator have what was asked for, and nobody else. Operators may do all: agents, coordinators and
/// partners have links of their own.
///
/// # Errors
/// [`NotAllowed`], with what would be right.
pub fn authorize<T>(caller: &Caller, value: T) -> Result<Authorized<T>, NotAllowed> {
    match &caller.shown {
        Shown::Nothing => Err(NotAllowed::NoCertificate),
        Shown::Nameless(error) => Err(NotAllowed::Nameless(error.clone())),
        Shown::Member(identity) if identity.role == Role::Operator => {
            let name = identity.name.clone();
            let asker =
                Asker { name, credential: Credential::Certificate, address: caller.address };
            Ok(Authorized { value, asker })
        }
        Shown::Member(identity) => Err(NotAllowed::Role(identity.role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(role: &str) -> Caller {
        let uri = format!("novacron://7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11/{role}/one");
        Caller::from_handshake(uri.parse(), None)
    }

    #[test]
    fn operators_may_and_nobody_else() {
        let allowed = authorize(&member("operator"), 7).unwrap();
        assert_eq!((*allowed.value(), allowed.asker().name.as_str()), (7, "one"));
        for role in ["agent", "coordinator", "partner"] {
            let refusal = authorize(&member(role), ()).unwrap_err();
            assert!(refusal.to_string().contains(role), "{refusal}");
        }
    }

    #[test]
    fn a_caller_without_a_name_is_told_what_is_needed() {
        let anonymous = Caller::from_handshake(Err(IdentityError::NoCertificate), None);
        let problem = Problem::from(authorize(&anonymous, ()).unwrap_err());
        assert_eq!((problem.status, problem.code), (403, Code::NotAllowed));
        assert!(problem.detail.contains("client certificate"), "{}", problem.detail);
        let nameless = Err(IdentityError::NotExactlyOne { found: 0 });
        let nameless = Caller::from_handshake(nameless, None);
        assert!(matches!(authorize(&nameless, ()), Err(NotAllowed::Nameless(_))));
    }
}
