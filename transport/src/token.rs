//! Join tokens: short-lived, one use. Pure functions; time and randomness are arguments.
//!
//! Text form: `novacron-join.<id>.<secret>.<authority fingerprint>`, all lower-case hexadecimal. The fingerprint
//! lets an applicant trust the right cluster before it has any certificate; the secret lets it prove the token.
//!
//! The cluster stores a hash of the secret only ([`TokenRecord`]), so its replicated state, log and snapshots
//! admit nobody. The proof works like that of SCRAM (RFC 5802 §3):
//!
//! ```text
//! secret_hash = SHA-256(secret)
//! mask        = HMAC-SHA-256(secret_hash, what the proof is about)
//! proof       = secret XOR mask
//! ```
//!
//! The verifier computes the mask from the stored hash, recovers the secret and compares its hash. A proof is
//! about one certificate request, one role and name, and one TLS connection (its exported keying material): it
//! is worth nothing elsewhere. The secret has 256 random bits, so it needs no slow hash.

use std::fmt;
use std::str::FromStr;

use hmac::Mac;
use novacron_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::authority::Fingerprint;
use crate::hex;
use crate::identity::{Role, SubjectName};
use crate::keyed;

const PREFIX: &str = "novacron-join";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// Random bytes that [`JoinToken::generate`] takes.
pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;

/// Says what a proof is for, so that it can never be taken for a keyed hash of another purpose.
const PROOF_CONTEXT: &[u8] = b"novacron enrolment proof 1";

/// The public part of a token: what the cluster files it under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub [u8; ID_BYTES]);

impl fmt::Display for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for TokenId {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        hex::decode(text).map(Self).ok_or(InvalidToken)
    }
}

/// The text is not a join token; it is not repeated, because it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join token: expected {PREFIX}.<id>.<secret>.<fingerprint> as printed when it was made"
)]
pub struct InvalidToken;

/// A token as its bearer holds it. `Debug` shows the id only.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: TokenId,
    secret: [u8; SECRET_BYTES],
    authority: Fingerprint,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JoinToken({})", self.id)
    }
}

impl JoinToken {
    /// A token from random bytes, which must come from the system's generator.
    pub fn generate(random: &[u8; RANDOM_BYTES], authority: Fingerprint) -> Self {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        id.copy_from_slice(&random[..ID_BYTES]);
        secret.copy_from_slice(&random[ID_BYTES..]);
        Self { id: TokenId(id), secret, authority }
    }

    /// What the cluster files it under.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The authority that its bearer shall trust.
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// What the cluster stores instead of the secret.
    pub fn secret_hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.secret).into())
    }

    /// The text for the bearer: shown once, never logged.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}.{}.{}.{}", self.id, hex::encode(&self.secret), self.authority)
    }

    /// Proves possession of the token for one claim.
    pub fn prove(&self, claim: &Claim<'_>) -> Proof {
        Proof(exclusive_or(&self.secret, &mask(&self.secret_hash(), claim)))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let parts: Vec<&str> = text.trim().splitn(5, '.').collect();
        let [PREFIX, id, secret, authority] = parts[..] else { return Err(InvalidToken) };
        Ok(Self {
            id: id.parse()?,
            secret: hex::decode(secret).ok_or(InvalidToken)?,
            authority: Fingerprint(hex::decode(authority).ok_or(InvalidToken)?),
        })
    }
}

/// SHA-256 of a token's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(pub [u8; 32]);

/// What a bearer claims with its token.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The role that it wants.
    pub role: Role,
    /// The name that it wants.
    pub name: &'a SubjectName,
    /// Host names that it wants beside the name.
    pub hosts: &'a [String],
    /// Its certificate request.
    pub request_der: &'a [u8],
    /// Keying material that both ends export from their TLS connection.
    pub channel_binding: &'a [u8; 32],
}

/// Possession of a token's secret, for one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proof(pub [u8; 32]);

impl Proof {
    /// Whether it was made for `claim` by somebody who has the secret.
    pub fn is_valid(&self, stored: &SecretHash, claim: &Claim<'_>) -> bool {
        let secret = exclusive_or(&self.0, &mask(stored, claim));
        // Comparing hashes of a value that the peer cannot choose freely: timing tells it nothing.
        Sha256::digest(secret).as_slice() == stored.0
    }
}

fn mask(key: &SecretHash, claim: &Claim<'_>) -> [u8; 32] {
    let mut hmac = keyed::hmac(&key.0);
    let mut add = |field: &[u8]| {
        hmac.update(&(field.len() as u64).to_le_bytes());
        hmac.update(field);
    };
    add(PROOF_CONTEXT);
    add(claim.channel_binding);
    add(claim.role.as_str().as_bytes());
    add(claim.name.as_str().as_bytes());
    add(claim.request_der);
    claim.hosts.iter().for_each(|host| add(host.as_bytes()));
    hmac.finalize().into_bytes().into()
}

fn exclusive_or(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut result = *left;
    result.iter_mut().zip(right).for_each(|(byte, other)| *byte ^= other);
    result
}

/// What the cluster knows of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The only role that it gives.
    pub role: Role,
    /// The only name that may use it; any unless said.
    pub name: Option<SubjectName>,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// What recognises its secret.
    pub secret_hash: SecretHash,
    /// Whether it has been used.
    pub used: bool,
}

