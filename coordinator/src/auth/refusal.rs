//! Why somebody may not, in words that say what would be right.

use novacron_protocol::api::{Code, Problem};
use novacron_transport::Role;
use novacron_transport::api_key::InvalidApiKey;
use novacron_transport::identity::IdentityError;

use crate::state::Refusal;
use crate::state::access::Unknown;

/// Why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// Neither certificate nor key.
    #[error(
        "a client certificate or an API key is needed: connect with an operator's credentials, made by \
         `novacron-coordinator init` or with a token of role `operator`, or send `Authorization: Bearer` and a key"
    )]
    NothingShown,
    /// A certificate without a usable identity.
    #[error("the client certificate names no member of this cluster: {0}")]
    Nameless(IdentityError),
    /// Another role.
    #[error(
        "the role `{0}` may not use the API: an operator's certificate or an API key is needed"
    )]
    Role(Role),
    /// The header is there and holds no key.
    #[error("Authorization: {InvalidApiKey}, behind the word `Bearer`")]
    MalformedKey,
    /// The fleet knows no such somebody.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// Somebody, but it may not.
    #[error(transparent)]
    Missing(#[from] Refusal),
}

impl NotAllowed {
    fn code(&self) -> Code {
        match self {
            Self::NothingShown | Self::Nameless(_) | Self::MalformedKey | Self::Unknown(_) => {
                Code::NotAuthenticated
            }
            Self::Role(_) => Code::NotAllowed,
            Self::Missing(refusal) => refusal.code(),
        }
    }
}

impl From<NotAllowed> for Problem {
    fn from(refusal: NotAllowed) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}
