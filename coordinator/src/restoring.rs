//! How a cluster comes back from a backup: as the same cluster, in another life, with one member.
//!
//! Everything is checked before anything is written: the backup is read to its end, decrypted, and its state loaded.
//! Who the member is is written last, so a directory that a restore left by half is no member, and is removed before
//! the next try.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use novacron_protocol::backup::{
    BACKUP_PURPOSE, BackupError, BackupHead, BackupReader, Part, PartKind,
};
use novacron_protocol::ids::{Incarnation, MemberId, Revision};
use novacron_storage::Damage;
use novacron_storage::archive::{self, ArchiveError, ContentHash};
use novacron_transport::authority::{AuthorityError, Grant};
use novacron_transport::endpoint::EndpointError;
use novacron_transport::{ClusterAuthority, Credentials, Role};
use novacron_vault::{EncryptedReader, KeyError, KeyFileError, Vault, VaultError, VaultKey};
use tokio::time::timeout;

use crate::clock::{Clock, new_request};
use crate::config::Config;
use crate::coordinator::{Core, StartError};
use crate::directory::{DataDirectory, DirectoryError, MemberIdentity};
use crate::founding::{alone, facts};
use crate::peers::{Answer, Call, Committed, LeaderError};
use crate::raft::MemberNode;
use crate::raft::restored::{self, BeginError};
use crate::secrets::keyring::parse_keys;
use crate::state::incarnation::{REVISIONS_GAP, Restored};
use crate::state::rows::SnapshotError;
use crate::state::secret::keys::SecretKeyId;
use crate::state::{Body, Command, Fleet};

