//! Encryption: what was sealed comes back, or an error says why not.
#![allow(clippy::unwrap_used, reason = "a test")]

/// The fuzz targets' bodies, so that they run without the nightly compiler as well.
#[path = "../../fuzz/src/vault.rs"]
mod bodies;

use std::io::{Read, Write};

use novacron_vault::{
    CHUNK_BYTES, EncryptedReader, EncryptedWriter, KeyFileError, PIECE_BYTES_MAX,
    PIECE_OVERHEAD_BYTES, Salt, TAG_BYTES, Vault, VaultError, VaultKey,
};
use proptest::prelude::*;

const GOLDEN_PIECE: &[u8] = include_bytes!("golden/version-1.piece");
const GOLDEN_STREAM: &[u8] = include_bytes!("golden/version-1.stream");

fn key(number: u8) -> VaultKey {
    VaultKey::from_bytes([number; 32])
}

fn vault(numbers: &[u8]) -> Vault {
    Vault::new("test", numbers.iter().map(|number| key(*number)).collect()).unwrap()
}

fn salt(number: u8) -> Salt {
    Salt::from_bytes([number; 32])
}

fn encrypt(vault: &Vault, content: &[u8], context: &[u8]) -> Vec<u8> {
    let mut writer = EncryptedWriter::new(Vec::new(), vault, salt(9), context).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn decrypt(vault: &Vault, bytes: &[u8], context: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut content = Vec::new();
    let read = EncryptedReader::new(bytes, vault, context)
        .and_then(|mut reader| reader.read_to_end(&mut content));
    match read {
        Ok(_) => Ok(content),
        Err(error) => Err(VaultError::inside(&error).cloned().expect("nothing else can fail")),
    }
}

#[test]
fn marks_are_those_of_equal_contents_under_one_key() {
    let vault = |key| Vault::new("a test", vec![VaultKey::from_bytes([key; 32])]).unwrap();
    let mark = vault(7).mark(b"context", b"content");
    assert_eq!(vault(7).mark(b"context", b"content"), mark);
    assert_ne!(vault(8).mark(b"context", b"content"), mark);
    assert_ne!(vault(7).mark(b"context", b"other"), mark);
    assert_ne!(vault(7).mark(b"contextc", b"ontent"), mark, "their border counts");
    let other = Vault::new("another", vec![VaultKey::from_bytes([7; 32])]).unwrap();
    assert_ne!(other.mark(b"context", b"content"), mark);
}

#[test]
fn a_piece_comes_back_for_its_own_purpose_and_context_only() {
    let vault = vault(&[1]);
    let sealed = vault.seal(salt(1), b"secret web", b"swordfish").unwrap();
    assert_eq!(sealed.len(), 9 + PIECE_OVERHEAD_BYTES);
    assert!(!sealed.windows(5).any(|part| part == b"sword"));
    assert_eq!(vault.open(b"secret web", &sealed).unwrap(), b"swordfish");
    let changed = Err(VaultError::Changed { offset: 0 });
    assert_eq!(vault.open(b"secret db", &sealed), changed);
    let other = Vault::new("another", vec![key(1)]).unwrap();
    assert_eq!(other.open(b"secret web", &sealed), changed);
    assert_ne!(vault.seal(salt(2), b"secret web", b"swordfish").unwrap(), sealed);
    assert_ne!(Salt::draw().unwrap(), Salt::draw().unwrap());
    let empty = vault.seal(salt(3), b"", b"").unwrap();
    assert_eq!(vault.open(b"", &empty).unwrap(), b"");
}

#[test]
fn several_keys_open_and_the_first_seals() {
    let old = vault(&[1]).seal(salt(1), b"", b"old").unwrap();
    let both = vault(&[2, 1]);
    assert_eq!(both.open(b"", &old).unwrap(), b"old");
    let new = both.seal(salt(2), b"", b"new").unwrap();
    assert_eq!((Vault::key_of(&old), Vault::key_of(&new)), (Some(key(1).id()), Some(key(2).id())));
    let refused = vault(&[1]).open(b"", &new);
    assert_eq!(
        refused,
        Err(VaultError::OtherKey { needed: key(2).id(), known: vec![key(1).id()] })
    );
    assert_eq!(Vault::new("test", Vec::new()).unwrap_err(), VaultError::Keys { count: 0 });
    assert!(Vault::new("test", vec![key(1); 17]).is_err());
}

#[test]
fn whatever_is_changed_or_cut_is_noticed() {
    let vault = vault(&[1]);
    let sealed = vault.seal(salt(1), b"context", b"a content").unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(vault.open(b"context", &flipped).is_err(), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert_eq!(vault.open(b"context", &sealed[..length]), Err(VaultError::CutOff), "{length}");
    }
    let longer = [&sealed[..], b"x"].concat();
    assert_eq!(vault.open(b"context", &longer), Err(VaultError::TooLong));
    assert_eq!(vault.open(b"context", b"something else"), Err(VaultError::NotSealed));
    let mut newer = sealed.clone();
    newer[8] = 2;
    assert_eq!(vault.open(b"context", &newer), Err(VaultError::UnknownVersion { found: 2 }));
    let large = vec![0; PIECE_BYTES_MAX + 1];
    assert_eq!(vault.seal(salt(1), b"", &large), Err(VaultError::TooLarge));
    vault.seal(salt(1), b"", &large[1..]).unwrap();
}

#[test]
fn streams_of_any_length_come_back() {
    let vault = vault(&[1]);
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
        let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let bytes = encrypt(&vault, &content, b"backup");
        let chunks = length.div_ceil(CHUNK_BYTES).max(1);
        assert_eq!(bytes.len(), 52 + length + chunks * 20, "{length}");
        assert!(decrypt(&vault, &bytes, b"backup").unwrap() == content, "{length}");
    }
    let bytes = encrypt(&vault, b"content", b"backup");
    assert_eq!(decrypt(&vault, &bytes, b"other"), Err(VaultError::Changed { offset: 52 }));
    let piece = vault.seal(salt(1), b"backup", b"content").unwrap();
    assert_eq!(decrypt(&vault, &piece, b"backup"), Err(VaultError::NotSealed));
}

