//! How much one client may ask of this coordinator, so that it cannot stop or slow it for others.
//!
//! Each limit is about one source, or about one principal: whoever passes it is refused, and nobody else notices.
//! Members count for themselves, so a client that asks all of them has the limits of each.
//!
//! | module | holds |
//! |---|---|
//! | [`limits`] | the numbers, as operators set them |
//! | [`bucket`] [`buckets`] | how often: token buckets, which are told the time |
//! | [`places`] | how many at once |
//! | [`source`] | what counts as one source |
//! | [`lobby`] [`visits`] | connections, and which of them go when others need their places |
//! | [`keep`] | bytes that are kept for one: answers that it has not read, bodies that it has not sent whole |
//! | [`scans`] | reads whose cost grows with the fleet |

pub mod bucket;
pub mod buckets;
pub mod keep;
pub mod limits;
mod lobby;
pub mod places;
mod scans;
pub mod source;
mod visits;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use novacron_protocol::api::{Code, Problem};
use novacron_transport::SubjectName;

use buckets::Buckets;
use keep::{Keep, Kept};
pub use limits::Limits;
use places::{Place, Places};
pub use scans::ScanPlace;
use scans::Scans;
use source::Source;
use visits::Visits;
pub use visits::{Asking, Visit};

/// The doors of one coordinator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Doors>);

#[derive(Debug)]
struct Doors {
    limits: Limits,
    began: Instant,
    visits: Arc<Visits>,
    connecting: Mutex<Buckets<Source>>,
    strangers: Mutex<Buckets<Source>>,
    at_once: Arc<Places<SubjectName>>,
    requests: Mutex<Buckets<SubjectName>>,
    answers: Arc<Keep<SubjectName>>,
    bodies: Arc<Keep<SubjectName>>,
    scans: Arc<Scans>,
    digs: Arc<Scans>,
}

/// A request that was let in; others may come when it is dropped.
pub type RequestPlace = Place<SubjectName>;

/// Bytes that are kept for a principal until this is dropped.
pub type KeptBytes = Kept<SubjectName>;

/// What has no more bytes than this is kept in any case: places among requests bound that, to 64 MiB for a principal.
pub const SMALL_BYTES: u64 = 64 << 10;

/// Larger answers of one principal that were not read yet, and those of all.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const ALL_ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Larger bodies of one principal that were not read to their end, and those of all.
const BODY_BYTES_MAX: u64 = 16 << 20;
const ALL_BODY_BYTES_MAX: u64 = 128 << 20;

/// Why somebody has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Too often.
    #[error("too many requests: at most {per_second} a second; wait {} ms", .wait.as_millis())]
    Often {
        /// What is possible.
        per_second: u32,
        /// Until the next one is.
        wait: Duration,
    },
    /// Too many at once.
    #[error("{most} requests of this principal are under way; wait for the answer of one of them")]
    AtOnce {
        /// What is possible.
        most: u32,
    },
    /// It does not read its answers.
    #[error(
        "answers wait to be read at this coordinator, and there is no room for another large one; read them first"
    )]
    Unread,
    /// It sends much at once.
    #[error(
        "other bodies are on their way to this coordinator, and there is no room for more; wait for an answer"
    )]
    Bodies,
    /// Others look through the whole fleet, too.
    #[error(
        "reads of the whole fleet wait for each other; ask again later, and for pages by cursor and without `text`"
    )]
    Scans,
    /// Others look into the past, too.
    #[error(
        "reads of ledger and audit log wait for each other; wait for an answer, or ask again later"
    )]
    Digs,
}

/// After which it is worth asking again when too many are under way: most answers take less.
const AT_ONCE_RETRY: Duration = Duration::from_secs(1);

