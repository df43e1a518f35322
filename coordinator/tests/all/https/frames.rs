//! HTTP/2 (RFC 9113) by hand: what no well-behaved client sends.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Https, Stream};

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One connection.
pub struct Http2 {
    pub stream: Stream,
    next: u32,
}

/// A frame of the other end.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl Http2 {
    /// A connection whose streams take no more than `window` bytes of an answer.
    pub async fn connect(client: &Https, window: u32) -> Self {
        let stream = client.clone().speaking("h2").connect().await;
        let mut connection = Self { stream, next: 1 };
        connection.stream.write_all(PREFACE).await.unwrap();
        let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        setting.extend(window.to_be_bytes());
        connection.send(&frame(SETTINGS, 0, 0, &setting)).await.unwrap();
        connection
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Asks on a new stream, and does not wait for the answer.
    pub async fn ask(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<u32> {
        let stream = self.next_stream();
        let block = block("GET", path, headers);
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)).await?;
        Ok(stream)
    }

    pub fn next_stream(&mut self) -> u32 {
        let stream = self.next;
        self.next += 2;
        stream
    }

    /// The next frame; none when the other end has closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, payload })
    }

    /// Whether the answer that begins next is a 200.
    pub async fn next_is_found(&mut self) -> Option<bool> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == HEADERS {
                // `:status: 200` is number 8 of the table that everybody has; a change of the table's size may come first.
                let block = frame.payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                return Some(block == Some(&0x88));
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block in which every field is written out (RFC 7541, section 6.2.2).
pub fn block(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let own =
        [(":method", method), (":scheme", "https"), (":authority", "novacron"), (":path", path)];
    let mut block = Vec::new();
    for (name, value) in own.iter().chain(headers) {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(text.bytes());
        }
    }
    block
}

/// An integer of seven bits, and more if it needs them (RFC 7541, section 5.1).
fn length(mut value: usize, block: &mut Vec<u8>) {
    if value < 127 {
        block.push(value as u8);
        return;
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push((value % 128) as u8 | 128);
        value /= 128;
    }
    block.push(value as u8);
}
