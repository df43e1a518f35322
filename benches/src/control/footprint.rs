//! What the files below a directory take of the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Bytes of a block, whatever the file system's own are (`stat(2)`).
const BLOCK_BYTES: u64 = 512;

/// Bytes that are taken by everything in each of the directories of a directory, by their names, in order.
pub fn parts(directory: &Path) -> Result<Vec<(String, u64)>> {
    let mut parts = Vec::new();
    for entry in read(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        parts.push((name, taken_bytes(&entry.path())?));
    }
    parts.sort();
    Ok(parts)
}

fn taken_bytes(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    let mut bytes = metadata.blocks() * BLOCK_BYTES;
    if metadata.is_dir() {
        for entry in read(path)? {
            bytes += taken_bytes(&entry?.path())?;
        }
    }
    Ok(bytes)
}

fn read(directory: &Path) -> Result<fs::ReadDir> {
    fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_in_the_part_that_they_are_in() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("log/segments");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir(directory.path().join("archive")).unwrap();
        let content = vec![1; 1 << 20];
        fs::write(inner.join("1"), &content).unwrap();
        let parts = parts(directory.path()).unwrap();
        let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["archive", "log"]);
        assert!(parts[1].1 >= 1 << 20 && parts[0].1 < 1 << 20, "{parts:?}");
    }
}
