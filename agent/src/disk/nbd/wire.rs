//! What NBD looks like on a socket: the fixed newstyle handshake and requests with simple replies, as far as two ends
//! that we know need it. All integers are big-endian.
//!
//! Source: the protocol's own document, `doc/proto.md` of the NetworkBlockDevice project.

/// The server's first eight bytes, `NBDMAGIC`.
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Before an option and second in the greeting, `IHAVEOPT`.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Before the reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Before a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Before the reply to a request.
pub const REPLY_MAGIC: u32 = 0x6744_6698;

/// Bytes of an option before its data.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes of a request before its payload.
pub const REQUEST_BYTES: usize = 28;
/// Bytes of a reply before its payload.
pub const REPLY_BYTES: usize = 16;
/// Data of an option, or of the reply to one: a name of 4,096 bytes, and what goes with it.
pub const OPTION_DATA_BYTES_MAX: usize = 8 * 1024;

/// Flags that both sides of the handshake know.
pub mod handshake_flag {
    /// Options have replies.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No 124 zero bytes after `EXPORT_NAME`.
    pub const NO_ZEROES: u16 = 2;
}

/// Options of a client.
pub mod option {
    /// This export, without a reply if it does not exist.
    pub const EXPORT_NAME: u32 = 1;
    /// The client changed its mind.
    pub const ABORT: u32 = 2;
    /// Which exports are there.
    pub const LIST: u32 = 3;
    /// Tell me of this export.
    pub const INFO: u32 = 6;
    /// This export, now.
    pub const GO: u32 = 7;
}

/// Kinds of replies to options.
pub mod option_reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export's name.
    pub const SERVER: u32 = 2;
    /// A fact about an export.
    pub const INFO: u32 = 3;
    /// Set in every refusal.
    pub const ERROR: u32 = 1 << 31;
    /// The option is not known.
    pub const ERROR_UNSUPPORTED: u32 = ERROR | 1;
    /// The option makes no sense.
    pub const ERROR_INVALID: u32 = ERROR | 3;
    /// There is no such export.
    pub const ERROR_UNKNOWN: u32 = ERROR | 6;
}

/// Kinds of facts about an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Least, preferred and greatest length of a request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub mod transmission_flag {
    /// The flags mean something.
    pub const HAS_FLAGS: u16 = 1;
    /// No writing.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH`.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// `FUA` with writes.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `TRIM`.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES`.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
}

/// Error numbers in replies.
pub mod error {
    /// Something failed.
    pub const IO: u32 = 5;
    /// The request makes no sense.
    pub const INVALID: u32 = 22;
    /// Beyond the end of the export.
    pub const NO_SPACE: u32 = 28;
    /// The request is not supported.
    pub const NOT_SUPPORTED: u32 = 95;
}

/// Commands that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Reply with bytes.
    Read,
    /// Bytes follow.
    Write,
    /// The client goes; no reply.
    Disconnect,
    /// What was replied to becomes durable.
    Flush,
    /// The content is of no interest any more.
    Trim,
    /// The content becomes zeros.
    WriteZeroes,
    /// Any other.
    Other(u16),
}

impl Command {
    fn from_wire(number: u16) -> Self {
        match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            6 => Self::WriteZeroes,
            other => Self::Other(other),
        }
    }

    fn to_wire(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::WriteZeroes => 6,
            Self::Other(number) => number,
        }
    }
}

/// A request without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Command flags, such as `FUA`.
    pub flags: u16,
    /// What is wanted.
    pub command: Command,
    /// Comes back in the reply.
    pub cookie: u64,
    /// Where.
    pub offset: u64,
    /// How much.
    pub length: u32,
}

impl Request {
    /// Reads a request; `None` if it does not begin as one.
    pub fn parse(bytes: &[u8; REQUEST_BYTES]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: fields.u16()?,
            command: Command::from_wire(fields.u16()?),
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u32()?,
        })
    }

    /// As it goes over the socket.
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_wire().to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// A reply without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// 0 or one of [`error`].
    pub error: u32,
    /// That of the request.
    pub cookie: u64,
}

