//! What is said about bytes that are not as they were written.

use std::path::PathBuf;

/// A file that cannot be trusted: which one, where in it, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at offset {offset}: {damage}", file.display())]
pub struct Damaged {
    /// The file, as an operator would open it.
    pub file: PathBuf,
    /// Offset of the damaged part from the start of the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub damage: Damage,
}

/// What is wrong with a part of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file ends inside the part.
    #[error("the file ends too early")]
    Short,
    /// The file goes on where it should end.
    #[error("the file is longer than its head says")]
    Long,
    /// The file does not begin as files of this kind do.
    #[error("this is not a file of the expected kind")]
    WrongMagic,
    /// The file was written by a program that this one does not understand.
    #[error("format version {found} is unknown (this program understands {supported})")]
    UnknownVersion {
        /// The version in the file.
        found: u32,
        /// The only version this program reads and writes.
        supported: u32,
    },
    /// The head of a file or record does not match its checksum.
    #[error("the head does not match its checksum")]
    HeadChecksum,
    /// The content does not match its checksum.
    #[error("the content does not match its checksum")]
    ContentChecksum,
    /// The content is not what its hash says.
    #[error("the content does not match its hash")]
    ContentHash,
    /// What is encrypted is not what was encrypted, or was encrypted for another place.
    #[error("what is encrypted there was changed, or belongs elsewhere")]
    Encrypted,
    /// The label does not say what files of this kind say.
    #[error("the label is malformed")]
    Label,
    /// The bytes are as written, but claim to be another part of the store.
    #[error("this belongs to another place: {0}")]
    Misplaced(String),
    /// The bytes are as written, but cannot follow what stands before them.
    #[error("this cannot follow what stands before it: {0}")]
    OutOfOrder(String),
    /// A file that must exist between two others, or at the start, is not there.
    #[error("the file is missing")]
    Missing,
}
