//! A run of blocks to a record.

use super::record::{
    DATA_RECORD_BYTES_MAX, RECORD_VERSION, Record, RecordError, RecordKind, RunContent,
};
use crate::pages::encoder::zstd_level;
use crate::pages::{Compression, compressible};

/// A record cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordEncodeError {
    /// The run is none that a record can speak of.
    #[error("run of blocks cannot be a record")]
    Run(#[from] RecordError),
    /// zstd refused; it does so only when it gets no memory.
    #[error("zstd compressor")]
    Compressor(#[source] std::io::Error),
}

/// Writes records; one for each thread, it owns a zstd context of about 1 MiB and as much scratch.
pub struct RecordEncoder {
    compression: Compression,
    compressor: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for RecordEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecordEncoder").finish_non_exhaustive()
    }
}

impl RecordEncoder {
    /// An encoder that compresses like this.
    ///
    /// # Errors
    /// [`RecordEncodeError::Compressor`].
    pub fn new(compression: Compression) -> Result<Self, RecordEncodeError> {
        let compressor = zstd::bulk::Compressor::new(zstd_level(compression))
            .map_err(RecordEncodeError::Compressor)?;
        let scratch = Vec::with_capacity(zstd::zstd_safe::compress_bound(DATA_RECORD_BYTES_MAX));
        Ok(Self { compression, compressor, scratch })
    }

    /// Compresses like this from now on.
    ///
    /// # Errors
    /// [`RecordEncodeError::Compressor`].
    pub fn set_compression(&mut self, compression: Compression) -> Result<(), RecordEncodeError> {
        if self.compression == compression {
            return Ok(());
        }
        self.compression = compression;
        let set = self.compressor.set_compression_level(zstd_level(compression));
        set.map_err(RecordEncodeError::Compressor)
    }

    /// Appends one record to `output`.
    pub fn encode(
        &mut self,
        record: &Record<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), RecordEncodeError> {
        record.check()?;
        match record.content {
            RunContent::Zero(bytes) => put_header(RecordKind::Zero, bytes, record.offset, output),
            RunContent::Data(data) => {
                let kind = self.compress(data)?;
                let payload = if kind == RecordKind::Zstd { &self.scratch[..] } else { data };
                // At most DATA_RECORD_BYTES_MAX = 2^20.
                put_header(kind, data.len() as u32, record.offset, output);
                output.extend_from_slice(payload);
            }
        }
        Ok(())
    }

    /// Fills the scratch buffer if that pays: at least 3 % less than raw, as for pages.
    fn compress(&mut self, data: &[u8]) -> Result<RecordKind, RecordEncodeError> {
        if self.compression == Compression::Off || !compressible::any_worth_trying(data) {
            return Ok(RecordKind::Raw);
        }
        let compressed_bytes = self
            .compressor
            .compress_to_buffer(data, &mut self.scratch)
            .map_err(RecordEncodeError::Compressor)?;
        let pays = compressed_bytes < data.len() - data.len() / 32;
        Ok(if pays { RecordKind::Zstd } else { RecordKind::Raw })
    }
}

fn put_header(kind: RecordKind, disk_bytes: u32, offset: u64, output: &mut Vec<u8>) {
    output.extend_from_slice(&[RECORD_VERSION, kind.to_wire(), 0, 0]);
    output.extend_from_slice(&disk_bytes.to_le_bytes());
    output.extend_from_slice(&offset.to_le_bytes());
}
