//! Pages that travelled once and need not travel again, for whichever machine.
//!
//! | module | where | what |
//! |---|---|---|
//! | [`shelf`] | target | pages of one circle, by number |
//! | [`shelves`] | target | all shelves of the agent, within a budget |
//! | [`catalogue`] | source | which content has which number on one shelf |
//! | [`catalogues`] | source | all catalogues of the agent, within a limit |
//! | [`voucher`] | source | how far the target is with a lane, and so which pages are on the shelf |
//! | [`strong_hash`] | source | what a content is known by |
//!
//! The target of a migration keeps the pages that it receives whole on a *shelf*, under numbers that the source gives
//! them; the source keeps a *catalogue* of which content has which number. So of machines that were made from one image
//! and move from one host to another, together or one after the other, only the first one's pages travel.
//!
//! There is one shelf at a time for each [`Circle`], and one catalogue for it. A shelf is append-only and has an
//! identity, which the target tells when it takes an offer: nothing on it changes or goes for as long as a migration
//! uses it. When it is full the next migration gets another one. No number of a shelf is given twice, whatever the
//! source has forgotten of what is on it.
//!
//! A page is referred to only once the target has said that it processed the batch with it, or behind that batch on the
//! same lane. So a reference never waits and never points to nothing, whatever becomes of the migration that brought
//! the page. Content never leaves its tenant: the target chooses the shelf by the tenant that the *coordinator* announced.

pub mod catalogue;
pub mod catalogues;
pub mod shelf;
pub mod shelves;
pub mod strong_hash;
pub mod voucher;

pub use catalogue::{Catalogue, Find};
pub use catalogues::Catalogues;
pub use shelf::{Shelf, ShelfError};
pub use shelves::Shelves;
pub use strong_hash::StrongHash;
pub use voucher::Voucher;

use novacron_protocol::ids::NodeName;

/// Between whom pages are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// The host that machines come from.
    pub source: NodeName,
    /// Which run of its [`Catalogues`]: where another begins, as in an agent that was restarted, it is not known any more
    /// which numbers were given.
    pub source_run: u64,
    /// Whose machines they are.
    pub tenant: String,
}
