//! The server's half of the handshake: which export, and what it can do.

use std::io::{self, Read, Write};

use super::wire::{
    ExportRequest, GREETING_MAGIC, OPTION_DATA_BYTES_MAX, OPTION_HEADER_BYTES, OPTION_MAGIC,
    OptionHeader, encode_option_reply, handshake_flag, info, option, option_reply,
    transmission_flag,
};
use super::{EXPORT_BLOCK_BYTES, REQUEST_BYTES_MAX};

/// What a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
}

/// Why there is no transmission.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The socket failed.
    #[error("the socket failed during the NBD handshake")]
    Socket(#[from] io::Error),
    /// The other side speaks something else.
    #[error("the other side does not speak NBD as we know it: {0}")]
    Protocol(&'static str),
    /// The client left.
    #[error("the NBD client left during the handshake")]
    Aborted,
}

/// Options before the client must have chosen; QEMU asks for four.
const OPTIONS_MAX: usize = 32;

const TRANSMISSION_FLAGS: u16 = transmission_flag::HAS_FLAGS
    | transmission_flag::SEND_FLUSH
    | transmission_flag::SEND_FUA
    | transmission_flag::SEND_TRIM
    | transmission_flag::SEND_WRITE_ZEROES;

/// Greets and answers options until the client has taken the export.
pub(super) fn negotiate<S: Read + Write>(
    stream: &mut S,
    export: &Export,
) -> Result<(), HandshakeError> {
    let client_flags = greet(stream)?;
    for _ in 0..OPTIONS_MAX {
        let (option, data) = read_option(stream)?;
        match option {
            option::GO | option::INFO => {
                let found = answer_export(stream, export, option, &data)?;
                if found && option == option::GO {
                    return Ok(());
                }
            }
            option::EXPORT_NAME => return answer_export_name(stream, export, &data, client_flags),
            option::LIST if data.is_empty() => answer_list(stream, export)?,
            option::LIST => answer(stream, option, option_reply::ERROR_INVALID, &[])?,
            option::ABORT => {
                answer(stream, option, option_reply::ACK, &[])?;
                return Err(HandshakeError::Aborted);
            }
            // Structured replies, contexts, TLS: the client goes on without.
            _ => answer(stream, option, option_reply::ERROR_UNSUPPORTED, &[])?,
        }
    }
    Err(HandshakeError::Protocol("options without end"))
}

/// Returns the client's flags.
fn greet<S: Read + Write>(stream: &mut S) -> Result<u32, HandshakeError> {
    let known = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    let mut greeting = GREETING_MAGIC.to_be_bytes().to_vec();
    greeting.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    greeting.extend_from_slice(&known.to_be_bytes());
    stream.write_all(&greeting)?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    let flags = u32::from_be_bytes(flags);
    match flags & !u32::from(known) {
        0 => Ok(flags),
        _ => Err(HandshakeError::Protocol("unknown flags")),
    }
}

fn read_option<S: Read>(stream: &mut S) -> Result<(u32, Vec<u8>), HandshakeError> {
    let mut header = [0; OPTION_HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let header = OptionHeader::parse(&header)
        .ok_or(HandshakeError::Protocol("no option where one must be"))?;
    let data_bytes = header.data_bytes as usize;
    if data_bytes > OPTION_DATA_BYTES_MAX {
        return Err(HandshakeError::Protocol("an option that is too long"));
    }
    let mut data = vec![0; data_bytes];
    stream.read_exact(&mut data)?;
    Ok((header.option, data))
}

fn answer<S: Write>(stream: &mut S, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    stream.write_all(&encode_option_reply(option, kind, data))
}

/// To `GO` and `INFO`; whether the client named the export that there is.
fn answer_export<S: Write>(
    stream: &mut S,
    export: &Export,
    option: u32,
    data: &[u8],
) -> io::Result<bool> {
    let Some(request) = ExportRequest::parse(data) else {
        return answer(stream, option, option_reply::ERROR_INVALID, &[]).map(|()| false);
    };
    if request.name != export.name.as_bytes() {
        return answer(stream, option, option_reply::ERROR_UNKNOWN, &[]).map(|()| false);
    }
    let mut fact = info::EXPORT.to_be_bytes().to_vec();
    fact.extend_from_slice(&export_facts(export));
    answer(stream, option, option_reply::INFO, &fact)?;
    let mut fact = info::BLOCK_SIZE.to_be_bytes().to_vec();
    for bytes in [EXPORT_BLOCK_BYTES, EXPORT_BLOCK_BYTES, REQUEST_BYTES_MAX] {
        fact.extend_from_slice(&bytes.to_be_bytes());
    }
    answer(stream, option, option_reply::INFO, &fact)?;
    answer(stream, option, option_reply::ACK, &[])?;
    Ok(true)
}

/// To `EXPORT_NAME`, which knows no refusal but to hang up.
fn answer_export_name<S: Write>(
    stream: &mut S,
    export: &Export,
    name: &[u8],
    client_flags: u32,
) -> Result<(), HandshakeError> {
    if name != export.name.as_bytes() {
        return Err(HandshakeError::Protocol("an export that is not here"));
    }
    let mut facts = export_facts(export).to_vec();
    if client_flags & u32::from(handshake_flag::NO_ZEROES) == 0 {
        facts.extend_from_slice(&[0; 124]);
    }
    Ok(stream.write_all(&facts)?)
}

fn answer_list<S: Write>(stream: &mut S, export: &Export) -> io::Result<()> {
    let mut name = (export.name.len() as u32).to_be_bytes().to_vec();
    name.extend_from_slice(export.name.as_bytes());
    answer(stream, option::LIST, option_reply::SERVER, &name)?;
    answer(stream, option::LIST, option_reply::ACK, &[])
}

/// Size and transmission flags.
fn export_facts(export: &Export) -> [u8; 10] {
    let mut facts = [0; 10];
    facts[..8].copy_from_slice(&export.size_bytes.to_be_bytes());
    facts[8..].copy_from_slice(&TRANSMISSION_FLAGS.to_be_bytes());
    facts
}
