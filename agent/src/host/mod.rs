//! What this host has, can run, and may lend.

mod hypervisor;

pub use hypervisor::{Hypervisor, QemuProblem, Unfit, look_for_qemu};
