//! What one entry of the log carries: the commands that waited together, encoded once where they were proposed.
//!
//! openraft 0.9 waits for the disk once for each entry, so what waits shares one. And an entry is written, sent to
//! each member and written again there: as bytes it is encoded once and decoded once by each state machine.
//!
//! The bytes are the commands one after the other, each as `length: u32 LE` and then the command with its own version.

use bytes::{BufMut, Bytes, BytesMut};
use novacron_protocol::wire::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

use crate::state::Command;
use crate::state::command::COMMAND_BYTES_MAX;

/// Bytes of one proposal, but for a single command that is longer by its own head: so that an entry always fits a
/// message between members, and is written in one batch.
pub const PROPOSAL_BYTES_MAX: usize = COMMAND_BYTES_MAX;

/// Bytes before each command.
const LENGTH_BYTES: usize = 4;

/// A command as it goes into a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedCommand(Bytes);

/// The commands of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(Bytes);

/// Why a proposal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// A command is of another version or damaged.
    #[error("a command of the entry cannot be read")]
    Command(#[from] CodecError),
    /// The bytes end inside a command.
    #[error("the entry ends inside a command")]
    Cut,
}

impl EncodedCommand {
    /// Encodes.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] beyond [`COMMAND_BYTES_MAX`].
    pub fn new(command: &Command) -> Result<Self, CodecError> {
        codec::encode(command).map(|bytes| Self(Bytes::from(bytes)))
    }

    /// Bytes that it takes in a proposal.
    pub fn length_bytes(&self) -> usize {
        LENGTH_BYTES + self.0.len()
    }
}

impl Proposal {
    /// Of these commands, in order.
    pub fn new<'a>(commands: impl IntoIterator<Item = &'a EncodedCommand>) -> Self {
        let mut bytes = BytesMut::new();
        for EncodedCommand(command) in commands {
            // A command has at most COMMAND_BYTES_MAX and its version.
            bytes.put_u32_le(command.len() as u32);
            bytes.put_slice(command);
        }
        Self(bytes.freeze())
    }

    #[cfg(test)]
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// Bytes of all commands.
    pub fn length_bytes(&self) -> usize {
        self.0.len()
    }

    /// The commands, in order.
    ///
    /// # Errors
    /// [`ProposalError`]: written by a build that knows more than this one, or damaged, which the log and the links
    /// would have found.
    pub fn commands(&self) -> Result<Vec<Command>, ProposalError> {
        let mut rest = &self.0[..];
        let mut commands = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_le_bytes(*length) as usize;
            let (command, after) = after.split_at_checked(length).ok_or(ProposalError::Cut)?;
            commands.push(codec::decode(command)?);
            rest = after;
        }
        if rest.is_empty() { Ok(commands) } else { Err(ProposalError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::{RequestId, VmId};
    use novacron_protocol::time::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::state::Body;

    fn command(id: u128) -> Command {
        let body = Body::StartVm { vm: VmId(Uuid::from_u128(id)) };
        Command::of_cluster(RequestId(Uuid::from_u128(id)), Timestamp::from_unix_ms(1), body)
    }

    #[test]
    fn commands_come_out_as_they_went_in() {
        for count in 0..4 {
            let commands: Vec<Command> = (0..count).map(command).collect();
            let encoded: Vec<_> =
                commands.iter().map(|command| EncodedCommand::new(command).unwrap()).collect();
            let proposal = Proposal::new(&encoded);
            let bytes: usize = encoded.iter().map(EncodedCommand::length_bytes).sum();
            assert_eq!(proposal.0.len(), bytes);
            assert_eq!(proposal.commands().unwrap(), commands);
        }
    }

    #[test]
    fn a_cut_proposal_is_refused_wherever_it_is_cut() {
        let encoded = [EncodedCommand::new(&command(1)).unwrap()];
        let whole = Proposal::new(&encoded).0;
        for length in 1..whole.len() {
            let cut = Proposal(whole.slice(..length)).commands();
            assert!(matches!(cut, Err(ProposalError::Cut)), "cut at {length}: {cut:?}");
        }
    }
}
