//! The whole state of the cluster for a backup: at one revision, with what a cluster needs to come back as itself.
//!
//! What comes out holds the key of the cluster's authority. It leaves a coordinator only inside TLS, to somebody who
//! may administer the cluster, and so could have the key by letting a coordinator join; whoever takes it encrypts it
//! before it touches a disk (`novacron cluster backup`), so the key of the backup never travels at all.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::backup::{BackupEncoder, BackupHead, PartKind};
use novacron_protocol::ids::{ClusterId, RequestId, Revision};
use novacron_protocol::time::Timestamp;
use novacron_transport::ClusterAuthority;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::auth::Authorized;
use crate::history::{History, HistoryError};
use crate::propose::{Intent, ProposeError, Proposer};
use crate::secrets::keyring::{Keyring, KeyringError};
use crate::state::Fleet;
use crate::state::secret::keys::SecretKeys;
use crate::state::table::RowError;
use crate::view::{ReadError, View};

/// Backups at once: each holds the whole state in memory, some 50 MB for 20,000 machines.
const BACKUPS_MAX: usize = 1;

/// Bytes that are given out at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// How long the archive may be behind the state: one slow disk.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one is under way here.
    #[error(
        "another backup is under way at this coordinator: wait for its end, or ask another coordinator"
    )]
    Busy,
    /// It could not be noted in the audit log.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The state could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The state cannot be written.
    #[error("the state cannot be written")]
    Row(#[from] RowError),
    /// The archive cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A file of the archive is not here yet.
    #[error(
        "{missing} files of the archive are not on this coordinator yet; they are being fetched from another: try \
         again, or ask another coordinator"
    )]
    Incomplete {
        /// How many.
        missing: usize,
    },
    /// A key of secrets is not here yet.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The task that did it ended.
    #[error("the backup was broken off")]
    Task(#[from] JoinError),
    /// There is no cluster yet.
    #[error("the cluster is not founded yet")]
    NoCluster,
    /// What the backup is of cannot be written.
    #[error("the head of the backup cannot be written")]
    Head(#[from] serde_json::Error),
}

impl BackupError {
    /// The whole answer of the API.
    pub fn to_problem(&self) -> Problem {
        let code = match self {
            Self::Busy => Code::Conflict,
            Self::Incomplete { .. } | Self::Keyring(_) => Code::Unavailable,
            Self::Propose(error) => return error.to_problem(),
            Self::Read(error) => return error.to_problem(),
            Self::History(error) => return error.to_problem(),
            _ => Code::Internal,
        };
        if code == Code::Internal {
            tracing::error!(error = self as &dyn std::error::Error, "no backup can be made");
        }
        Problem::new(code, self.to_string())
    }
}

/// Makes backups. Cheap to clone.
#[derive(Clone)]
pub struct Backups {
    proposer: Proposer,
    view: View,
    authority: Arc<ClusterAuthority>,
    history: History,
    keyring: Keyring,
    places: Arc<Semaphore>,
}

/// The state at one revision.
struct Moment {
    cluster: Option<ClusterId>,
    revision: Revision,
    at: Timestamp,
    machines: u64,
    state: Vec<u8>,
    files: Vec<String>,
    keys: SecretKeys,
}

impl Backups {
    pub(crate) fn new(
        proposer: Proposer,
        view: View,
        authority: Arc<ClusterAuthority>,
        history: History,
        keyring: Keyring,
    ) -> Self {
        let places = Arc::new(Semaphore::new(BACKUPS_MAX));
        Self { proposer, view, authority, history, keyring, places }
    }

    /// Begins a backup of everything that was acknowledged before the call. The audit log has it before anybody gets a
    /// byte of it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn begin(
        &self,
        request: RequestId,
        asked: Authorized<Intent>,
    ) -> Result<Backup, BackupError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| BackupError::Busy)?;
        // A copy that shares rows: nothing waits while it is encoded.
        let read = self.view.read(|fleet| (fleet.frozen(), fleet.machines_alive()));
        let (fleet, machines) = read.await?;
        let moment = spawn_blocking(move || Moment::of(&fleet, machines)).await??;
        self.require_files(&moment).await?;
        let (head, keys) = (head(&moment)?, self.keyring.lines(moment.keys.wanted())?);
        self.proposer.submit(request, asked).await?;
        tracing::info!(revision = %moment.revision, files = moment.files.len(), "a backup begins");
        Ok(Backup {
            history: self.history.clone(),
            encoder: None,
            rest: self.parts(head, keys, moment.state, moment.files),
            current: Bytes::new(),
            _place: place,
        })
    }

    /// Waits until what left the state is in the archive, and looks whether all of it is.
    async fn require_files(&self, moment: &Moment) -> Result<(), BackupError> {
        let mut applied = self.view.applied();
        let is_written = applied.wait_for(|applied| *applied >= moment.revision.0);
        // An error says that consensus has ended here.
        let written = timeout(WRITE_TIMEOUT, is_written).await.map(|found| found.is_ok());
        if written != Ok(true) {
            return Err(ReadError::Unavailable.into());
        }
        let missing = self.history.stock()?.missing;
        let missing = missing.iter().filter(|(name, _)| moment.files.contains(name)).count();
        if missing > 0 { Err(BackupError::Incomplete { missing }) } else { Ok(()) }
    }

    fn parts(
        &self,
        head: Vec<u8>,
        keys: String,
        state: Vec<u8>,
        files: Vec<String>,
    ) -> VecDeque<Source> {
        let part = |kind, content: Bytes| Source::Part { kind, content };
        let certificate = self.authority.bundle_pem().to_owned().into();
        let mut parts = VecDeque::from([
            Source::Begin,
            part(PartKind::Head, head.into()),
            part(PartKind::AuthorityCertificate, certificate),
            part(PartKind::AuthorityKey, self.authority.key_pem().into()),
            part(PartKind::SecretKeys, keys.into()),
            part(PartKind::State, state.into()),
        ]);
        parts.extend(files.into_iter().map(Source::Archived));
        parts.push_back(Source::End);
        parts
    }
}

