//! Waiting for a descriptor.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the reactor, so that one can wait until it is readable.
///
/// # Errors
/// What the system says.
pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the reactor needs the descriptor to stay open and the same until it is deregistered. An `OwnedFd` is
    // closed by its drop only, which the `AsyncFd` that owns it does after deregistering; nobody else can take it out
    // without deregistering it.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}
