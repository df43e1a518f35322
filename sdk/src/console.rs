//! A machine's serial console.

use std::io::{self, Read};

use http::Method;
use ureq::BodyReader;

use crate::client::Client;
use crate::error::Error;
use crate::exchange::{Content, Repeat, Request};
use crate::query::Path;

/// Console.
impl Client {
    /// What the guest wrote to its serial console, from byte `from` on; beyond the end means from now on. With
    /// `follow` the reader goes on with what the guest writes from then on.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if the machine is on no node, `node_unreachable` if its node does not
    /// answer.
    pub fn console(&self, vm: &str, from: u64, follow: bool) -> Result<ConsoleReader, Error> {
        let mut reader = ConsoleReader {
            client: self.clone(),
            path: Path::new("vms").segment(vm).verb("console"),
            offset: from,
            follow,
            stream: None,
            fresh: true,
        };
        reader.stream = Some(reader.open()?);
        Ok(reader)
    }

    /// Types at the guest's serial console. Sent once: what may have arrived is not typed again.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if the machine does not run, `node_unreachable`.
    pub fn console_input(&self, vm: &str, bytes: &[u8]) -> Result<(), Error> {
        self.exchange.done(&Request {
            method: Method::POST,
            path: Path::new("vms").segment(vm).verb("console").verb("input"),
            content: Content::Bytes(bytes.to_vec()),
            repeat: Repeat::Never,
        })
    }
}

/// The bytes of a console. If the connection breaks or stays silent for long, it is opened again at the byte
/// where it stopped.
pub struct ConsoleReader {
    client: Client,
    path: Path,
    offset: u64,
    follow: bool,
    stream: Option<BodyReader<'static>>,
    /// Whether the open stream has given nothing yet.
    fresh: bool,
}

impl ConsoleReader {
    /// The byte of the log that comes next. Not known, and as it was asked for, while that is beyond the end.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn open(&self) -> Result<BodyReader<'static>, Error> {
        let path = self.path.clone().query("from", self.offset).query("follow", self.follow);
        self.client.exchange.stream(&Request::get(path))
    }
}

impl Read for ConsoleReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.open().map_err(io::Error::other)?,
            };
            match stream.read(buffer) {
                Ok(0) if !self.follow || self.fresh => return Ok(0),
                Ok(0) => self.fresh = true,
                Ok(count) => {
                    self.offset = self.offset.saturating_add(count as u64);
                    self.fresh = false;
                    self.stream = Some(stream);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.stream = Some(stream);
                }
                // Broken off or silent for long: go on where it stopped.
                Err(_) => self.fresh = true,
            }
        }
    }
}