#[test]
fn a_stream_says_what_is_wrong_with_it() {
    let two = vault(&[1]);
    let content = vec![7; 2 * CHUNK_BYTES + 100];
    let bytes = encrypt(&two, &content, b"");
    let chunk = 4 + CHUNK_BYTES + 16;
    let at = |number: usize| 52 + number * chunk;
    let wrong = |bytes: &[u8]| decrypt(&two, bytes, b"").unwrap_err();

    let other = VaultError::OtherKey { needed: key(1).id(), known: vec![key(2).id()] };
    assert_eq!(decrypt(&vault(&[2]), &bytes, b""), Err(other));
    for length in [0, 30, 51, 52, 55, at(1) - 1, at(1), at(2), bytes.len() - 1] {
        assert_eq!(wrong(&bytes[..length]), VaultError::CutOff, "{length}");
    }
    assert_eq!(wrong(&[&bytes[..], b"x"].concat()), VaultError::TooLong);
    for offset in [at(0) + 4, at(1) - 1, at(1) + 70, at(2) + 3, at(2) + 50, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 0x10;
        let number = (offset - 52) / chunk;
        assert_eq!(wrong(&flipped), VaultError::Changed { offset: at(number) as u64 });
    }
    // The first two chunks swapped; one left out; the second made the last.
    let swapped = [&bytes[..52], &bytes[at(1)..at(2)], &bytes[at(0)..at(1)], &bytes[at(2)..]];
    assert_eq!(wrong(&swapped.concat()), VaultError::Changed { offset: 52 });
    let missing = [&bytes[..at(1)], &bytes[at(2)..]].concat();
    assert_eq!(wrong(&missing), VaultError::Changed { offset: at(1) as u64 });
    let mut shorter = bytes[..at(2)].to_vec();
    shorter[at(1) + 3] |= 0x80;
    assert_eq!(wrong(&shorter), VaultError::Changed { offset: at(1) as u64 });
}

#[test]
fn a_key_is_kept_in_a_file_that_is_never_replaced() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    key(1).save_new(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(VaultKey::load(&path).unwrap(), key(1));
    assert!(matches!(key(2).save_new(&path), Err(KeyFileError::Make { .. })));
    std::fs::write(&path, "password").unwrap();
    assert!(matches!(VaultKey::load(&path), Err(KeyFileError::NoKey { .. })));
    let nowhere = VaultKey::load(&directory.path().join("nowhere"));
    assert!(matches!(nowhere, Err(KeyFileError::Read { .. })));
}

