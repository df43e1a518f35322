//! The data directory of one coordinator.
//!
//! ```text
//! credentials/   its certificate and key          authority/   the cluster's authority (0600)
//! member/        who it is: written last, so a directory with it is complete
//! log/           Raft's log and vote               snapshots/  tables/
//! archive/       files that never change, named in the state
//! keys/          the keys of secrets
//! samples/       what agents measured, for a month
//! ```
//!
//! With `storage_key_file` everything but credentials and authority is encrypted (decision 50).

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use novacron_protocol::ids::{ClusterId, Incarnation, MemberId, RequestId};
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_storage::archive::{Archive, ArchiveError};
use novacron_storage::cipher::{Cipher, EncryptedDisk, FileKind, require_keys};
use novacron_storage::disk::{Disk, DiskError, RealDisk, VolatileDisk};
use novacron_storage::log::{Log, LogError, LogOptions};
use novacron_storage::record::{RecordError, RecordStore};
use novacron_storage::snapshot::{SnapshotError, SnapshotStore};
use novacron_transport::authority::AuthorityError;
use novacron_transport::credentials::CredentialsError;
use novacron_transport::{ClusterAuthority, Credentials};
use serde::{Deserialize, Serialize};

use crate::at_rest::{LockedOut, StorageCipher, StorageKeyError};
use crate::config::{Config, TEST_DISK_VARIABLE, TestDiskConfig, are_tests_allowed};
use crate::raft::machine::{ARCHIVE_DIRECTORY, Machine, MachineError, SNAPSHOTS_DIRECTORY};
use crate::samples::{Samples, files};
use crate::secrets::keyring::{self, Keyring, KeyringError};

