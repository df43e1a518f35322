//! Frames: `length: u32 LE`, then that many bytes. What the bytes mean is the protocol's business.
//!
//! Works over any byte stream, so that tests need no network. Over a [`Connection`](crate::Connection), a frame
//! that breaks the rules is counted and closes the connection: a peer that does it once is either another
//! program or an attacker, and the bytes after it have no known meaning.

use std::io;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::buf::Chain;
use bytes::{Buf, Bytes, BytesMut};
use quinn::SendStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::connection::Violations;

/// Bytes of the length before every frame.
pub const HEADER_BYTES: usize = 4;

/// A frame's buffer grows by at most this much ahead of the bytes that came: a length alone, which costs a
/// peer four bytes, reserves no more.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// A frame up to this length is copied behind its header: two writes are two packets as soon as the connection's task
/// runs between them, and each costs more than the copy.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Why a frame cannot be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than this stream allows.
    #[error("a frame of {bytes} bytes is over this stream's limit of {limit}")]
    TooLong {
        /// Bytes announced or given.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, after {bytes} of its bytes")]
    CutOff {
        /// Bytes of the frame, header included, that came.
        bytes: usize,
    },
    /// The stream failed: the connection was lost or the peer gave the stream up.
    #[error("the stream failed")]
    Stream(#[source] io::Error),
}

/// The sending half.
#[derive(Debug)]
pub struct FramedSend<W> {
    stream: W,
    frame_bytes_max: usize,
    unsent: Option<Chain<Bytes, Bytes>>,
}

impl<W: AsyncWrite + Unpin> FramedSend<W> {
    /// Frames of at most `frame_bytes_max` bytes over `stream`.
    pub fn new(stream: W, frame_bytes_max: usize) -> Self {
        Self { stream, frame_bytes_max, unsent: None }
    }

    /// Sends one frame; returns when the stream has taken all of it, which is not when the peer has read it.
    ///
    /// If the future is dropped, the stream stays usable: the frame, once begun, is kept and completed by the
    /// next `send` or `flush`. So a dropped `send` is a frame that may still be sent, never half a frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] before anything is written, else [`FrameError::Stream`].
    pub async fn send(&mut self, payload: Bytes) -> Result<(), FrameError> {
        let header = self.header_of(&payload)?;
        self.write_unsent().await?;
        self.unsent = Some(if payload.len() <= COPIED_BYTES_MAX {
            Bytes::from([&header[..], &payload].concat()).chain(Bytes::new())
        } else {
            header.chain(payload)
        });
        self.write_unsent().await
    }

    /// Completes a frame whose `send` was dropped, and flushes the stream.
    ///
    /// # Errors
    /// [`FrameError::Stream`].
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.write_unsent().await?;
        self.stream.flush().await.map_err(FrameError::Stream)
    }

    /// Completes what is unsent and ends the stream: the peer reads a clean end after the last frame.
    ///
    /// # Errors
    /// [`FrameError::Stream`].
    pub async fn finish(&mut self) -> Result<(), FrameError> {
        self.write_unsent().await?;
        self.stream.shutdown().await.map_err(FrameError::Stream)
    }

    /// The stream, for its own controls (priority, reset). Writing to it breaks the framing.
    pub fn stream_mut(&mut self) -> &mut W {
        &mut self.stream
    }

    /// The stream, once frames are done with. An unsent rest of a frame is lost.
    pub fn into_inner(self) -> W {
        self.stream
    }

    fn header_of(&self, payload: &Bytes) -> Result<Bytes, FrameError> {
        let (bytes, limit) = (payload.len(), self.frame_bytes_max);
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= limit);
        let length = length.ok_or(FrameError::TooLong { bytes, limit })?;
        Ok(Bytes::copy_from_slice(&length.to_le_bytes()))
    }

    async fn write_unsent(&mut self) -> Result<(), FrameError> {
        while let Some(unsent) = self.unsent.as_mut().filter(|unsent| unsent.has_remaining()) {
            let written = self.stream.write_buf(unsent).await.map_err(FrameError::Stream)?;
            if written == 0 {
                return Err(FrameError::Stream(io::ErrorKind::WriteZero.into()));
            }
        }
        self.unsent = None;
        Ok(())
    }
}

