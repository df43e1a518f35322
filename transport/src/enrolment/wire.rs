//! The two messages of an enrolment.

use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use crate::identity::{Role, SubjectName};
use crate::token::{Claim, Proof, TokenId, TokenRefusal};

/// Bytes of either message: a certificate request of 4 KiB, or three PEM texts of about 1 KiB, with room.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// What an applicant asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The token.
    pub token: TokenId,
    /// That the applicant has its secret.
    pub proof: Proof,
    /// The role that it wants.
    pub role: Role,
    /// The name that it wants.
    pub name: SubjectName,
    /// Host names and addresses for its certificate; granted to coordinators only.
    pub hosts: Vec<String>,
    /// A PKCS #10 request, which proves possession of the key and says nothing else.
    pub request_der: Vec<u8>,
}

impl EnrolRequest {
    /// What the proof is about.
    pub(super) fn claim<'a>(&'a self, channel_binding: &'a [u8; 32]) -> Claim<'a> {
        Claim {
            role: self.role,
            name: &self.name,
            hosts: &self.hosts,
            request_der: &self.request_der,
            channel_binding,
        }
    }
}

impl Message for EnrolRequest {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = MESSAGE_BYTES_MAX;
    const NAME: &'static str = "enrolment request";
}

/// What the coordinator answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolResponse {
    /// Welcome.
    Granted(Enrolment),
    /// No.
    Refused(Refusal),
}

impl Message for EnrolResponse {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = MESSAGE_BYTES_MAX;
    const NAME: &'static str = "enrolment response";
}

/// A granted enrolment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The new certificate as PEM.
    pub chain_pem: String,
    /// The trust anchors as PEM.
    pub anchors_pem: String,
    /// The authority's key as PEM: for coordinators only.
    pub authority_key_pem: Option<String>,
    /// Addresses of the coordinators' links: where the new member turns to next.
    pub contacts: Vec<String>,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Enrolment")
    }
}

/// Why an applicant is refused, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalCode {
    /// Unknown token or wrong proof: which of them, only the bearer could know.
    TokenInvalid,
    /// The token has been used.
    TokenUsed,
    /// The token has expired.
    TokenExpired,
    /// The token does not give this role or name.
    ClaimRefused,
    /// The name belongs to somebody else.
    NameTaken,
    /// The request is malformed or asks for what a certificate cannot hold.
    RequestInvalid,
    /// The cluster cannot decide now: no quorum. The token may have been spent.
    Unavailable,
}

impl RefusalCode {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::TokenInvalid,
        Self::TokenUsed,
        Self::TokenExpired,
        Self::ClaimRefused,
        Self::NameTaken,
        Self::RequestInvalid,
        Self::Unavailable,
    ];

    /// Its word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::TokenInvalid => "token_invalid",
            Self::TokenUsed => "token_used",
            Self::TokenExpired => "token_expired",
            Self::ClaimRefused => "claim_refused",
            Self::NameTaken => "name_taken",
            Self::RequestInvalid => "request_invalid",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A refusal, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub code: RefusalCode,
    /// Why, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal with its text.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<TokenRefusal> for Refusal {
    fn from(refusal: TokenRefusal) -> Self {
        let code = match refusal {
            TokenRefusal::Invalid => RefusalCode::TokenInvalid,
            TokenRefusal::Used => RefusalCode::TokenUsed,
            TokenRefusal::Expired => RefusalCode::TokenExpired,
            TokenRefusal::OtherRole | TokenRefusal::OtherName => RefusalCode::ClaimRefused,
        };
        Self::new(code, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::wire::codec;
    use proptest::prelude::*;

    fn request() -> EnrolRequest {
        EnrolRequest {
            token: TokenId([1; 8]),
            proof: Proof([2; 32]),
            role: Role::Agent,
            name: "n1".parse().unwrap(),
            hosts: vec!["h".into()],
            request_der: vec![0x30],
        }
    }

    #[test]
    fn golden_request() {
        let bytes = codec::encode(&request()).unwrap();
        let expected = [
            &[1, 0][..],
            &[1; 8],
            &[2; 32],
            &[1, 0, 0, 0],
            b"\x02\0\0\0\0\0\0\0n1",
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0h",
            b"\x01\0\0\0\0\0\0\0\x30",
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert_eq!(codec::decode::<EnrolRequest>(&bytes).unwrap(), request());
    }

    #[test]
    fn golden_refusal() {
        let refused = EnrolResponse::Refused(Refusal::new(RefusalCode::TokenUsed, "x"));
        let bytes = codec::encode(&refused).unwrap();
        assert_eq!(bytes, b"\x01\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0x");
        assert_eq!(codec::decode::<EnrolResponse>(&bytes).unwrap(), refused);
    }

    #[test]
    fn a_name_is_checked_when_it_comes_from_the_wire() {
        let mut bytes = codec::encode(&request()).unwrap();
        let at = bytes.windows(2).position(|window| window == b"n1").unwrap();
        bytes[at] = b'/';
        assert!(codec::decode::<EnrolRequest>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_a_typed_refusal(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = codec::decode::<EnrolRequest>(&bytes);
            let _ = codec::decode::<EnrolResponse>(&bytes);
        }
    }
}