const MEMBER_DIRECTORY: &str = "member";
const LOG_DIRECTORY: &str = "log";
/// What `mkfs.ext4` makes.
const LOST_AND_FOUND: &str = "lost+found";
const IDENTITY: &str = "identity";
const ADMISSION: &str = "admission";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The directory cannot be used, or another process has it.
    #[error("cannot use the data directory")]
    Disk(#[from] DiskError),
    /// The keys of its files cannot be used.
    #[error(transparent)]
    StorageKey(#[from] StorageKeyError),
    /// A file needs another key.
    #[error(transparent)]
    Locked(#[from] LockedOut),
    /// Who this member is cannot be read or written.
    #[error("cannot read or write who this member is")]
    Record(#[from] RecordError),
    /// Who this member is makes no sense to this build.
    #[error("who this member is cannot be understood")]
    Codec(#[from] CodecError),
    /// The configuration asks for a disk that loses data.
    #[error(
        "`test_disk` makes a disk that loses data when the process is killed; it is for tests, which set \
         {TEST_DISK_VARIABLE}=1. Take it out of the configuration"
    )]
    TestDisk,
    /// The directory belongs to nobody.
    #[error("{} holds no member: run `init` or `join` first", path.display())]
    NoMember {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is complete already.
    #[error("{} holds member {member} of cluster {cluster} already", path.display())]
    IsMember {
        /// The directory.
        path: PathBuf,
        /// The member.
        member: MemberId,
        /// The cluster.
        cluster: ClusterId,
    },
    /// Its certificate or key cannot be used.
    #[error("the credentials cannot be used")]
    Credentials(#[from] CredentialsError),
    /// The authority cannot be used.
    #[error("the cluster's authority cannot be used")]
    Authority(#[from] AuthorityError),
    /// The log cannot be used.
    #[error("the log cannot be used")]
    Log(#[from] LogError),
    /// The archive cannot be used.
    #[error("the archive cannot be used")]
    Archive(#[from] ArchiveError),
    /// The snapshots cannot be used.
    #[error("the snapshots cannot be used")]
    Snapshots(#[from] SnapshotError),
    /// There is something in a directory that must be new.
    #[error("{} is not empty: a restore makes a data directory of its own, and replaces none", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The state cannot be used.
    #[error("the state cannot be used")]
    Machine(#[from] MachineError),
    /// The keys of secrets cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// Who a member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub member: MemberId,
    /// The life of the cluster that it belongs to.
    pub incarnation: Incarnation,
    /// Addresses of other members' links, until it knows them by itself.
    pub contacts: Vec<String>,
}

impl Message for MemberIdentity {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = 64 * 1024;
    const NAME: &'static str = "identity of a member";
}

/// A coordinator that is enrolled and asks for an id; the request stays the same until it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The request.
    pub request: RequestId,
    /// Addresses of other members' links.
    pub contacts: Vec<String>,
}

impl Message for Admission {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 64 * 1024;
    const NAME: &'static str = "admission of a member";
}

/// The data directory, this process's alone while it is open.
#[derive(Debug)]
pub struct DataDirectory {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    records: RecordStore,
}

impl DataDirectory {
    /// Opens or makes the directory that a configuration names.
    ///
    /// # Errors
    /// [`DirectoryError`]. Nothing is changed if a file needs a key that is not there.
    pub fn open(config: &Config) -> Result<Self, DirectoryError> {
        let cipher = cipher_of(config)?;
        Self::over(Arc::new(RealDisk::open(&config.data_directory)?), config, cipher)
    }

    /// The same, with the disk that the configuration asks for.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open_configured(config: &Config) -> Result<Self, DirectoryError> {
        let Some(TestDiskConfig { faults_directory }) = &config.test_disk else {
            return Self::open(config);
        };
        if !are_tests_allowed() {
            return Err(DirectoryError::TestDisk);
        }
        tracing::warn!("a disk for tests: what was not synced is lost when this process is killed");
        let cipher = cipher_of(config)?;
        let disk = VolatileDisk::open(&config.data_directory, faults_directory.clone())?;
        Self::over(Arc::new(disk), config, cipher)
    }

    fn over(
        disk: Arc<dyn Disk>,
        config: &Config,
        cipher: Option<StorageCipher>,
    ) -> Result<Self, DirectoryError> {
        let disk = match cipher {
            Some(cipher) => Arc::new(EncryptedDisk::new(disk, Arc::new(cipher))),
            None => disk,
        };
        require_all_keys(&*disk)?;
        let records = RecordStore::open(Arc::clone(&disk), MEMBER_DIRECTORY)?;
        if let Err(error) = records.renew() {
            // Whoever needs a record that is damaged says so.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a record keeps its key");
        }
        Ok(Self { disk, root: config.data_directory.clone(), records })
    }

    /// Who this member is.
    ///
    /// # Errors
    /// [`DirectoryError::NoMember`] before `init` or `join`.
    pub fn identity(&self) -> Result<MemberIdentity, DirectoryError> {
        let found = self.read(IDENTITY)?;
        found.ok_or_else(|| DirectoryError::NoMember { path: self.root.clone() })
    }

    /// Refuses a directory that is complete.
    ///
    /// # Errors
    /// [`DirectoryError::IsMember`].
    pub fn require_new(&self) -> Result<(), DirectoryError> {
        match self.read::<MemberIdentity>(IDENTITY)? {
            None => Ok(()),
            Some(MemberIdentity { cluster, member, .. }) => {
                Err(DirectoryError::IsMember { path: self.root.clone(), member, cluster })
            }
        }
    }

    /// Makes the directory complete.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn set_identity(&self, identity: &MemberIdentity) -> Result<(), DirectoryError> {
        self.write(IDENTITY, identity)
    }

    /// The admission under way.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn admission(&self) -> Result<Option<Admission>, DirectoryError> {
        self.read(ADMISSION)
    }

    /// Notes the admission before it is asked for.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn set_admission(&self, admission: &Admission) -> Result<(), DirectoryError> {
        self.write(ADMISSION, admission)
    }

    fn read<M: Message>(&self, name: &str) -> Result<Option<M>, DirectoryError> {
        Ok(self.records.get(name)?.map(|bytes| codec::decode(&bytes)).transpose()?)
    }

    fn write<M: Message>(&self, name: &str, record: &M) -> Result<(), DirectoryError> {
        Ok(self.records.put(name, &codec::encode(record)?)?)
    }

    /// This member's certificate and key.
    ///
    /// # Errors
    /// [`DirectoryError::Credentials`].
    pub fn credentials(&self) -> Result<Credentials, DirectoryError> {
        Ok(Credentials::load(&self.root.join("credentials"))?)
    }

    /// Keeps this member's certificate and key.
    ///
    /// # Errors
    /// [`DirectoryError::Credentials`].
    pub fn save_credentials(&self, credentials: &Credentials) -> Result<(), DirectoryError> {
        Ok(credentials.save(&self.root.join("credentials"))?)
    }

    /// The cluster's authority.
    ///
    /// # Errors
    /// [`DirectoryError::Authority`].
    pub fn authority(&self) -> Result<ClusterAuthority, DirectoryError> {
        Ok(ClusterAuthority::load(&self.root.join("authority"))?)
    }

    /// Whether there is an authority.
    pub fn has_authority(&self) -> bool {
        self.root.join("authority").join("ca.pem").exists()
    }

    /// Keeps the cluster's authority.
    ///
    /// # Errors
    /// [`DirectoryError::Authority`].
    pub fn save_authority(&self, authority: &ClusterAuthority) -> Result<(), DirectoryError> {
        Ok(authority.save(&self.root.join("authority"))?)
    }

    /// Raft's log, checked whole.
    ///
    /// # Errors
    /// [`DirectoryError::Log`], with file and offset if it is damaged.
    pub fn open_log(&self) -> Result<Log, DirectoryError> {
        Ok(Log::open(Arc::clone(&self.disk), LOG_DIRECTORY, LogOptions::default())?)
    }

    /// The archive, for whoever writes its first files.
    ///
    /// # Errors
    /// [`DirectoryError::Archive`].
    pub(crate) fn open_archive(&self) -> Result<Archive, DirectoryError> {
        Ok(Archive::open(Arc::clone(&self.disk), ARCHIVE_DIRECTORY)?)
    }

    /// The keys of secrets; `key_file` holds the key that they are encrypted with here, if they are.
    ///
    /// # Errors
    /// [`DirectoryError::Keyring`].
    pub fn open_keyring(&self, key_file: Option<&Path>) -> Result<Keyring, DirectoryError> {
        Ok(Keyring::open(Arc::clone(&self.disk), key_file)?)
    }

    /// What agents measured.
    ///
    /// # Errors
    /// [`DirectoryError::Disk`].
    pub(crate) fn open_samples(&self) -> Result<Samples, DirectoryError> {
        Ok(Samples::open(Arc::clone(&self.disk))?)
    }

    /// The snapshots, for whoever writes the first one.
    ///
    /// # Errors
    /// [`DirectoryError::Snapshots`].
    pub(crate) fn open_snapshots(&self) -> Result<SnapshotStore, DirectoryError> {
        Ok(SnapshotStore::open(Arc::clone(&self.disk), SNAPSHOTS_DIRECTORY)?)
    }

    /// Refuses a directory that has anything in it, but for what every new file system has.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`].
    pub fn require_empty(root: &Path) -> Result<(), DirectoryError> {
        let in_use = || DirectoryError::InUse { path: root.to_owned() };
        match std::fs::read_dir(root) {
            // What is not there will be made; what cannot be looked into says so when it is opened.
            Err(_) => Ok(()),
            Ok(mut entries) => match entries.any(is_of_somebody) {
                false => Ok(()),
                true => Err(in_use()),
            },
        }
    }

    /// The state machine.
    ///
    /// # Errors
    /// [`DirectoryError::Machine`].
    pub fn open_machine(&self) -> Result<Machine, DirectoryError> {
        Ok(Machine::open(Arc::clone(&self.disk), &self.root)?)
    }
}

fn cipher_of(config: &Config) -> Result<Option<StorageCipher>, StorageKeyError> {
    let cipher = config.storage_key_file.as_deref().map(StorageCipher::load).transpose()?;
    if let Some(key) = cipher.as_ref().and_then(|cipher| cipher.keys().first().copied()) {
        tracing::info!(%key, "what this coordinator writes to its disk is encrypted");
    }
    Ok(cipher)
}

/// Whether everything in the directory can be read with the keys that there are. Asked before any of it is touched.
fn require_all_keys(disk: &dyn Disk) -> Result<(), DirectoryError> {
    let own = [
        (LOG_DIRECTORY, ".log"),
        (SNAPSHOTS_DIRECTORY, ".snapshot"),
        (ARCHIVE_DIRECTORY, ".archive"),
        (MEMBER_DIRECTORY, ".record"),
        (keyring::DIRECTORY, ".record"),
    ];
    let own = own.map(|(directory, suffix)| FileKind { directory: Path::new(directory), suffix });
    let samples = files::directories();
    let of_samples = samples.iter().map(|(directory, suffix)| FileKind { directory, suffix });
    let kinds: Vec<_> = own.into_iter().chain(of_samples).collect();
    Ok(require_keys(disk, &kinds)?.map_err(LockedOut::from)?)
}

/// What cannot be read is somebody's.
fn is_of_somebody(entry: std::io::Result<DirEntry>) -> bool {
    entry.map_or(true, |entry| entry.file_name() != LOST_AND_FOUND)
}