impl Admission {
    /// Doors that nobody has passed.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Doors {
            began: Instant::now(),
            visits: Visits::new(&limits),
            connecting: Mutex::new(Buckets::new(limits.connecting())),
            strangers: Mutex::new(Buckets::new(limits.strangers())),
            at_once: Places::new(limits.requests_at_once_per_principal),
            requests: Mutex::new(Buckets::new(limits.requests())),
            answers: Keep::new(SMALL_BYTES, ANSWER_BYTES_MAX, ALL_ANSWER_BYTES_MAX),
            bodies: Keep::new(SMALL_BYTES, BODY_BYTES_MAX, ALL_BODY_BYTES_MAX),
            scans: Scans::new(limits.scan_wait()),
            digs: Scans::new(limits.scan_wait()),
            limits,
        }))
    }

    /// The numbers.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// A connection from there, before anything of it is read.
    ///
    /// # Errors
    /// [`TooMuch`].
    pub fn connection(&self, address: IpAddr) -> Result<Arc<Visit>, TooMuch> {
        let source = Source::of(address);
        self.take(&self.0.connecting, source)?;
        let most = self.0.limits.connections_per_address;
        Visits::enter(&self.0.visits, source).ok_or(TooMuch::AtOnce { most })
    }

    /// A request from there of somebody who is nobody, as far as this member knows.
    ///
    /// # Errors
    /// [`TooMuch`].
    pub fn stranger(&self, address: Option<IpAddr>) -> Result<(), TooMuch> {
        match address {
            Some(address) => self.take(&self.0.strangers, Source::of(address)),
            None => Ok(()),
        }
    }

    /// A request of somebody.
    ///
    /// # Errors
    /// [`TooMuch`].
    pub fn request(&self, principal: &SubjectName) -> Result<RequestPlace, TooMuch> {
        self.take(&self.0.requests, principal.clone())?;
        let most = self.0.limits.requests_at_once_per_principal;
        Places::take(&self.0.at_once, principal.clone()).ok_or(TooMuch::AtOnce { most })
    }

    /// An answer to somebody, nothing of which is kept yet.
    pub fn answer(&self, principal: &SubjectName) -> KeptBytes {
        Keep::begin(&self.0.answers, principal.clone())
    }

    /// A body of somebody, nothing of which is kept yet.
    pub fn body(&self, principal: &SubjectName) -> KeptBytes {
        Keep::begin(&self.0.bodies, principal.clone())
    }

    /// A place for a read of somebody whose cost grows with the fleet, once there is one.
    ///
    /// # Errors
    /// [`TooMuch::Scans`] after some seconds.
    pub async fn scan(&self, principal: &SubjectName) -> Result<ScanPlace, TooMuch> {
        Scans::take(&self.0.scans, principal).await.map_err(|_| TooMuch::Scans)
    }

    /// A place for a read of somebody in files of the past, once there is one.
    ///
    /// # Errors
    /// [`TooMuch::Digs`] after some seconds.
    pub async fn dig(&self, principal: &SubjectName) -> Result<ScanPlace, TooMuch> {
        Scans::take(&self.0.digs, principal).await.map_err(|_| TooMuch::Digs)
    }

    fn take<K: Ord>(&self, buckets: &Mutex<Buckets<K>>, key: K) -> Result<(), TooMuch> {
        let now = self.0.began.elapsed();
        // Whoever panicked while it held the lock left numbers that are numbers still.
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let per_second = buckets.rate().per_second;
        buckets.take(key, now).map_err(|wait| TooMuch::Often { per_second, wait })
    }
}

impl From<TooMuch> for Problem {
    fn from(refusal: TooMuch) -> Self {
        let (code, wait) = match refusal {
            TooMuch::Often { wait, .. } => (Code::RateLimited, wait),
            TooMuch::AtOnce { .. }
            | TooMuch::Unread
            | TooMuch::Bodies
            | TooMuch::Scans
            | TooMuch::Digs => (Code::TooManyAtOnce, AT_ONCE_RETRY),
        };
        // A whole number of seconds, as the header wants it, and never too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::new(code, refusal.to_string()).retry_after(seconds.max(1))
    }
}