impl FramedSend<SendStream> {
    /// As [`Self::send`], without copying the payload: it is let go when the peer has acknowledged it.
    ///
    /// Not cancel-safe: if the future is dropped, part of a frame may have been sent, and the stream has no meaning any
    /// more.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_uncopied(&mut self, payload: Bytes) -> Result<(), FrameError> {
        let header = self.header_of(&payload)?;
        self.write_unsent().await?;
        let written = self.stream.write_all_chunks(&mut [header, payload]).await;
        written.map_err(|error| FrameError::Stream(error.into()))
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct FramedRecv<R> {
    stream: R,
    frame_bytes_max: usize,
    received: BytesMut,
    violations: Option<Violations>,
}

impl<R: AsyncRead + Unpin> FramedRecv<R> {
    /// Frames of at most `frame_bytes_max` bytes over `stream`.
    pub fn new(stream: R, frame_bytes_max: usize) -> Self {
        Self { stream, frame_bytes_max, received: BytesMut::new(), violations: None }
    }

    pub(crate) fn reporting_to(self, violations: Violations) -> Self {
        Self { violations: Some(violations), ..self }
    }

    /// The next frame, or `None` if the peer ended the stream after a whole frame.
    ///
    /// Cancel-safe: what has come of a frame is kept, and the next call goes on from there.
    ///
    /// # Errors
    /// [`FrameError`]; after [`FrameError::TooLong`] and [`FrameError::CutOff`] the stream has no meaning any
    /// more, and a connection of ours is closed.
    pub async fn receive(&mut self) -> Result<Option<Bytes>, FrameError> {
        let frame = self.read_frame().await;
        if let (Err(error), Some(violations)) = (&frame, &self.violations) {
            violations.report(error);
        }
        frame
    }

    /// Takes note of the stream's end, if that has come with the last frame. A stream that is dropped before costs a packet,
    /// which tells the peer that nobody reads on.
    pub fn note_end(&mut self) {
        // Whatever else is there is dropped with the stream.
        let _ = pin!(self.receive()).poll(&mut Context::from_waker(Waker::noop()));
    }

    /// The stream, for its own controls (stop). Reading from it breaks the framing.
    pub fn stream_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// The stream and the bytes of it that were read and belong to no frame yet (none right after a frame).
    pub fn into_inner(self) -> (R, Bytes) {
        (self.stream, self.received.freeze())
    }

    async fn read_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.fill(HEADER_BYTES).await? {
            return Ok(None);
        }
        let length = self.announced()?;
        self.fill(HEADER_BYTES + length).await?;
        self.received.advance(HEADER_BYTES);
        Ok(Some(self.received.split_to(length).freeze()))
    }

    /// The length in the header, which has come.
    fn announced(&self) -> Result<usize, FrameError> {
        let header = self.received.first_chunk::<HEADER_BYTES>().copied().unwrap_or_default();
        let bytes = u32::from_le_bytes(header) as usize;
        if bytes > self.frame_bytes_max {
            return Err(FrameError::TooLong { bytes, limit: self.frame_bytes_max });
        }
        Ok(bytes)
    }