/// Why a token does not admit its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The proof is not that of the token's secret for this claim.
    #[error("the join token is not valid")]
    Invalid,
    /// Somebody has used it.
    #[error("the join token has been used; every join needs its own: ask for a new one")]
    Used,
    /// It is too late.
    #[error("the join token has expired")]
    Expired,
    /// It is for another role.
    #[error("the join token is for another role")]
    OtherRole,
    /// It is for another name.
    #[error("the join token is for another name")]
    OtherName,
}

impl TokenRecord {
    /// Decides a claim at the moment `now`. The proof is looked at first: only the bearer of the secret learns
    /// anything about the token.
    ///
    /// # Errors
    /// [`TokenRefusal`].
    pub fn admit(
        &self,
        proof: &Proof,
        claim: &Claim<'_>,
        now: Timestamp,
    ) -> Result<(), TokenRefusal> {
        let is_name = self.name.as_ref().is_none_or(|name| name == claim.name);
        match () {
            () if !proof.is_valid(&self.secret_hash, claim) => Err(TokenRefusal::Invalid),
            () if self.used => Err(TokenRefusal::Used),
            () if now >= self.expires_at => Err(TokenRefusal::Expired),
            () if self.role != claim.role => Err(TokenRefusal::OtherRole),
            () if !is_name => Err(TokenRefusal::OtherName),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { unix_ms: 1_790_000_000_000 };

    fn token() -> JoinToken {
        let random = std::array::from_fn(|index| index as u8);
        JoinToken::generate(&random, Fingerprint([0xab; 32]))
    }

    fn name() -> SubjectName {
        "node-01".parse().unwrap()
    }

    fn claim(name: &SubjectName) -> Claim<'_> {
        Claim {
            role: Role::Agent,
            name,
            hosts: &[],
            request_der: b"request",
            channel_binding: &[7; 32],
        }
    }

    fn record() -> TokenRecord {
        TokenRecord {
            role: Role::Agent,
            name: None,
            expires_at: NOW.plus_ms(1),
            secret_hash: token().secret_hash(),
            used: false,
        }
    }

    #[test]
    fn golden_text() {
        let text = token().to_text();
        let secret: String = (8..40).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, format!("novacron-join.0001020304050607.{secret}.{}", "ab".repeat(32)));
        assert_eq!(text.parse::<JoinToken>().unwrap(), token());
        assert_eq!(format!("{:?}", token()), "JoinToken(0001020304050607)");
    }

    #[test]
    fn other_texts_are_refused() {
        let text = token().to_text();
        for bad in ["", "novacron-join", "a.b.c.d", &text[1..], &text[..text.len() - 1]] {
            assert_eq!(bad.parse::<JoinToken>(), Err(InvalidToken), "{bad}");
        }
        assert!(format!("{text}.x").parse::<JoinToken>().is_err());
        assert!(format!(" {text}\n").parse::<JoinToken>().is_ok());
    }

    /// Guards the wire; the value was computed with another implementation of HMAC-SHA-256 (Python's).
    #[test]
    fn golden_proof() {
        let proof = token().prove(&claim(&name()));
        let golden = "111f3b7b5bba7a5895e146dda56527b03dfc1ba8befdac06b6ea13fc09a402d9";
        assert_eq!(hex::encode(&proof.0), golden);
    }

    #[test]
    fn a_proof_is_for_one_claim_only() {
        let (own, other) = (name(), "node-02".parse().unwrap());
        let proof = token().prove(&claim(&own));
        let stored = token().secret_hash();
        assert!(proof.is_valid(&stored, &claim(&own)));
        let hosts = ["h".to_owned()];
        for changed in [
            claim(&other),
            Claim { role: Role::Coordinator, ..claim(&own) },
            Claim { request_der: b"Request", ..claim(&own) },
            Claim { channel_binding: &[8; 32], ..claim(&own) },
            Claim { hosts: &hosts, ..claim(&own) },
        ] {
            assert!(!proof.is_valid(&stored, &changed), "{changed:?}");
        }
    }

    #[test]
    fn the_stored_hash_proves_nothing() {
        let name = name();
        let stored = token().secret_hash();
        let thief = JoinToken { secret: stored.0, ..token() };
        assert!(!thief.prove(&claim(&name)).is_valid(&stored, &claim(&name)));
    }

    #[test]
    fn a_claim_is_decided_in_order() {
        let name = name();
        let claim = claim(&name);
        let proof = token().prove(&claim);
        let admit = |record: TokenRecord| record.admit(&proof, &claim, NOW);
        assert_eq!(admit(record()), Ok(()));
        let named = |name: &str| Some(name.parse().unwrap());
        assert_eq!(admit(TokenRecord { name: named("node-01"), ..record() }), Ok(()));
        let refused = [
            (
                TokenRecord { secret_hash: SecretHash([0; 32]), used: true, ..record() },
                TokenRefusal::Invalid,
            ),
            (TokenRecord { used: true, expires_at: NOW, ..record() }, TokenRefusal::Used),
            (
                TokenRecord { expires_at: NOW, role: Role::Operator, ..record() },
                TokenRefusal::Expired,
            ),
            (TokenRecord { role: Role::Operator, ..record() }, TokenRefusal::OtherRole),
            (TokenRecord { name: named("node-02"), ..record() }, TokenRefusal::OtherName),
        ];
        for (record, refusal) in refused {
            assert_eq!(admit(record), Err(refusal));
        }
    }
}