impl Reply {
    /// Reads a reply; `None` if it does not begin as one.
    pub fn parse(bytes: &[u8; REPLY_BYTES]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u32()? != REPLY_MAGIC {
            return None;
        }
        Some(Self { error: fields.u32()?, cookie: fields.u64()? })
    }

    /// As it goes over the socket.
    pub fn encode(&self) -> [u8; REPLY_BYTES] {
        let mut bytes = [0; REPLY_BYTES];
        bytes[..4].copy_from_slice(&REPLY_MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.error.to_be_bytes());
        bytes[8..].copy_from_slice(&self.cookie.to_be_bytes());
        bytes
    }
}

/// An option's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHeader {
    /// One of [`option`], or any other.
    pub option: u32,
    /// Bytes of data that follow.
    pub data_bytes: u32,
}

impl OptionHeader {
    /// Reads a header; `None` if it does not begin as one.
    pub fn parse(bytes: &[u8; OPTION_HEADER_BYTES]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u64()? != OPTION_MAGIC {
            return None;
        }
        Some(Self { option: fields.u32()?, data_bytes: fields.u32()? })
    }
}

/// An option with its data, as it goes over the socket.
pub fn encode_option(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    // Ours are names and a handful of numbers.
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The reply to an option with its data, as it goes over the socket.
pub fn encode_option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Data of `INFO` and `GO`: which export, and what is to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest<'a> {
    /// Name of the export.
    pub name: &'a [u8],
    /// Kinds of [`info`] wanted.
    pub infos: Vec<u16>,
}

impl<'a> ExportRequest<'a> {
    /// Reads the data; `None` if it is not exactly that.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(data);
        let name_bytes = fields.u32()? as usize;
        let name = fields.bytes(name_bytes)?;
        let count = fields.u16()?;
        let infos = (0..count).map(|_| fields.u16()).collect::<Option<Vec<_>>>()?;
        fields.0.is_empty().then_some(Self { name, infos })
    }

    /// As it goes over the socket.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.name.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(self.name);
        bytes.extend_from_slice(&(self.infos.len() as u16).to_be_bytes());
        self.infos.iter().for_each(|kind| bytes.extend_from_slice(&kind.to_be_bytes()));
        bytes
    }
}

/// Reads big-endian fields off the front of a slice.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let command = Command::WriteZeroes;
        let request =
            Request { flags: 1, command, cookie: 0x0102, offset: 0x1_0000, length: 0x2_0000 };
        let bytes = b"\x25\x60\x95\x13\0\x01\0\x06\0\0\0\0\0\0\x01\x02\0\0\0\0\0\x01\0\0\0\x02\0\0";
        assert_eq!(&request.encode(), bytes);
        let reply = Reply { error: 5, cookie: 0x0102 };
        assert_eq!(&reply.encode(), b"\x67\x44\x66\x98\0\0\0\x05\0\0\0\0\0\0\x01\x02");
        assert_eq!(encode_option(7, b"x"), b"IHAVEOPT\0\0\0\x07\0\0\0\x01x");
        let refusal = encode_option_reply(8, option_reply::ERROR_UNSUPPORTED, b"");
        assert_eq!(refusal, b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\x80\0\0\x01\0\0\0\0");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed(
            (flags, number, cookie, offset, length) in any::<(u16, u16, u64, u64, u32)>(),
            name in prop::collection::vec(any::<u8>(), 0..20),
            infos in prop::collection::vec(any::<u16>(), 0..5),
        ) {
            let command = Command::from_wire(number);
            let request = Request { flags, command, cookie, offset, length };
            prop_assert_eq!(Request::parse(&request.encode()), Some(request));
            let reply = Reply { error: length, cookie };
            prop_assert_eq!(Reply::parse(&reply.encode()), Some(reply));
            let export = ExportRequest { name: &name, infos };
            let bytes = export.encode();
            prop_assert_eq!(ExportRequest::parse(&bytes), Some(export));
        }

        #[test]
        fn any_bytes_are_an_export_request_or_none(data in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(export) = ExportRequest::parse(&data) {
                prop_assert_eq!(export.encode(), data);
            }
        }
    }
}
