//! Plans: pure answers to "where" and "whether", from the fleet as it is. Nothing here writes; what a plan
//! says is checked again when the command that carries it is applied.

mod drain;
mod migrate;
mod place;
pub mod route;

pub use drain::{Rooms, Standing};
pub use migrate::validate;
pub use place::{NodeMisfit, place, reasons};
