//! Coordinators under fire: real processes in network namespaces, clients that never stop, and one fault after another.
//!
//! | module | holds |
//! |---|---|
//! | [`history`] | what clients did and what they were answered |
//! | [`linearizable`] | whether that could have happened one after the other |
//! | [`site`] | the cluster, and what can be done to it from outside |

pub mod history;
pub mod linearizable;
pub mod site;
