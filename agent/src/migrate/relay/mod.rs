//! Data streams that outlive their connections.
//!
//! ```text
//! source   thread ─► Outlet: numbers, keeps ─► a task per connection ─► stream ═QUIC═►
//! target   ►═QUIC═ stream ─► Inlet: takes, counts ─► thread
//!          control: “processed so many of each” every few milliseconds, “taken so many of each” after a cut
//! ```
//!
//! When a connection is lost the thread at either end notices nothing but that it waits: an outlet takes frames until
//! what it keeps is enough, which then stops QEMU; an inlet has none to give. On the next connection each stream goes on
//! behind the last frame that was taken. A frame counts as processed when the next one is asked for.

mod inlet;
mod limit;
mod outlet;

pub use inlet::{Inlet, InletError, Inlets};
pub use limit::Limit;
pub use outlet::{Outlet, OutletError, Outlets};