#[test]
fn numbered_pieces_open_in_their_own_place_only() {
    let sealing = vault(&[2, 1]);
    let key = sealing.numbered(sealing.ids()[0], salt(1), b"segment 7").unwrap();
    let seal = |number: u64, content: &[u8]| {
        let mut bytes = content.to_vec();
        let tag = key.seal(number, b"head", &mut bytes).unwrap();
        [&bytes[..], &tag].concat()
    };
    let open = |vault: &Vault, salt, context: &[u8], number, head: &[u8], sealed: &[u8]| {
        let key = vault.numbered(vault.ids()[0], salt, context).unwrap();
        let mut bytes = sealed.to_vec();
        key.open(number, head, &mut bytes)?;
        bytes.truncate(sealed.len() - TAG_BYTES);
        Some(bytes)
    };
    let sealed = seal(5, b"swordfish");
    assert_eq!(sealed.len(), 9 + TAG_BYTES);
    let context = &b"segment 7"[..];
    let opened = open(&sealing, salt(1), context, 5, b"head", &sealed);
    assert_eq!(opened.unwrap(), b"swordfish");
    assert_eq!(open(&sealing, salt(1), context, 9, b"head", &seal(9, b"")).unwrap(), b"");
    assert_eq!(open(&sealing, salt(1), context, 6, b"head", &sealed), None, "another number");
    assert_eq!(open(&sealing, salt(1), context, 5, b"tail", &sealed), None, "another head");
    assert_eq!(open(&sealing, salt(2), context, 5, b"head", &sealed), None, "another salt");
    assert_eq!(open(&sealing, salt(1), b"segment 8", 5, b"head", &sealed), None);
    assert_eq!(open(&vault(&[3]), salt(1), context, 5, b"head", &sealed), None, "another key");
    let other = Vault::new("another", vec![self::key(2)]).unwrap();
    assert_eq!(open(&other, salt(1), context, 5, b"head", &sealed), None, "another purpose");
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&sealing, salt(1), context, 5, b"head", &flipped), None, "bit {bit}");
    }
    assert_eq!(open(&sealing, salt(1), context, 5, b"head", &sealed[..TAG_BYTES - 1]), None);
    // Equal contents look different at each number, and for each salt.
    let elsewhere = sealing.numbered(sealing.ids()[0], salt(2), context).unwrap();
    let mut bytes = b"swordfish".to_vec();
    elsewhere.seal(5, b"head", &mut bytes).unwrap();
    let all: std::collections::BTreeSet<Vec<u8>> = (0..1000)
        .map(|number| seal(number, b"swordfish")[..9].to_vec())
        .chain([bytes, b"swordfish".to_vec()])
        .collect();
    assert_eq!(all.len(), 1002);
    let missing = vault(&[1]).numbered(self::key(2).id(), salt(1), b"").unwrap_err();
    let (needed, known) = (self::key(2).id(), vec![self::key(1).id()]);
    assert_eq!(missing, VaultError::OtherKey { needed, known });
    // What they look like is a format.
    assert_eq!(hex(&seal(1, b"content")), NUMBERED);
}

const NUMBERED: &str = "4d7cab484e51173eb8990134df5985696bc2f62c471edd";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_file_may_hold_several_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        VaultKey::load_all(&path)
    };
    let (one, two) = (key(1).to_text(), key(2).to_text());
    assert_eq!(load(&format!("{one}\n")).unwrap(), [key(1)]);
    assert_eq!(load(&format!("{two}\n\n  {one}")).unwrap(), [key(2), key(1)]);
    for text in ["", "\n"] {
        assert!(matches!(load(text), Err(KeyFileError::NoKey { .. })), "{text}");
    }
    for (text, wrong) in [("password", 1), (&format!("{one}\n\npassword\n"), 3)] {
        let refused = load(text);
        assert!(matches!(refused, Err(KeyFileError::Line { line, .. }) if line == wrong), "{text}");
    }
}

proptest! {
    #[test]
    fn a_stream_is_the_same_in_any_pieces(
        pieces in proptest::collection::vec(0usize..40_000, 0..12),
        read_bytes in 1usize..100_000,
    ) {
        let vault = vault(&[1]);
        let mut writer = EncryptedWriter::new(Vec::new(), &vault, salt(9), b"").unwrap();
        let mut content = Vec::new();
        for (number, length) in pieces.iter().enumerate() {
            let piece = vec![number as u8; *length];
            writer.write_all(&piece).unwrap();
            content.extend(piece);
        }
        let bytes = writer.finish().unwrap();
        prop_assert!(bytes == encrypt(&vault, &content, b""));
        let mut reader = EncryptedReader::new(&bytes[..], &vault, b"").unwrap();
        let mut found = Vec::new();
        let mut buffer = vec![0; read_bytes];
        loop {
            let read = reader.read(&mut buffer).unwrap();
            if read == 0 { break }
            found.extend_from_slice(&buffer[..read]);
        }
        prop_assert!(found == content);
    }
}

#[test]
fn pieces_and_streams_are_encrypted_as_ever_and_old_ones_are_read() {
    let vault = Vault::new("golden", vec![VaultKey::from_bytes([7; 32])]).unwrap();
    let salt = Salt::from_bytes([9; 32]);
    let piece = vault.seal(salt, b"context", b"content").unwrap();
    assert_eq!(piece, GOLDEN_PIECE);
    assert_eq!(vault.open(b"context", GOLDEN_PIECE).unwrap(), b"content");
    let mut writer = EncryptedWriter::new(Vec::new(), &vault, salt, b"context").unwrap();
    writer.write_all(b"content").unwrap();
    assert_eq!(writer.finish().unwrap(), GOLDEN_STREAM);
    let mut content = Vec::new();
    let mut reader = EncryptedReader::new(GOLDEN_STREAM, &vault, b"context").unwrap();
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(content, b"content");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_are_opened_or_refused(
        damages in proptest::collection::vec((0usize..200, any::<u8>(), 0u8..4), 1..6),
        is_piece in any::<bool>(),
    ) {
        let mut bytes = if is_piece { GOLDEN_PIECE } else { GOLDEN_STREAM }.to_vec();
        for (at, value, kind) in damages {
            let at = at.min(bytes.len());
            match kind {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, value),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] ^= value,
                _ => bytes.push(value),
            }
        }
        bodies::encrypted(&bytes);
    }
}
