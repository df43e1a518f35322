//! Small files written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// PEM files here hold a certificate or a key; more is not ours.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Permissions of a file that holds a private key.
pub(crate) const SECRET: u32 = 0o600;
/// Permissions of a file that anyone may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Replaces `path` so that a reader, and a machine that lost power, sees the old content or the new one.
/// Order: new file with its final permissions, content, fsync, rename, fsync of the directory.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    replace(path, content, mode).map_err(|source| FileError { path: path.to_owned(), source })
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("pem.new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The content of a small file.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    let read = || {
        let mut content = String::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut content)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "over 64 KiB"));
        }
        Ok(content)
    };
    read().map_err(|source| FileError { path: path.to_owned(), source })
}

/// Makes a directory that only its owner can enter, and its parents.
pub(crate) fn make_directory(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_replaced_whole_and_stays_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write(&path, b"one", SECRET).unwrap();
        write(&path, b"two", SECRET).unwrap();
        assert_eq!(read(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().source.kind(), io::ErrorKind::FileTooLarge);
    }
}
