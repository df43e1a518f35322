//! The source's end of data streams.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limit::Limit;
use bytes::Bytes;
use novacron_protocol::session::message::StreamHeader;
use novacron_protocol::session::retention::{Miscounted, Retention};
use novacron_protocol::wire::codec;
use novacron_transport::{Connection, FrameError, FramedSend};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Bytes that one outlet keeps for the case that the link breaks. At 10 Gbit/s, 16 MiB are 13 ms, more than what passes
/// until the target has said what it processed; a thread that has to wait for that only waits.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Bytes that may wait before they are written to a connection. They are old by the time they arrive, so there is little
/// of them; but a thread that prepares frames while others are sent keeps the link busy.
const WAITING_BYTES_MAX: usize = 512 << 10;
/// Guest pages with content that one lane has sent and the target has not put where they belong. It is fast at that, some
/// microseconds each, but differences of pages are so small that the bytes above would let a hundred thousand of them
/// pile up, and a guest that is stopped waits for all of them. Fewer would keep lanes waiting for the target's word,
/// which comes every 5 ms.
const KEPT_PAGES_MAX: usize = 1024;

/// Why a frame cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutletError {
    /// The migration is over.
    #[error("the migration is over")]
    Over,
    /// There was no room in time.
    #[error("the target has not taken anything for {seconds} s")]
    Stalled {
        /// How long it was waited.
        seconds: u64,
    },
}

/// One stream, from the side that fills it.
#[derive(Debug, Clone)]
pub struct Outlet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    header: StreamHeader,
    frame_bytes_max: usize,
    state: Mutex<State>,
    /// There may be room again, or it is over.
    room: Condvar,
    /// There may be something to write.
    work: Notify,
    processed: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    retention: Retention,
    is_finished: bool,
    is_over: bool,
}

impl State {
    fn waits(&self) -> bool {
        !self.is_over && is_full(&self.retention)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.room.notify_all();
        self.work.notify_one();
    }

    /// The next frame, `None` at the end. Cancel-safe.
    async fn next(&self) -> Option<Bytes> {
        loop {
            let work = self.work.notified();
            {
                let mut state = self.lock();
                if let Some(frame) = state.retention.write_next() {
                    self.room.notify_all();
                    return Some(frame);
                }
                if state.is_finished || state.is_over {
                    return None;
                }
            }
            work.await;
        }
    }
}

impl Outlet {
    /// Sends a frame. Blocks the thread while too much waits or is kept.
    ///
    /// # Errors
    /// [`OutletError::Over`].
    pub fn send(&self, frame: Bytes) -> Result<(), OutletError> {
        self.send_pages(frame, 0)
    }

    /// As [`Self::send`], a frame with so many guest pages that the target has to put where they belong.
    ///
    /// # Errors
    /// [`OutletError::Over`].
    pub fn send_pages(&self, frame: Bytes, pages: usize) -> Result<(), OutletError> {
        let state = self.inner.lock();
        let waits = |state: &mut State| state.waits();
        let state = self.inner.room.wait_while(state, waits);
        self.push(state.unwrap_or_else(PoisonError::into_inner), frame, pages)
    }

    /// Blocks the thread while the target is behind with putting pages where they belong, or until it is over.
    pub fn wait_for_target(&self) {
        let waits = |state: &mut State| !state.is_over && is_behind(&state.retention);
        drop(self.inner.room.wait_while(self.inner.lock(), waits));
    }

    /// As [`Self::send`], but waits no longer than this.
    ///
    /// # Errors
    /// [`OutletError::Stalled`].
    pub fn send_within(&self, frame: Bytes, patience: Duration) -> Result<(), OutletError> {
        let state = self.inner.lock();
        let waits = |state: &mut State| state.waits();
        let waited = self.inner.room.wait_timeout_while(state, patience, waits);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(OutletError::Stalled { seconds: patience.as_secs() });
        }
        self.push(state, frame, 0)
    }

    fn push(
        &self,
        mut state: MutexGuard<'_, State>,
        frame: Bytes,
        pages: usize,
    ) -> Result<(), OutletError> {
        if state.is_over {
            return Err(OutletError::Over);
        }
        state.retention.push(frame, pages);
        drop(state);
        self.inner.work.notify_one();
        Ok(())
    }

    /// Whether a frame can be sent without waiting.
    pub fn has_room(&self) -> bool {
        let state = self.inner.lock();
        !state.is_over && !state.waits()
    }

    /// Nothing more will be sent.
    pub fn finish(&self) {
        self.inner.lock().is_finished = true;
        self.inner.work.notify_one();
    }

    /// Nobody waits any longer, and nothing more is taken or written.
    pub fn end(&self) {
        self.inner.end();
    }

    /// How many of its frames the target has processed.
    pub fn processed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.inner.processed)
    }
}

fn is_full(retention: &Retention) -> bool {
    retention.waiting_bytes() >= WAITING_BYTES_MAX || retention.kept_bytes() >= KEPT_BYTES_MAX
}

fn is_behind(retention: &Retention) -> bool {
    retention.kept_work() >= KEPT_PAGES_MAX
}

/// All outlets of a migration, and the connection that they write to at the moment.
#[derive(Debug, Default)]
pub struct Outlets {
    outlets: Vec<Arc<Inner>>,
    connection: Option<Connection>,
    limit: Limit,
    writers: JoinSet<()>,
}

