//! What end-to-end tests share.

pub mod dev_cluster;
