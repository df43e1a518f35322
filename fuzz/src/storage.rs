//! What the fuzz targets of stored formats do: they must not panic, and what is accepted must hold
//! together.
//!
//! Plain functions that know no fuzzer. The tests of `novacron-storage` include this file and run
//! them on damaged golden inputs.

use novacron_storage::archive::{self, ContentHash};

/// An archived file: what is accepted has the content that its hash says.
pub fn archived_file(input: &[u8]) {
    if let Ok((_, hash, content)) = archive::inspect(input) {
        assert_eq!(ContentHash::of(&content), hash);
    }
}
