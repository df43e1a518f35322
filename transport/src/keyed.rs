//! HMAC-SHA256 (RFC 2104) with keys of 32 bytes.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Begins a code under `key`.
pub(crate) fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a short key to its block with zeros; doing it here leaves no error to handle.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as Mac>::new(&block.into())
}
