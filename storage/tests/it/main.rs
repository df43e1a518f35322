//! Tests of the stores through their public interface, on simulated and real disks.

mod log_damage;
mod log_format;
mod log_model;
mod log_power_cut;
mod model;
mod seeds;
