//! What a request shows of who asks, before the fleet was asked about it.

use std::fmt;

use http::HeaderValue;
use novacron_transport::api_key::ApiKeySecret;
use novacron_transport::{Role, SubjectName};

use super::refusal::NotAllowed;
use super::{Caller, Shown};

/// The scheme of the header `Authorization` (RFC 6750).
const SCHEME: &str = "Bearer ";

/// What a request shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// An operator's certificate, which TLS has verified.
    Operator(SubjectName),
    /// An API key, which nobody has looked at.
    Key(ApiKeySecret),
}

impl Presented {
    /// What a request with this header shows on this connection. A request that has a key is the key's, whatever
    /// certificate the connection has: it says what it wants to be.
    ///
    /// # Errors
    /// [`NotAllowed`] if it shows nothing, or nothing that could be somebody who uses the API.
    pub fn by(caller: &Caller, authorization: Option<&HeaderValue>) -> Result<Self, NotAllowed> {
        if let Some(header) = authorization {
            return key_in(header).map(Self::Key);
        }
        match &caller.shown {
            Shown::Nothing => Err(NotAllowed::NothingShown),
            Shown::Nameless(error) => Err(NotAllowed::Nameless(error.clone())),
            Shown::Member(identity) if identity.role == Role::Operator => {
                Ok(Self::Operator(identity.name.clone()))
            }
            Shown::Member(identity) => Err(NotAllowed::Role(identity.role)),
        }
    }
}

impl fmt::Display for Presented {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => write!(formatter, "operator {name}"),
            Self::Key(key) => write!(formatter, "API key {}", key.id()),
        }
    }
}

/// The scheme's name counts in any case, the key does not.
fn key_in(header: &HeaderValue) -> Result<ApiKeySecret, NotAllowed> {
    let text = header.to_str().map_err(|_| NotAllowed::MalformedKey)?;
    let (scheme, key) = text.split_at_checked(SCHEME.len()).ok_or(NotAllowed::MalformedKey)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(NotAllowed::MalformedKey);
    }
    key.parse().map_err(|_| NotAllowed::MalformedKey)
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::ApiKeyId;
    use novacron_transport::identity::IdentityError;

    use super::*;

    fn member(role: &str) -> Caller {
        let uri = format!("novacron://7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11/{role}/one");
        Caller::from_handshake(uri.parse(), None)
    }

    #[test]
    fn only_operators_certificates_are_for_the_api() {
        let operator = Presented::by(&member("operator"), None).unwrap();
        assert_eq!(operator, Presented::Operator("one".parse().unwrap()));
        for role in ["agent", "coordinator", "partner"] {
            let refusal = Presented::by(&member(role), None).unwrap_err();
            assert!(refusal.to_string().contains(role), "{refusal}");
        }
        let anonymous = Caller::from_handshake(Err(IdentityError::NoCertificate), None);
        assert_eq!(Presented::by(&anonymous, None), Err(NotAllowed::NothingShown));
        let nameless = IdentityError::NotExactlyOne { found: 0 };
        let nameless = Caller::from_handshake(Err(nameless), None);
        assert!(matches!(Presented::by(&nameless, None), Err(NotAllowed::Nameless(_))));
    }

    #[test]
    fn a_key_counts_whatever_the_connection_shows_and_is_never_repeated() {
        let key = ApiKeySecret::new(ApiKeyId(uuid::Uuid::from_u128(1)), [0xab; 32]);
        for caller in [member("operator"), member("agent")] {
            let header = HeaderValue::from_str(&format!("bearer {}", key.to_text())).unwrap();
            let shown = Presented::by(&caller, Some(&header)).unwrap();
            assert!(!format!("{shown} {shown:?}").contains("abab"));
            assert_eq!(shown, Presented::Key(key.clone()));
        }
        for wrong in ["", "Bearer", "Bearer ", "Basic abab", "Bearer nck_1_abab"] {
            let header = HeaderValue::from_str(wrong).unwrap();
            let refusal = Presented::by(&member("operator"), Some(&header)).unwrap_err();
            assert_eq!(refusal, NotAllowed::MalformedKey, "{wrong}");
            assert!(!refusal.to_string().contains("abab"));
        }
    }
}
