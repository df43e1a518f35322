//! One connection: a writer task that owns the sending half, a reader task that owns the receiving half and
//! never waits for anybody, and a table of the commands that wait for an answer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::line::{is_flood, read_line};
use super::{Command, Event, QmpError};

/// Commands that wait to be written. More than this means that QEMU has not read for long.
const COMMANDS_WAITING_MAX: usize = 64;

/// Events that a slow subscriber may be behind before it loses the oldest.
const EVENTS_BEHIND_MAX: usize = 256;

/// A connection to one QEMU. Clones share it; it closes when the last one is gone or QEMU ends.
#[derive(Debug, Clone)]
pub struct Qmp {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    events: broadcast::Sender<Event>,
    closed: watch::Receiver<bool>,
    next_id: AtomicU64,
    has_oob: bool,
    path: PathBuf,
}

type Reply = Result<Value, Failure>;

/// Who waits for which answer. Emptied, and so everyone told, when the connection closes.
#[derive(Debug, Default)]
struct Waiting(Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>);

impl Waiting {
    fn open() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    fn with<R>(
        &self,
        act: impl FnOnce(&mut HashMap<u64, oneshot::Sender<Reply>>) -> R,
    ) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(act)
    }

    fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// QEMU's `error` member.
#[derive(Debug, Deserialize)]
struct Failure {
    class: String,
    desc: String,
}

/// Any line that QEMU sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<Failure>,
    id: Option<u64>,
    event: Option<String>,
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    qmp: Offer,
}

#[derive(Debug, Deserialize)]
struct Offer {
    #[serde(default)]
    capabilities: Vec<String>,
}

/// Connects to the socket at `path` and negotiates; `deadline` bounds all of it.
///
/// # Errors
/// [`QmpError::Connect`] if nobody listens, [`QmpError::Deadline`] if QEMU does not greet (it serves another
/// client, or hangs), [`QmpError::Unreadable`] if what greets is not QEMU.
pub async fn connect(path: &Path, deadline: Duration) -> Result<Qmp, QmpError> {
    tokio::time::timeout(deadline, negotiate(path))
        .await
        .map_err(|_| QmpError::Deadline { command: "greeting", deadline_ms: millis(deadline) })?
}

async fn negotiate(path: &Path) -> Result<Qmp, QmpError> {
    let failed = |source| QmpError::Connect { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).await.map_err(failed)?;
    let (read_half, write_half) = stream.into_split();
    let mut reader = BufReader::new(read_half);
    let mut line = Vec::new();
    if !read_line(&mut reader, &mut line).await.map_err(failed)? {
        return Err(QmpError::Closed);
    }
    let greeting: Greeting = serde_json::from_slice(&line)
        .map_err(|source| QmpError::Unreadable { command: "greeting", source })?;
    let has_oob = greeting.qmp.capabilities.iter().any(|capability| capability == "oob");
    let qmp = open(path, reader, write_half, has_oob);
    let enable: &[&str] = if has_oob { &["oob"] } else { &[] };
    qmp.run("qmp_capabilities", json!({ "enable": enable }), false, Duration::from_secs(10))
        .await?;
    Ok(qmp)
}

fn open(
    path: &Path,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    has_oob: bool,
) -> Qmp {
    let (commands, queue) = mpsc::channel(COMMANDS_WAITING_MAX);
    let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
    let (closed_sender, closed) = watch::channel(false);
    let waiting = Arc::new(Waiting::open());
    let reading = read_all(reader, Arc::clone(&waiting), events.clone());
    let writing = write_all(writer, queue);
    let ended = Arc::clone(&waiting);
    tokio::spawn(async move {
        // Whichever ends first ends the connection: QEMU is gone, or nobody holds a handle any more.
        tokio::select! {
            biased;
            () = reading => (),
            () = writing => (),
        }
        ended.close();
        closed_sender.send_replace(true);
    });
    let next_id = AtomicU64::new(1);
    let path = path.to_owned();
    Qmp { shared: Arc::new(Shared { commands, waiting, events, closed, next_id, has_oob, path }) }
}

async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        if let Err(error) = writer.write_all(&bytes).await {
            tracing::debug!(%error, "QMP connection cannot be written");
            return;
        }
    }
}

async fn read_all(
    mut reader: BufReader<OwnedReadHalf>,
    waiting: Arc<Waiting>,
    events: broadcast::Sender<Event>,
) {
    let mut line = Vec::new();
    loop {
        match read_line(&mut reader, &mut line).await {
            Ok(true) if is_flood(&line) => (),
            Ok(true) => take_line(&line, &waiting, &events),
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "QMP connection cannot be read");
                return;
            }
        }
    }
}

