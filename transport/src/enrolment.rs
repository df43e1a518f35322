//! From a join token to credentials.
//!
//! ```text
//! applicant                                             coordinator
//!     │ TLS 1.3, ALPN dwcp-join/3: trusts the pinned authority only │
//!     │ ──────── EnrolRequest (token id, proof, CSR, claim) ──────► │ looks the token up, checks the proof
//!     │                                                             │ signs, and keeps the certificate to itself
//!     │                                                             │ spends the token: committed by a quorum
//!     │ ◄──────────── EnrolResponse (chain, authority) ──────────── │
//! ```
//!
//! The token is spent before the certificate leaves: if the answer is lost, the applicant needs a new token,
//! which is a nuisance; two certificates for one token would be a breach.
//!
//! A coordinator is also given the authority's key, because any member must be able to enrol the next one when
//! the first is gone. The key travels inside TLS to a bearer of a coordinator's token, never through the log.

mod client;
mod server;
mod wire;

pub use client::{EnrolError, Enrolled, enrol};
pub use server::{EnrolDecider, EnrolmentServer, Redemption};
pub use wire::{EnrolRequest, EnrolResponse, Enrolment, Refusal, RefusalCode};

use crate::connection::Closed;

/// The keying material of this TLS connection that ties a proof to it (RFC 9266's construction with a label of
/// our own, because both ends are ours).
fn channel_binding(quic: &quinn::Connection) -> Result<[u8; 32], Closed> {
    let mut binding = [0; 32];
    // Fails only for an output longer than TLS can derive; 32 bytes is not.
    match quic.export_keying_material(&mut binding, b"EXPORTER-novacron-enrolment", &[]) {
        Ok(()) => Ok(binding),
        Err(_) => Err(quic.close_reason().map_or(Closed::Here, Closed::from)),
    }
}