impl Moment {
    fn of(fleet: &Fleet, machines: usize) -> Result<Self, RowError> {
        Ok(Self {
            cluster: fleet.cluster(),
            revision: fleet.revision(),
            at: fleet.clock(),
            machines: machines as u64,
            state: fleet.to_snapshot()?,
            files: fleet.archives().map(|(name, _)| name.to_owned()).collect(),
            keys: fleet.secret_keys(),
        })
    }
}

fn head(moment: &Moment) -> Result<Vec<u8>, BackupError> {
    let head = BackupHead {
        cluster: moment.cluster.ok_or(BackupError::NoCluster)?,
        revision: moment.revision,
        at: moment.at,
        state_hash: format!("{:032x}", Fleet::hash_of_snapshot(&moment.state)),
        machines: moment.machines,
        archived_files: moment.files.len() as u64,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(serde_json::to_vec(&head)?)
}

/// What a backup is made of.
enum Source {
    Begin,
    Part { kind: PartKind, content: Bytes },
    Archived(String),
    End,
}

/// A backup on its way to a client. Nothing is done unless somebody takes the next bytes.
pub struct Backup {
    history: History,
    encoder: Option<BackupEncoder>,
    rest: VecDeque<Source>,
    /// What is left of the part that is being given out.
    current: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Backup {
    /// The next bytes; none after the last. An error is the end of it, and the bytes so far are no backup.
    ///
    /// # Errors
    /// An archived file that cannot be read or is damaged here.
    pub async fn next_bytes(&mut self) -> io::Result<Option<Bytes>> {
        if !self.current.is_empty() {
            let bytes = self.current.split_to(self.current.len().min(CHUNK_BYTES));
            self.encoder.as_mut().ok_or(io::ErrorKind::InvalidInput)?.content(&bytes);
            return Ok(Some(bytes));
        }
        let Some(source) = self.rest.pop_front() else { return Ok(None) };
        self.start(source).await.map(Some)
    }

    async fn start(&mut self, source: Source) -> io::Result<Bytes> {
        let begin = match source {
            Source::Begin => {
                let (encoder, first) = BackupEncoder::begin();
                self.encoder = Some(encoder);
                first
            }
            Source::Part { kind, content } => self.start_part(kind, "", content)?,
            Source::Archived(name) => {
                let content = self.read(name.clone()).await?;
                self.start_part(PartKind::Archived, &name, content)?
            }
            Source::End => {
                let encoder = self.encoder.take().ok_or(io::ErrorKind::InvalidInput)?;
                encoder.end()
            }
        };
        Ok(begin.into())
    }

    fn start_part(&mut self, kind: PartKind, name: &str, content: Bytes) -> io::Result<Vec<u8>> {
        let encoder = self.encoder.as_mut().ok_or(io::ErrorKind::InvalidInput)?;
        let head = encoder.part(kind, name, content.len() as u64);
        self.current = content;
        Ok(head)
    }

    async fn read(&self, name: String) -> io::Result<Bytes> {
        let read = self.history.whole(&name).await;
        read.map(Bytes::from).map_err(|error| {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(name, error = cause, "a backup ends at an archived file");
            io::Error::other(error)
        })
    }
}
