//! What the fuzz target of encrypted bytes does: it must not panic, and nothing is a piece and a stream at once.
//!
//! A plain function that knows no fuzzer. The tests of `novacron-vault` include this file and run it on damaged
//! golden inputs.

use std::io::Read;

use novacron_vault::{EncryptedReader, Vault, VaultKey};

/// Encrypted bytes, as a piece and as a stream. Whoever has the key can make others than ours, and
/// they open, too.
pub fn encrypted(input: &[u8]) {
    let Ok(vault) = Vault::new("golden", vec![VaultKey::from_bytes([7; 32])]) else { return };
    let opened = vault.open(b"context", input).is_ok();
    let mut content = Vec::new();
    let read = EncryptedReader::new(input, &vault, b"context")
        .and_then(|mut reader| reader.read_to_end(&mut content));
    assert!(!opened || read.is_err(), "one or the other");
    assert!(content.len() < input.len().max(1));
}
