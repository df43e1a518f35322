//! What a host remembers of guest memory, within one budget.
//!
//! | module | what |
//! |---|---|
//! | [`budget`] | how many bytes all of it may take |
//! | [`shadow`] | the pages of one machine as its other end has them |
//! | [`images`] | shadows of machines that left or arrived, for when they move again |
//!
//! A *shadow* is what both ends of a migration know to be the same: at the source each page as it was last sent, at
//! the target each page as it was last applied. While a machine moves it is what differences are taken from. When it has
//! moved, both ends keep it as an *image*: if the machine comes back, only what changed since travels.
//!
//! Nothing here is ever needed: what is not remembered is sent whole.

mod budget;
mod images;
mod shadow;

pub use budget::{CacheBudget, Lease};
pub use images::{Image, ImageOrigin, Images};
pub use shadow::Shadow;
