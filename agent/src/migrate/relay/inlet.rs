//! The target's end of data streams.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use novacron_protocol::session::message::StreamHeader;
use novacron_transport::FramedRecv;
use quinn::RecvStream;
use tokio::sync::mpsc;

/// Connections that may have brought the same stream before one of them is read: a link that comes and goes.
const STREAMS_MAX: usize = 4;

/// Why there is no further frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InletError {
    /// The migration is over.
    #[error("the migration is over")]
    Over,
    /// More streams of the same name came than connections can have been.
    #[error("a stream of the source came again and again")]
    TooMany,
}

/// One stream, from the side that empties it.
#[derive(Debug)]
pub struct Inlet {
    stream: Option<Stream>,
    streams: mpsc::Receiver<Stream>,
    counts: Arc<Counts>,
}

/// A stream of the connection of a number.
#[derive(Debug)]
struct Stream {
    connection: u64,
    frames: FramedRecv<RecvStream>,
}

#[derive(Debug, Default)]
struct Counts {
    taken: Mutex<Taken>,
    processed: AtomicU64,
}

/// How far a stream is on the connection of a number; what comes on an earlier one does not count.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    connection: u64,
    frames: u64,
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what comes on this connection counts.
    fn is_of(&self, connection: u64) -> bool {
        self.lock().connection == connection
    }

    /// Whether a frame of this connection counts; it does from then on.
    fn take(&self, connection: u64) -> bool {
        let mut taken = self.lock();
        let counts = taken.connection == connection;
        taken.frames += u64::from(counts);
        counts
    }
}

impl Inlet {
    /// The next frame, `None` behind the last. Waits for the next connection if this one is lost. Whoever calls has
    /// processed the frame before. Cancel-safe.
    ///
    /// # Errors
    /// [`InletError::Over`].
    pub async fn receive(&mut self) -> Result<Option<Bytes>, InletError> {
        let taken = self.counts.lock().frames;
        self.counts.processed.store(taken, Ordering::Release);
        loop {
            let Some(stream) = &mut self.stream else {
                self.stream = Some(self.streams.recv().await.ok_or(InletError::Over)?);
                continue;
            };
            tokio::select! {
                biased;
                // A stream on another connection takes the place of this one: what is on the way here comes again.
                other = self.streams.recv() => self.stream = Some(other.ok_or(InletError::Over)?),
                received = stream.frames.receive() => match received {
                    Ok(Some(frame)) if self.counts.take(stream.connection) => {
                        return Ok(Some(frame));
                    }
                    Ok(None) if self.counts.is_of(stream.connection) => return Ok(None),
                    Ok(_) => self.stream = None,
                    Err(error) => {
                        tracing::debug!(error = &error as &dyn std::error::Error, "a stream is cut off");
                        self.stream = None;
                    }
                },
            }
        }
    }
}

/// All inlets of a migration.
#[derive(Debug, Default)]
pub struct Inlets {
    inlets: BTreeMap<StreamHeader, Known>,
    connection: u64,
    said: BTreeMap<StreamHeader, u64>,
}

#[derive(Debug)]
struct Known {
    streams: mpsc::Sender<Stream>,
    counts: Arc<Counts>,
}

impl Inlets {
    /// A stream came. A new one gives its inlet; one that goes on from an earlier connection goes on where it was.
    ///
    /// # Errors
    /// [`InletError::TooMany`].
    pub fn add(
        &mut self,
        header: StreamHeader,
        frames: FramedRecv<RecvStream>,
    ) -> Result<Option<Inlet>, InletError> {
        let stream = Stream { connection: self.connection, frames };
        if let Some(known) = self.inlets.get(&header) {
            return match known.streams.try_send(stream) {
                // Whoever had it has had all of it.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(None),
                Err(mpsc::error::TrySendError::Full(_)) => Err(InletError::TooMany),
            };
        }
        let (streams, receiver) = mpsc::channel(STREAMS_MAX);
        let taken = Mutex::new(Taken { connection: self.connection, frames: 0 });
        let counts = Arc::new(Counts { taken, processed: AtomicU64::new(0) });
        self.inlets.insert(header, Known { streams, counts: Arc::clone(&counts) });
        Ok(Some(Inlet { stream: Some(stream), streams: receiver, counts }))
    }

    /// The next connection begins: the frames that were taken from each stream. Nothing counts any more that comes on
    /// an earlier one.
    pub fn next_connection(&mut self) -> Vec<(StreamHeader, u64)> {
        self.connection += 1;
        let connection = self.connection;
        let taken = |known: &Known| {
            let mut taken = known.counts.lock();
            taken.connection = connection;
            taken.frames
        };
        self.inlets.iter().map(|(header, known)| (*header, taken(known))).collect()
    }

    /// Frames processed of each stream, if that has changed since it was asked.
    pub fn processed_news(&mut self) -> Option<Vec<(StreamHeader, u64)>> {
        let processed = |known: &Known| known.counts.processed.load(Ordering::Acquire);
        let counts: BTreeMap<_, _> =
            self.inlets.iter().map(|(header, known)| (*header, processed(known))).collect();
        if counts == self.said {
            return None;
        }
        self.said.clone_from(&counts);
        Some(counts.into_iter().collect())
    }
}
