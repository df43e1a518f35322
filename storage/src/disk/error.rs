//! Why an operation on the disk failed.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An operation on the disk that failed: what was tried, on which file, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub operation: Operation,
    /// The file or directory, as an operator would open it.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// Whether the file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the disk (or a quota on it) is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the file ended before the bytes that were asked for.
    pub fn is_short(&self) -> bool {
        self.source.kind() == io::ErrorKind::UnexpectedEof
    }

    /// Whether another process uses the same directory.
    pub fn is_in_use(&self) -> bool {
        self.operation == Operation::Lock && self.source.kind() == io::ErrorKind::WouldBlock
    }
}

/// What was tried on the disk; reads as the verb of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Take a directory for this process alone.
    Lock,
    /// Make a directory.
    CreateDirectory,
    /// Read the names in a directory.
    List,
    /// Make a file.
    Create,
    /// Open a file.
    Open,
    /// Read a file or its length.
    Read,
    /// Write at the end of a file.
    Append,
    /// Write over a part of a file.
    Overwrite,
    /// Cut a file.
    Truncate,
    /// Wait until a file is on stable storage.
    Sync,
    /// Rename a file.
    Rename,
    /// Remove a file.
    Remove,
    /// Wait until the names in a directory are on stable storage.
    SyncDirectory,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Operation::Lock => "take exclusively",
            Operation::CreateDirectory => "create directory",
            Operation::List => "list",
            Operation::Create => "create",
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::Append => "append to",
            Operation::Overwrite => "write to",
            Operation::Truncate => "truncate",
            Operation::Sync => "sync",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::SyncDirectory => "sync directory",
        })
    }
}