fn take_line(bytes: &[u8], waiting: &Waiting, events: &broadcast::Sender<Event>) {
    let line: Line = match serde_json::from_slice(bytes) {
        Ok(line) => line,
        Err(error) => {
            tracing::warn!(%error, "QEMU sent a line that is not QMP");
            return;
        }
    };
    if let Some(name) = line.event {
        // Without subscribers nobody misses it.
        let _ = events.send(Event::parse(&name, line.data));
        return;
    }
    let reply = match line.error {
        Some(failure) => Err(failure),
        None => Ok(line.answer.unwrap_or(Value::Null)),
    };
    let waiter = line.id.and_then(|id| waiting.with(|table| table.remove(&id)).flatten());
    if let Some(waiter) = waiter {
        // A waiter whose deadline passed is gone; its answer is worth nothing.
        let _ = waiter.send(reply);
    }
}

impl Qmp {
    /// Carries out a command.
    ///
    /// Cancel-safe in that nothing breaks, but a command that was sent is carried out all the same.
    ///
    /// # Errors
    /// [`QmpError`]; after [`QmpError::Deadline`] QEMU may still carry it out.
    pub async fn execute<C: Command>(&self, command: &C) -> Result<C::Answer, QmpError> {
        self.execute_within(command, C::DEADLINE).await
    }

    /// As [`Self::execute`] with another deadline.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn execute_within<C: Command>(
        &self,
        command: &C,
        deadline: Duration,
    ) -> Result<C::Answer, QmpError> {
        let unreadable = |source| QmpError::Unreadable { command: C::NAME, source };
        let arguments = serde_json::to_value(command).map_err(unreadable)?;
        let answer = self.run(C::NAME, arguments, C::OUT_OF_BAND, deadline).await?;
        serde_json::from_value(answer).map_err(unreadable)
    }

    async fn run(
        &self,
        name: &'static str,
        arguments: Value,
        out_of_band: bool,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let outcome = within(deadline, self.exchange(id, name, arguments, out_of_band));
        let Some(reply) = outcome.await else {
            self.shared.waiting.with(|table| table.remove(&id));
            return Err(QmpError::Deadline { command: name, deadline_ms: millis(deadline) });
        };
        reply?.map_err(|Failure { class, desc }| QmpError::Refused { command: name, class, desc })
    }

    async fn exchange(
        &self,
        id: u64,
        name: &'static str,
        arguments: Value,
        out_of_band: bool,
    ) -> Result<Reply, QmpError> {
        let verb = if out_of_band && self.shared.has_oob { "exec-oob" } else { "execute" };
        let mut line = json!({ verb: name, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        let (sender, receiver) = oneshot::channel();
        self.shared.waiting.with(|table| table.insert(id, sender)).ok_or(QmpError::Closed)?;
        self.shared.commands.send(line.into_bytes()).await.map_err(|_| QmpError::Closed)?;
        receiver.await.map_err(|_| QmpError::Closed)
    }

    /// Events from now on. A subscriber that is too far behind loses the oldest and is told.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Returns once the connection is closed, which is soon after QEMU ended. Cancel-safe.
    pub async fn closed(&self) {
        // An error means that the sender is gone, which is closed as well.
        let _ = self.shared.closed.clone().wait_for(|closed| *closed).await;
    }

    /// Whether the connection is closed already.
    pub fn is_closed(&self) -> bool {
        *self.shared.closed.borrow()
    }

    /// The socket of this connection.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

/// Parts of a deadline.
const PARTS: u32 = 10;

/// What comes of `work` within that time. Time in which this process itself stood still, because the host was too busy or a
/// disk stalled, counts as one part of it at most: an answer may lie there unread.
async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    for _ in 0..PARTS {
        if let Ok(done) = tokio::time::timeout(deadline / PARTS, &mut work).await {
            return Some(done);
        }
    }
    None
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn time_in_which_this_process_stood_still_is_not_held_against_qemu() {
        let (answers, answer) = oneshot::channel();
        let mut waiting = Box::pin(within(DEADLINE, answer));
        assert!((&mut waiting).now_or_never().is_none());
        advance(10 * DEADLINE).await;
        assert!((&mut waiting).now_or_never().is_none(), "the answer was not read yet");
        answers.send(7).unwrap();
        assert_eq!(waiting.await, Some(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_as_long_as_it_says() {
        let began = tokio::time::Instant::now();
        assert_eq!(within(DEADLINE, std::future::pending::<()>()).await, None);
        let took = began.elapsed();
        assert!((DEADLINE..DEADLINE + Duration::from_millis(100)).contains(&took), "{took:?}");
    }
}
