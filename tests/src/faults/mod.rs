//! Coordinators under fire: real processes in network namespaces, clients that never stop, and one fault after another.
//!
//! | module | holds |
//! |---|---|
//! | [`history`] | what clients did and what they were answered |
//! | [`linearizable`] | whether that could have happened one after the other |

pub mod history;
pub mod linearizable;