impl Outlets {
    /// Writes to this connection from now on, without a limit.
    pub fn begin(connection: Connection) -> Self {
        Self::begin_limited(connection, Limit::default())
    }

    /// Writes to this connection from now on, no more than this.
    pub fn begin_limited(connection: Connection, limit: Limit) -> Self {
        let (outlets, writers) = (Vec::new(), JoinSet::new());
        Self { outlets, connection: Some(connection), limit, writers }
    }

    /// What all streams of the migration share, those of no outlet as well.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// A further stream.
    pub fn open(&mut self, header: StreamHeader, frame_bytes_max: usize) -> Outlet {
        let inner = Arc::new(Inner {
            header,
            frame_bytes_max,
            state: Mutex::default(),
            room: Condvar::new(),
            work: Notify::new(),
            processed: Arc::default(),
        });
        self.outlets.push(Arc::clone(&inner));
        if let Some(connection) = &self.connection {
            self.writers.spawn(write(connection.clone(), Arc::clone(&inner), self.limit.clone()));
        }
        Outlet { inner }
    }

    /// The connection is lost: frames are kept until there is another.
    pub fn detach(&mut self) {
        self.connection = None;
        self.writers.abort_all();
    }

    /// There is another connection, and the target has taken so many frames of each stream.
    ///
    /// # Errors
    /// [`Miscounted`] if that cannot be.
    pub async fn attach(
        &mut self,
        connection: Connection,
        taken: &[(StreamHeader, u64)],
    ) -> Result<(), Miscounted> {
        // What a writer took last is counted as written only once it has ended.
        self.writers.shutdown().await;
        for outlet in &self.outlets {
            outlet.lock().retention.resume(count_of(taken, outlet.header))?;
            self.writers.spawn(write(connection.clone(), Arc::clone(outlet), self.limit.clone()));
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// The target has processed so many frames of each stream.
    ///
    /// # Errors
    /// [`Miscounted`] if that cannot be.
    pub fn processed(&self, counts: &[(StreamHeader, u64)]) -> Result<(), Miscounted> {
        for outlet in &self.outlets {
            let count = count_of(counts, outlet.header);
            outlet.lock().retention.processed(count)?;
            outlet.processed.fetch_max(count, Ordering::Release);
            outlet.room.notify_all();
        }
        Ok(())
    }

    /// Nobody waits any longer.
    pub fn end(&mut self) {
        self.outlets.iter().for_each(|outlet| outlet.end());
        self.detach();
    }
}

impl Drop for Outlets {
    fn drop(&mut self) {
        self.end();
    }
}

fn count_of(counts: &[(StreamHeader, u64)], header: StreamHeader) -> u64 {
    counts.iter().find(|(stream, _)| *stream == header).map_or(0, |(_, count)| *count)
}

/// Writes an outlet's frames to a connection until the end of either. That the connection is lost, its owner notices.
async fn write(connection: Connection, outlet: Arc<Inner>, limit: Limit) {
    let written = write_all(&connection, &outlet, &limit).await;
    if let Err(error) = written {
        let stream = outlet.header;
        tracing::debug!(?stream, error = &error as &dyn std::error::Error, "a stream is cut off");
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("the stream cannot be opened")]
    Open(#[from] novacron_transport::connection::Closed),
    #[error("the stream failed")]
    Frame(#[from] FrameError),
}

/// Device state goes ahead of pages and disks, which share the link evenly; the control stream goes ahead of all.
fn priority(header: StreamHeader) -> i32 {
    match header {
        StreamHeader::Main => 1,
        _ => 0,
    }
}

async fn write_all(
    connection: &Connection,
    outlet: &Inner,
    limit: &Limit,
) -> Result<(), WriteError> {
    let stream = connection.open_uni().await?;
    // Fails only on a stream that is closed, which the next send says.
    let _ = stream.set_priority(priority(outlet.header));
    let mut stream = FramedSend::new(stream, outlet.frame_bytes_max);
    stream.send(codec::encode(&outlet.header).unwrap_or_default().into()).await?;
    while let Some(frame) = outlet.next().await {
        limit.take(frame.len()).await;
        // Whoever aborts this has given the connection up.
        stream.send_uncopied(frame).await?;
    }
    if !outlet.lock().is_over {
        stream.finish().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Bytes {
        Bytes::from_static(b"differences")
    }

    #[test]
    fn a_target_is_behind_with_pages_however_few_bytes_they_are() {
        let mut retention = Retention::default();
        retention.push(frame(), KEPT_PAGES_MAX - 1);
        assert!(!is_behind(&retention));
        retention.push(frame(), 1);
        assert!(is_behind(&retention) && !is_full(&retention));
        while retention.write_next().is_some() {}
        retention.processed(1).unwrap();
        assert!(!is_behind(&retention));
    }

    #[test]
    fn nobody_waits_for_a_target_when_it_is_over() {
        let mut outlets = Outlets::default();
        let outlet = outlets.open(StreamHeader::Lane { lane: 0 }, 1000);
        outlet.send_pages(frame(), KEPT_PAGES_MAX).unwrap();
        let waiting = std::thread::spawn({
            let outlet = outlet.clone();
            move || outlet.wait_for_target()
        });
        outlets.end();
        waiting.join().unwrap();
        assert_eq!(outlet.send(frame()), Err(OutletError::Over));
    }
}
