//! What the fuzz targets of stored formats do: they must not panic, and what is accepted must hold
//! together.
//!
//! Plain functions that know no fuzzer. The tests of `novacron-storage` include this file and run
//! them on damaged golden inputs.

use std::io::Read;

use novacron_storage::archive::{self, ContentHash};
use novacron_storage::vault::{EncryptedReader, Vault, VaultKey};

/// An archived file: what is accepted has the content that its hash says.
pub fn archived_file(input: &[u8]) {
    if let Ok((_, hash, content)) = archive::inspect(input) {
        assert_eq!(ContentHash::of(&content), hash);
    }
}

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
