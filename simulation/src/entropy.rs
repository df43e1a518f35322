//! The randomness of the operating system, as this program and all that is linked into it see it: a sequence that
//! the seed decides.
//!
//! tokio picks the order in which watchers are woken at random, rand and the hash maps of the standard library seed
//! themselves; all of them ask libc's `getrandom`, and nothing of that can be set from outside without building
//! everything a second time. The standard library looks the function up as a weak symbol, so that a program may
//! put its own in its place; this one does. One process simulates one seed: counters that libraries keep for a
//! process then stand where they stood the last time, too.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dice::mix;

static STATE: AtomicU64 = AtomicU64::new(0);

/// From now on the sequence is that of `seed`.
pub fn seed(seed: u64) {
    STATE.store(mix(seed), Ordering::Relaxed);
}

fn next() -> u64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    mix(STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
}

/// In the place of libc's function, which it is like: fills `length` bytes and answers how many they were.
///
/// # Safety
/// `buffer` is valid for writes of `length` bytes.
#[allow(unsafe_code, reason = "the one way to decide what every library takes for random")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    let mut word = [0; 8];
    for at in 0..length {
        if at % 8 == 0 {
            word = next().to_le_bytes();
        }
        // SAFETY: the caller promises that `length` bytes from `buffer` on may be written.
        unsafe { buffer.add(at).write(word[at % 8]) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
