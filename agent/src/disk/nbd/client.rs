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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::encode_option_reply;
    use super::*;

    /// A server that has said all it says beforehand.
    struct Canned(io::Cursor<Vec<u8>>);

    impl Read for Canned {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn canned(flags: u16, more: &[u8]) -> Canned {
        let mut said = GREETING_MAGIC.to_be_bytes().to_vec();
        said.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        said.extend_from_slice(&1_u16.to_be_bytes());
        let mut fact = info::EXPORT.to_be_bytes().to_vec();
        fact.extend_from_slice(&(1_u64 << 20).to_be_bytes());
        fact.extend_from_slice(&flags.to_be_bytes());
        said.extend(encode_option_reply(option::GO, option_reply::INFO, &fact));
        said.extend(encode_option_reply(option::GO, option_reply::ACK, b""));
        said.extend_from_slice(more);
        Canned(io::Cursor::new(said))
    }

    #[test]
    fn an_export_that_cannot_do_what_is_needed_is_refused() {
        let refusal = NbdClient::new(canned(transmission_flag::HAS_FLAGS, b""), "disk0");
        assert!(matches!(refusal, Err(ClientError::Incapable { flags: 1 })));
    }

    #[test]
    fn a_reply_to_something_else_is_no_reply() {
        let reply = Reply { error: 0, cookie: 9 }.encode();
        let mut client = NbdClient::new(canned(0b100_0101, &reply), "disk0").unwrap();
        assert!(matches!(client.flush(), Err(ClientError::Reply)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_end_in_an_error(noise in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut client = NbdClient::new(canned(0b100_0101, &noise), "disk0").unwrap();
            while client.flush().is_ok() {}
            for cut in 0..50.min(noise.len()) {
                let said = canned(0, b"").0.into_inner();
                let said = [&said[..18], &noise[cut..]].concat();
                let refused = NbdClient::new(Canned(io::Cursor::new(said)), "disk0").is_err();
                prop_assert!(refused);
            }
        }
    }
}
