//! One export for one client that only writes: what arrives goes to a [`Sink`].

use std::io::{self, Read, Write};

use super::handshake::{Export, HandshakeError, negotiate};
use super::wire::{Command, REQUEST_BYTES, Reply, Request, error};
use super::{CHUNK_BYTES, EXPORT_BLOCK_BYTES, REQUEST_BYTES_MAX};

/// Where writes go. Offsets and lengths are whole blocks inside the export.
pub trait Sink {
    /// Why it cannot take any more.
    type Error: std::error::Error + 'static;

    /// These bytes are at `offset` from now on; at most [`CHUNK_BYTES`].
    ///
    /// # Errors
    /// Ends the service.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// So many zeros are at `offset` from now on.
    ///
    /// # Errors
    /// Ends the service.
    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), Self::Error>;

    /// What came so far shall count: a mirror says so when it has been through all of its disk, before it is ready.
    ///
    /// # Errors
    /// Ends the service.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// How a service ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client said so.
    Disconnected,
    /// The socket was closed between two requests, by either side.
    Closed,
}

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError<E: std::error::Error + 'static> {
    /// It never began.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The socket failed.
    #[error("the socket of the NBD client failed")]
    Socket(#[source] io::Error),
    /// Not a request.
    #[error("the NBD client sent something that is no request")]
    NoRequest,
    /// A write of more bytes than can be skipped.
    #[error("the NBD client wrote {length} bytes at once; {REQUEST_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        length: u32,
    },
    /// The sink failed.
    #[error(transparent)]
    Sink(E),
}

/// Serves `export` to the client at the other end of `stream` until it goes.
///
/// `FLUSH` is answered when the sink has taken what came before it. Whether that is durable is asked once, at the other
/// end, before a guest runs there.
///
/// # Errors
/// [`ServeError`]; the client is owed replies then and gets none, which closing the socket tells it.
pub fn serve<S: Read + Write, K: Sink>(
    mut stream: S,
    export: &Export,
    sink: &mut K,
) -> Result<End, ServeError<K::Error>> {
    negotiate(&mut stream, export)?;
    let mut service =
        Service { stream, export, sink, chunk: vec![0; CHUNK_BYTES].into_boxed_slice() };
    while let Some(request) = service.next()? {
        if request.command == Command::Disconnect {
            return Ok(End::Disconnected);
        }
        let error = service.handle(&request)?;
        let reply = Reply { error, cookie: request.cookie };
        service.stream.write_all(&reply.encode()).map_err(ServeError::Socket)?;
    }
    Ok(End::Closed)
}

struct Service<'a, S, K> {
    stream: S,
    export: &'a Export,
    sink: &'a mut K,
    chunk: Box<[u8]>,
}

impl<S: Read + Write, K: Sink> Service<'_, S, K> {
    fn next(&mut self) -> Result<Option<Request>, ServeError<K::Error>> {
        let mut bytes = [0; REQUEST_BYTES];
        let (first, rest) = bytes.split_at_mut(1);
        if self.stream.read(first).map_err(ServeError::Socket)? == 0 {
            return Ok(None);
        }
        self.stream.read_exact(rest).map_err(ServeError::Socket)?;
        Request::parse(&bytes).map(Some).ok_or(ServeError::NoRequest)
    }

    /// The error to reply with, 0 for none.
    fn handle(&mut self, request: &Request) -> Result<u32, ServeError<K::Error>> {
        match request.command {
            Command::Write => self.write(request),
            Command::WriteZeroes | Command::Trim => match self.refusal(request) {
                Some(error) => Ok(error),
                None => {
                    let bytes = u64::from(request.length);
                    self.sink.zero(request.offset, bytes).map_err(ServeError::Sink)?;
                    Ok(0)
                }
            },
            Command::Flush => self.sink.flush().map(|()| 0).map_err(ServeError::Sink),
            Command::Disconnect => Ok(0),
            // A mirror only writes.
            Command::Read | Command::Other(_) => Ok(error::NOT_SUPPORTED),
        }
    }

    fn write(&mut self, request: &Request) -> Result<u32, ServeError<K::Error>> {
        if request.length > REQUEST_BYTES_MAX {
            return Err(ServeError::TooLong { length: request.length });
        }
        let refusal = self.refusal(request);
        let mut offset = request.offset;
        let mut missing = request.length as usize;
        while missing > 0 {
            let chunk = &mut self.chunk[..missing.min(CHUNK_BYTES)];
            self.stream.read_exact(chunk).map_err(ServeError::Socket)?;
            if refusal.is_none() {
                self.sink.write(offset, chunk).map_err(ServeError::Sink)?;
                offset += chunk.len() as u64;
            }
            missing -= chunk.len();
        }
        Ok(refusal.unwrap_or(0))
    }

    /// Why a request is not carried out.
    fn refusal(&self, request: &Request) -> Option<u32> {
        let end = request.offset.checked_add(u64::from(request.length));
        if end.is_none_or(|end| end > self.export.size_bytes) {
            return Some(error::NO_SPACE);
        }
        let block = u64::from(EXPORT_BLOCK_BYTES);
        let whole = request.offset.is_multiple_of(block)
            && request.length.is_multiple_of(EXPORT_BLOCK_BYTES);
        (!whole || request.length == 0).then_some(error::INVALID)
    }
}

#[cfg(test)]
mod tests;
