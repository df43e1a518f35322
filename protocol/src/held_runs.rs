//! The hashes of what one end holds at numbered places, in pieces that fit a message.
//!
//! A piece is a list of runs without anything around it:
//!
//! | bytes | field |
//! |---|---|
//! | 1–10 | LEB128: empty places between the run before and this one; before the first, from place 0 |
//! | 1–10 | LEB128: places of the run, more than 0 |
//! | 16 each | their hashes, little-endian, none of them that of zeros |

use crate::pages::varint;

/// Places of one piece: 256 KiB of hashes.
const PIECE_PLACES_MAX: usize = 1 << 14;

/// Bytes of one piece: every place in a run of its own takes two numbers of at most 5 bytes (2^32 places).
pub(crate) const PIECE_BYTES_MAX: usize = PIECE_PLACES_MAX * (16 + 2 * 5);

/// Not a list of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedPiece;

/// All that is not zero of the places from 0 on, in pieces.
pub(crate) fn pieces(places: &[u128]) -> impl Iterator<Item = Vec<u8>> {
    let held = (0..).zip(places).filter(|(_, hash)| **hash != 0);
    let mut held = held.map(|(place, hash)| (place, *hash)).peekable();
    std::iter::from_fn(move || {
        held.peek()?;
        Some(piece(held.by_ref().take(PIECE_PLACES_MAX)))
    })
}

/// Gives what a piece says to `take`, place by place, in order.
pub(crate) fn read<E: From<MalformedPiece>>(
    mut piece: &[u8],
    mut take: impl FnMut(u64, u128) -> Result<(), E>,
) -> Result<(), E> {
    let mut place = 0;
    while !piece.is_empty() {
        let (skipped, count) = take_run(&mut piece)?;
        place = add(place, skipped)?;
        for _ in 0..count {
            take(place, take_hash(&mut piece)?)?;
            place = add(place, 1)?;
        }
    }
    Ok(())
}

/// One piece of these places, which are in order.
fn piece(held: impl Iterator<Item = (u64, u128)>) -> Vec<u8> {
    let mut runs: Vec<(u64, Vec<u128>)> = Vec::new();
    for (place, hash) in held {
        match runs.last_mut() {
            Some((first, run)) if *first + run.len() as u64 == place => run.push(hash),
            _ => runs.push((place, vec![hash])),
        }
    }
    let (mut bytes, mut end) = (Vec::new(), 0);
    for (first, run) in runs {
        varint::put(first - end, &mut bytes);
        varint::put(run.len() as u64, &mut bytes);
        run.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
        end = first + run.len() as u64;
    }
    bytes
}

fn take_run(piece: &mut &[u8]) -> Result<(u64, u64), MalformedPiece> {
    let skipped = varint::take(piece).ok_or(MalformedPiece)?;
    let count = varint::take(piece).filter(|count| *count > 0).ok_or(MalformedPiece)?;
    Ok((skipped, count))
}

fn take_hash(piece: &mut &[u8]) -> Result<u128, MalformedPiece> {
    let (hash, rest) = piece.split_first_chunk().ok_or(MalformedPiece)?;
    *piece = rest;
    Some(u128::from_le_bytes(*hash)).filter(|hash| *hash != 0).ok_or(MalformedPiece)
}

fn add(place: u64, count: u64) -> Result<u64, MalformedPiece> {
    place.checked_add(count).ok_or(MalformedPiece)
}