/// How long the new life may take to begin: one election of one member, one commit.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a cluster cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The backup cannot be decrypted: another key, or it is not as it was written.
    #[error("the backup cannot be decrypted")]
    Encrypted(#[source] VaultError),
    /// What was encrypted is no whole backup.
    #[error("the backup cannot be used")]
    Backup(#[source] BackupError),
    /// Something that a cluster needs is missing.
    #[error("the backup holds no {0}")]
    Missing(&'static str),
    /// A part cannot be understood.
    #[error("the head of the backup cannot be understood")]
    Head(#[from] serde_json::Error),
    /// A part that should be text is none.
    #[error("a part of the backup that should be text is none")]
    NoText,
    /// The authority cannot be used.
    #[error("the cluster's authority in the backup cannot be used")]
    Authority(#[from] AuthorityError),
    /// The keys of secrets are none.
    #[error("the keys of secrets in the backup cannot be read")]
    Keys(#[from] KeyError),
    /// State and authority are of two clusters, or the state is not the one of the head.
    #[error("the parts of the backup do not belong together: {0}")]
    Disagrees(&'static str),
    /// The state cannot be read by this build.
    #[error("the state in the backup cannot be read")]
    State(#[from] SnapshotError),
    /// An archived file is not whole.
    #[error("the archived file `{name}` in the backup is damaged at offset {offset}: {damage}")]
    Archived {
        /// The file.
        name: String,
        /// Where.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// An archived file cannot be written.
    #[error("an archived file cannot be written")]
    Archive(#[from] ArchiveError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The beginning cannot be written.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// Consensus could not be started.
    #[error(transparent)]
    Start(#[from] Box<StartError>),
    /// A socket could not be made.
    #[error("cannot open a socket")]
    Endpoint(#[from] EndpointError),
    /// The restored cluster did not come to life.
    #[error("the restored cluster did not come to life: {0}")]
    NoCluster(String),
}

impl From<BackupError> for RestoreError {
    fn from(error: BackupError) -> Self {
        match &error {
            BackupError::Read(source) => match VaultError::inside(source) {
                Some(encrypted) => Self::Encrypted(encrypted.clone()),
                None => Self::Backup(error),
            },
            _ => Self::Backup(error),
        }
    }
}

impl From<LeaderError> for RestoreError {
    fn from(error: LeaderError) -> Self {
        Self::NoCluster(error.to_string())
    }
}

/// A backup in a file, and the key to it.
#[derive(Debug)]
pub struct BackupFile {
    path: PathBuf,
    vault: Vault,
}

/// What was found in a whole backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Of what it is.
    pub head: BackupHead,
    /// What contradicts itself in the state, if anything does. The cluster lived with it, and so would a restored one.
    pub contradiction: Option<String>,
}

/// What a whole backup holds, but for the contents of archived files.
struct Checked {
    head: BackupHead,
    authority: ClusterAuthority,
    keys: Vec<VaultKey>,
    state: Vec<u8>,
    fleet: Fleet,
}

impl BackupFile {
    /// The file `path`, which the key in `key_file` decrypts.
    ///
    /// # Errors
    /// [`RestoreError::Key`], [`RestoreError::Encrypted`].
    pub fn new(path: &Path, key_file: &Path) -> Result<Self, RestoreError> {
        let key = VaultKey::load(key_file)?;
        let vault = Vault::new(BACKUP_PURPOSE, vec![key]).map_err(RestoreError::Encrypted)?;
        Ok(Self { path: path.to_owned(), vault })
    }

    fn open(&self) -> Result<BackupReader<EncryptedReader<BufReader<File>>>, RestoreError> {
        let failed = |source| RestoreError::Read { path: self.path.clone(), source };
        let file = BufReader::new(File::open(&self.path).map_err(failed)?);
        let opened = EncryptedReader::new(file, &self.vault, b"").map_err(BackupError::Read)?;
        Ok(BackupReader::new(opened)?)
    }

    /// Reads all of it and checks what can be checked. Writes nothing.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn check(&self) -> Result<Inspection, RestoreError> {
        let Checked { head, fleet, .. } = self.checked()?;
        Ok(Inspection { head, contradiction: fleet.check().err() })
    }

    fn checked(&self) -> Result<Checked, RestoreError> {
        let mut reader = self.open()?;
        let (mut head, mut certificate, mut key, mut state) = (None, None, None, None);
        let mut keys = Vec::new();
        let mut files = BTreeMap::new();
        while let Some(Part { kind, name, content }) = reader.next_part()? {
            match kind {
                PartKind::Head => head = Some(serde_json::from_slice::<BackupHead>(&content)?),
                PartKind::AuthorityCertificate => certificate = Some(text(content)?),
                PartKind::AuthorityKey => key = Some(text(content)?),
                PartKind::State => state = Some(content),
                PartKind::Archived => {
                    let hash = archived(&name, &content)?;
                    files.insert(name, hash);
                }
                PartKind::SecretKeys => keys = parse_keys(&text(content)?)?,
                PartKind::End => {}
            }
        }
        let head = head.ok_or(RestoreError::Missing("head"))?;
        let certificate =
            certificate.ok_or(RestoreError::Missing("certificate of an authority"))?;
        let key = key.ok_or(RestoreError::Missing("key of an authority"))?;
        let authority = ClusterAuthority::from_pem(&certificate, &key)?;
        let state = state.ok_or(RestoreError::Missing("state"))?;
        let fleet = Fleet::from_snapshot(&state)?;
        agree(&head, &authority, &state, &fleet, &files)?;
        require_keys(&fleet, &keys)?;
        Ok(Checked { head, authority, keys, state, fleet })
    }

    /// Gives the archived files to `take`.
    fn visit_archived(
        &self,
        mut take: impl FnMut(&str, &[u8], &ContentHash) -> Result<(), ArchiveError>,
    ) -> Result<(), RestoreError> {
        let mut reader = self.open()?;
        while let Some(part) = reader.next_part()? {
            if part.kind == PartKind::Archived {
                let hash = archived(&part.name, &part.content)?;
                take(&part.name, &part.content, &hash)?;
            }
        }
        Ok(())
    }
}

fn text(content: Vec<u8>) -> Result<String, RestoreError> {
    String::from_utf8(content).map_err(|_| RestoreError::NoText)
}

fn archived(name: &str, bytes: &[u8]) -> Result<ContentHash, RestoreError> {
    let damaged =
        |(offset, damage)| RestoreError::Archived { name: name.to_owned(), offset, damage };
    let (found, hash, _) = archive::inspect(bytes).map_err(damaged)?;
    if found != name {
        return Err(damaged((0, Damage::Misplaced(format!("archived file {found:?}")))));
    }
    Ok(hash)
}

/// Whether the secrets in the state can be decrypted.
fn require_keys(fleet: &Fleet, keys: &[VaultKey]) -> Result<(), RestoreError> {
    let is_there = |id| keys.iter().any(|key| SecretKeyId::from(key.id()) == id);
    let mut wanted = fleet.secret_keys().wanted();
    match wanted.all(is_there) {
        true => Ok(()),
        false => Err(RestoreError::Missing("key that its secrets are encrypted with")),
    }
}

/// Whether the parts of a backup are of one cluster at one revision.
fn agree(
    head: &BackupHead,
    authority: &ClusterAuthority,
    state: &[u8],
    fleet: &Fleet,
    files: &BTreeMap<String, ContentHash>,
) -> Result<(), RestoreError> {
    if fleet.cluster() != Some(head.cluster) || authority.cluster() != head.cluster {
        return Err(RestoreError::Disagrees("they are of two clusters"));
    }
    let hash = format!("{:032x}", Fleet::hash_of_snapshot(state));
    if fleet.revision() != head.revision || hash != head.state_hash {
        return Err(RestoreError::Disagrees("the state is of another moment than the head"));
    }
    let named = fleet.archives().map(|(name, row)| (name.to_owned(), ContentHash(row.hash)));
    if *files != named.collect() {
        return Err(RestoreError::Disagrees(
            "the archived files are not those that the state names",
        ));
    }
    Ok(())
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    /// Of which backup.
    pub head: BackupHead,
    /// The new life.
    pub incarnation: Incarnation,
    /// Its first member.
    pub member: MemberId,
}

/// Makes the first member of a cluster's new life, in a data directory that is not there or empty.
///
/// # Errors
/// [`RestoreError`]. What cannot be used is said before anything is written.
pub async fn restore(
    config: &Config,
    backup: &BackupFile,
    clock: Clock,
) -> Result<Restoration, RestoreError> {
    DataDirectory::require_empty(&config.data_directory)?;
    let Checked { head, authority, keys, state, fleet } = backup.checked()?;
    let member = fleet.next_first_member();
    let incarnation = fleet.incarnation().next().max(Incarnation(clock.now().unix_ms));
    drop(fleet);
    let directory = DataDirectory::open(config)?;
    let credentials = write_credentials(config, &directory, &authority, &clock)?;
    let archive = directory.open_archive()?;
    backup.visit_archived(|name, bytes, hash| archive.put_physical(name, bytes, hash))?;
    let keyring = directory.open_keyring(config.secret_key_file.as_deref())?;
    for key in keys.into_iter().rev() {
        keyring.add(key, &[]).map_err(DirectoryError::from)?;
    }
    drop(keyring);
    write_beginning(config, &directory, member, head.revision, &state)?;
    let restored = Restored { incarnation, member, facts: facts(config) };
    let own = (member, incarnation);
    let begin = async |core: &Core| begin_life(core, restored, &clock).await;
    let work = alone::<RestoreError>(config, &directory, &credentials, own, clock.clone(), begin);
    let late = |_| RestoreError::NoCluster("it took too long".to_owned());
    timeout(BEGIN_TIMEOUT, work).await.map_err(late)??;
    let (cluster, contacts) = (head.cluster, Vec::new());
    directory.set_identity(&MemberIdentity { cluster, member, incarnation, contacts })?;
    Ok(Restoration { head, incarnation, member })
}

fn write_credentials(
    config: &Config,
    directory: &DataDirectory,
    authority: &ClusterAuthority,
    clock: &Clock,
) -> Result<Credentials, RestoreError> {
    directory.save_authority(authority)?;
    let grant = Grant::new(Role::Coordinator, config.name.clone(), clock.now());
    let credentials = authority.issue(&grant.with_hosts(config.hosts()))?;
    directory.save_credentials(&credentials)?;
    Ok(credentials)
}

fn write_beginning(
    config: &Config,
    directory: &DataDirectory,
    member: MemberId,
    revision: Revision,
    state: &[u8],
) -> Result<(), RestoreError> {
    let last = Revision(revision.0.saturating_add(REVISIONS_GAP));
    let (mut log, snapshots) = (directory.open_log()?, directory.open_snapshots()?);
    let first = (member, MemberNode::from(facts(config)));
    Ok(restored::begin(&mut log, &snapshots, first, last, state)?)
}

async fn begin_life(core: &Core, restored: Restored, clock: &Clock) -> Result<(), RestoreError> {
    let at = clock.now();
    let body = Body::BeginIncarnation(restored);
    let command = Command::of_cluster(new_request(at), at, body);
    match core.leader.call(Call::Propose(Box::new(command))).await? {
        Answer::Reply(Committed { reply: Ok(_), .. }) => Ok(()),
        other => Err(RestoreError::NoCluster(format!("{other:?}"))),
    }
}
