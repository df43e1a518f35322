//! Placeholder of `crate::disk` until it lands; not to be committed.
#![allow(missing_docs, clippy::unused_async)]
use crate::qmp::Qmp;
use novacron_protocol::session::message::DiskOffer;
use novacron_transport::{Connection, FramedRecv};
use quinn::RecvStream;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
#[derive(Debug, thiserror::Error)]
#[error("disks cannot move in this build")]
pub struct DiskError;
#[derive(Debug, Default)]
pub struct DiskCounters;
impl DiskCounters {
    pub fn bytes_disk(&self) -> u64 {
        0
    }
    pub fn bytes_wire(&self) -> u64 {
        0
    }
    pub fn bytes_total(&self) -> u64 {
        0
    }
}
#[derive(Debug)]
pub struct OutgoingDisks;
impl OutgoingDisks {
    pub async fn start(
        _: &Qmp,
        _: &Path,
        _: &[DiskOffer],
        _: u64,
        _: &Connection,
    ) -> Result<Self, DiskError> {
        Err(DiskError)
    }
    pub async fn wait_ready(&self) -> Result<(), DiskError> {
        Err(DiskError)
    }
    pub async fn complete(&self) -> Result<Vec<[u8; 16]>, DiskError> {
        Err(DiskError)
    }
    pub async fn abandon(&self) {}
    pub fn counters(&self) -> Arc<DiskCounters> {
        Arc::default()
    }
}
#[derive(Debug)]
pub enum DiskEvent {
    Failed { reason: String },
}
#[derive(Debug)]
pub struct IncomingDisks;
impl IncomingDisks {
    pub async fn begin(
        _: &Qmp,
        _: &Path,
        _: &[DiskOffer],
        _: u64,
    ) -> Result<(Self, mpsc::Receiver<DiskEvent>), DiskError> {
        Err(DiskError)
    }
    pub fn add_disk(&mut self, _: u16, _: FramedRecv<RecvStream>) -> Result<(), DiskError> {
        Err(DiskError)
    }
    pub async fn finish(&mut self) -> Result<Vec<[u8; 16]>, DiskError> {
        Err(DiskError)
    }
    pub fn records_applied(&self) -> u64 {
        0
    }
}
