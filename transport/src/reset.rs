//! Connections that a restart has forgotten: stateless resets (RFC 9000 §10.3).
//!
//! A process that was killed says nothing, so its peers would wait for the idle timeout. If the next process of the same
//! member, at the same address, knows the old connections' identifiers for its own and can compute their tokens again, the
//! first packet that comes for one of them tells the peer that it is gone. So both keys follow from the member's private
//! key, and differ from address to address: no two sockets that run at once share them.

use std::net::SocketAddr;
use std::sync::Arc;

use hmac::Mac;
use quinn::EndpointConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::HashedConnectionIdGenerator;
use sha2::{Digest, Sha256};

use crate::credentials::Credentials;
use crate::keyed;

const TOKENS: &[u8] = b"novacron stateless reset tokens v1 of ";
const IDENTIFIERS: &[u8] = b"novacron connection identifiers v1 of ";

/// The configuration of a socket that is dialled at `address`.
pub(crate) fn endpoint_config(credentials: &Credentials, address: SocketAddr) -> EndpointConfig {
    let derive = |purpose| derive(credentials, purpose, address);
    let [a, b, c, d, e, f, g, h, ..] = derive(IDENTIFIERS);
    let identifiers = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut config = EndpointConfig::new(Arc::new(TokenKey(derive(TOKENS))));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(identifiers)));
    config
}

fn derive(credentials: &Credentials, purpose: &[u8], address: SocketAddr) -> [u8; 32] {
    let secret = Sha256::digest(credentials.key().secret_der());
    let mut hmac = keyed::hmac(&secret.into());
    hmac.update(purpose);
    hmac.update(address.to_string().as_bytes());
    hmac.finalize().into_bytes().into()
}

struct TokenKey([u8; 32]);

impl HmacKey for TokenKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out
            .copy_from_slice(&keyed::hmac(&self.0).chain_update(data).finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        self.0.len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let hmac = keyed::hmac(&self.0).chain_update(data);
        hmac.verify_slice(signature).map_err(|_| CryptoError)
    }
}