    /// Reads until `wanted` bytes are there, and not one more: whoever takes the stream over after a frame
    /// misses nothing. `false` if the stream ended before the first byte.
    async fn fill(&mut self, wanted: usize) -> Result<bool, FrameError> {
        while self.received.len() < wanted {
            let missing = wanted - self.received.len();
            self.received.reserve(missing.min(RESERVE_BYTES_MAX));
            let mut limited = (&mut self.stream).take(missing as u64);
            let read = limited.read_buf(&mut self.received).await.map_err(FrameError::Stream)?;
            match (read, self.received.len()) {
                (0, 0) => return Ok(false),
                (0, bytes) => return Err(FrameError::CutOff { bytes }),
                _ => {}
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Poll;

    const LIMIT: usize = 1000;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    async fn receive_all(bytes: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        let mut receiver = FramedRecv::new(bytes, LIMIT);
        let mut frames = Vec::new();
        while let Some(frame) = receiver.receive().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn golden_bytes() {
        let mut sent = Vec::new();
        block_on(async {
            let mut sender = FramedSend::new(&mut sent, LIMIT);
            sender.send(Bytes::from_static(b"abc")).await.unwrap();
            sender.send(Bytes::new()).await.unwrap();
        });
        assert_eq!(sent, b"\x03\0\0\0abc\0\0\0\0");
        let frames = block_on(receive_all(&sent)).unwrap();
        assert_eq!(frames, [&b"abc"[..], b""]);
    }

    #[test]
    fn an_oversized_frame_is_refused_on_both_sides() {
        let mut sent = Vec::new();
        let error =
            block_on(FramedSend::new(&mut sent, LIMIT).send(Bytes::from(vec![0; LIMIT + 1])));
        assert!(matches!(error, Err(FrameError::TooLong { bytes: 1001, limit: LIMIT })));
        assert!(sent.is_empty());
        let error = block_on(receive_all(&u32::MAX.to_le_bytes()));
        assert!(matches!(error, Err(FrameError::TooLong { bytes: 0xffff_ffff, .. })));
    }

    #[test]
    fn a_stream_may_end_only_between_frames() {
        for cut in 1..7 {
            let error = block_on(receive_all(&b"\x03\0\0\0abc"[..cut])).unwrap_err();
            assert!(matches!(error, FrameError::CutOff { bytes } if bytes == cut), "{error:?}");
        }
    }

    #[test]
    fn a_length_reserves_no_memory_for_bytes_that_have_not_come() {
        let header = (16 * 1024 * 1024u32).to_le_bytes();
        let (mut near, far) = tokio::io::duplex(64);
        let mut receiver = FramedRecv::new(far, 16 * 1024 * 1024);
        block_on(near.write_all(&header)).unwrap();
        assert!(poll_once(receiver.receive()).is_pending());
        assert!(receiver.received.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[test]
    fn dropping_either_future_loses_and_doubles_nothing() {
        block_on(async {
            let (near, far) = tokio::io::duplex(3);
            let mut sender = FramedSend::new(near, LIMIT);
            let mut receiver = FramedRecv::new(far, LIMIT);
            assert!(poll_once(sender.send(Bytes::from_static(b"first"))).is_pending());
            let mut received = Vec::new();
            while received.len() < 2 {
                if let Poll::Ready(frame) = poll_once(receiver.receive()) {
                    received.push(frame.unwrap().unwrap());
                }
                let _ = match received.len() {
                    0 => poll_once(sender.flush()),
                    _ if sender.unsent.is_some() => poll_once(sender.flush()),
                    _ => poll_once(sender.send(Bytes::from_static(b"second"))),
                };
            }
            assert_eq!(received, [&b"first"[..], b"second"]);
        });
    }

    #[test]
    fn nothing_after_a_frame_is_swallowed() {
        let mut receiver = FramedRecv::new(&b"\x01\0\0\0xrest"[..], LIMIT);
        block_on(receiver.receive()).unwrap();
        assert_eq!(receiver.into_inner(), (&b"rest"[..], Bytes::new()));
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..LIMIT), 0..8),
            buffer_bytes in 1usize..200,
        ) {
            let received = block_on(async {
                let (near, far) = tokio::io::duplex(buffer_bytes);
                let send = async {
                    let mut sender = FramedSend::new(near, LIMIT);
                    for frame in &frames {
                        sender.send(Bytes::copy_from_slice(frame)).await.unwrap();
                    }
                    sender.finish().await.unwrap();
                };
                let receive = async {
                    let mut receiver = FramedRecv::new(far, LIMIT);
                    let mut received = Vec::new();
                    while let Some(frame) = receiver.receive().await.unwrap() {
                        received.push(frame.to_vec());
                    }
                    received
                };
                tokio::join!(send, receive).1
            });
            prop_assert_eq!(received, frames);
        }

        #[test]
        fn any_bytes_give_frames_or_a_typed_refusal(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = block_on(receive_all(&bytes));
        }
    }
}
