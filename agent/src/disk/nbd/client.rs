//! A client that does one thing after the other.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::handshake::HandshakeError;
use super::wire::{
    Command, ExportRequest, Fields, GREETING_MAGIC, OPTION_DATA_BYTES_MAX, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, REPLY_BYTES, Reply, Request, encode_option, handshake_flag, info, option,
    option_reply, transmission_flag,
};

/// Why something could not be done. The connection is of no use after any of them.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// There is no such export, or it is not for us.
    #[error("the NBD server refuses the export: {0}")]
    Refused(String),
    /// The export cannot do what we need.
    #[error("the NBD export cannot be written, flushed or zeroed (flags {flags:#x})")]
    Incapable {
        /// Its transmission flags.
        flags: u16,
    },
    /// The socket failed.
    #[error("the socket of the NBD server failed")]
    Socket(#[from] io::Error),
    /// The reply is none, or to another request.
    #[error("the NBD server's reply makes no sense")]
    Reply,
    /// The server answered with an error.
    #[error("the NBD server failed to {what}")]
    Failed {
        /// What it was to do.
        what: &'static str,
        /// The cause, as the server's system names it.
        #[source]
        source: io::Error,
    },
}

/// A connection to one export.
#[derive(Debug)]
pub struct NbdClient<S> {
    stream: S,
    size_bytes: u64,
    requests: u64,
}

/// How long a server may take for one request: the host's disk may be busy, but not dead.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

impl NbdClient<UnixStream> {
    /// Connects to the server at a unix socket. Blocks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(socket: &Path, export: &str) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Self::new(stream, export)
    }
}

impl<S: Read + Write> NbdClient<S> {
    /// Takes an export of the server at the other end of `stream`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(mut stream: S, export: &str) -> Result<Self, ClientError> {
        greet(&mut stream)?;
        let request = ExportRequest { name: export.as_bytes(), infos: vec![info::BLOCK_SIZE] };
        stream.write_all(&encode_option(option::GO, &request.encode()))?;
        let (size_bytes, flags) = read_facts(&mut stream)?;
        let needed = transmission_flag::SEND_FLUSH | transmission_flag::SEND_WRITE_ZEROES;
        if flags & needed != needed || flags & transmission_flag::READ_ONLY != 0 {
            return Err(ClientError::Incapable { flags });
        }
        Ok(Self { stream, size_bytes, requests: 0 })
    }

    /// Size of the export.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Writes; at most 32 MiB, which is what QEMU takes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        // At most 32 MiB.
        self.begin(Command::Write, offset, data.len() as u32)?;
        self.stream.write_all(data)?;
        self.finish("write")
    }

    /// Writes zeros, or makes a hole where they are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn write_zeroes(&mut self, offset: u64, bytes: u32) -> Result<(), ClientError> {
        self.begin(Command::WriteZeroes, offset, bytes)?;
        self.finish("write zeros")
    }

    /// Reads.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        self.begin(Command::Read, offset, data.len() as u32)?;
        self.finish("read")?;
        Ok(self.stream.read_exact(data)?)
    }

    /// Makes durable what has been written.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.begin(Command::Flush, 0, 0)?;
        self.finish("flush")
    }

    /// Says goodbye; there is no answer to it.
    ///
    /// # Errors
    /// [`ClientError::Socket`].
    pub fn disconnect(mut self) -> Result<(), ClientError> {
        self.begin(Command::Disconnect, 0, 0)
    }

    fn begin(&mut self, command: Command, offset: u64, length: u32) -> Result<(), ClientError> {
        self.requests += 1;
        let request = Request { flags: 0, command, cookie: self.requests, offset, length };
        Ok(self.stream.write_all(&request.encode())?)
    }

    fn finish(&mut self, what: &'static str) -> Result<(), ClientError> {
        let mut bytes = [0; REPLY_BYTES];
        self.stream.read_exact(&mut bytes)?;
        let reply = Reply::parse(&bytes).filter(|reply| reply.cookie == self.requests);
        match reply.ok_or(ClientError::Reply)?.error {
            0 => Ok(()),
            // NBD's error numbers are those of Linux.
            error => {
                let source = io::Error::from_raw_os_error(error.cast_signed());
                Err(ClientError::Failed { what, source })
            }
        }
    }
}

fn greet<S: Read + Write>(stream: &mut S) -> Result<(), ClientError> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    let mut fields = Fields(&greeting);
    let (first, second, flags) = (fields.u64(), fields.u64(), fields.u16());
    let fixed = flags.is_some_and(|flags| flags & handshake_flag::FIXED_NEWSTYLE != 0);
    if first != Some(GREETING_MAGIC) || second != Some(OPTION_MAGIC) || !fixed {
        return Err(HandshakeError::Protocol("an unknown greeting").into());
    }
    // Nothing that follows depends on NO_ZEROES: it is about EXPORT_NAME.
    let flags = u32::from(handshake_flag::FIXED_NEWSTYLE);
    Ok(stream.write_all(&flags.to_be_bytes())?)
}

/// Reads the replies to `GO`: size and transmission flags.
fn read_facts<S: Read>(stream: &mut S) -> Result<(u64, u16), ClientError> {
    /// Facts that a server may tell; there are four kinds.
    const REPLIES_MAX: usize = 16;
    let mut facts = None;
    for _ in 0..REPLIES_MAX {
        let (kind, data) = read_option_reply(stream)?;
        match kind {
            option_reply::INFO => {
                let mut fields = Fields(&data);
                if fields.u16() == Some(info::EXPORT) {
                    facts = fields.u64().zip(fields.u16());
                }
            }
            option_reply::ACK => {
                let missing = HandshakeError::Protocol("an export without a size");
                return facts.ok_or(missing.into());
            }
            _ => return Err(ClientError::Refused(refusal(kind, &data))),
        }
    }
    Err(HandshakeError::Protocol("replies without end").into())
}

fn read_option_reply<S: Read>(stream: &mut S) -> Result<(u32, Vec<u8>), ClientError> {
    let mut header = [0; 20];
    stream.read_exact(&mut header)?;
    let mut fields = Fields(&header);
    let (magic, option) = (fields.u64(), fields.u32());
    let (kind, data_bytes) = fields.u32().zip(fields.u32()).unwrap_or_default();
    if magic != Some(OPTION_REPLY_MAGIC) || option != Some(option::GO) {
        return Err(HandshakeError::Protocol("no reply where one must be").into());
    }
    if data_bytes as usize > OPTION_DATA_BYTES_MAX {
        return Err(HandshakeError::Protocol("a reply that is too long").into());
    }
    let mut data = vec![0; data_bytes as usize];
    stream.read_exact(&mut data)?;
    Ok((kind, data))
}

/// A refusal for a person: most servers send words along.
fn refusal(kind: u32, words: &[u8]) -> String {
    match std::str::from_utf8(words) {
        Ok(words) if !words.is_empty() => words.to_owned(),
        _ => format!("reply {kind:#x}"),
    }
}
