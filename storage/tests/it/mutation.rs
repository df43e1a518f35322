//! The fuzz bodies on damaged golden inputs: what CI does without the nightly compiler.

use proptest::prelude::*;

use crate::seeds::{for_each_seed, value_of};

/// The fuzz targets' bodies, so that they run without the nightly compiler as well.
#[path = "../../../fuzz/src/storage.rs"]
mod bodies;

/// Runs `body` on the input and on damaged copies of it.
fn damage(input: &[u8], body: fn(&[u8])) {
    body(input);
    let damages = proptest::collection::vec((0..=input.len(), any::<u8>(), 0u8..5), 1..8);
    for_each_seed(3000, |seed| {
        let mut copy = input.to_vec();
        for (at, value, kind) in value_of(&damages, seed) {
            damage_once(&mut copy, at, value, kind);
        }
        body(&copy);
    });
}

fn damage_once(bytes: &mut Vec<u8>, at: usize, value: u8, kind: u8) {
    let at = at.min(bytes.len());
    match kind {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, value),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
        _ if at < bytes.len() => bytes[at] = value,
        _ => bytes.push(value),
    }
}

#[test]
fn archived_file() {
    damage(include_bytes!("golden/version-1.archive"), bodies::archived_file);
}
