//! Tests of the stores through their public interface, on simulated and real disks.

// The setting for tests knows only functions marked as such, not what they share.
#![allow(clippy::unwrap_used)]

mod archive;
mod cipher;
mod encrypted;
mod formats;
mod log_damage;
mod log_model;
mod log_power_cut;
mod model;
mod mutation;
mod records;
mod seeds;
mod snapshots;
mod tables;
mod volatile;
