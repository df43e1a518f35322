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

pub mod bucket;
pub mod buckets;
pub mod limits;
pub mod places;
pub mod source;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use novacron_protocol::api::{Code, Problem};
use novacron_transport::SubjectName;

use buckets::Buckets;
pub use limits::Limits;
use places::{Place, Places};
use source::Source;

/// The doors of one coordinator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Doors>);

#[derive(Debug)]
struct Doors {
    limits: Limits,
    began: Instant,
    connections: Arc<Places<Source>>,
    connecting: Mutex<Buckets<Source>>,
    strangers: Mutex<Buckets<Source>>,
    at_once: Arc<Places<SubjectName>>,
    requests: Mutex<Buckets<SubjectName>>,
}

/// A connection that was let in; others may come when it is dropped.
pub type ConnectionPlace = Place<Source>;

/// A request that was let in; others may come when it is dropped.
pub type RequestPlace = Place<SubjectName>;

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
}

/// After which it is worth asking again when too many are under way: most answers take less.
const AT_ONCE_RETRY: Duration = Duration::from_secs(1);

impl Admission {
    /// Doors that nobody has passed.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Doors {
            began: Instant::now(),
            connections: Places::new(limits.connections_per_address),
            connecting: Mutex::new(Buckets::new(limits.connecting())),
            strangers: Mutex::new(Buckets::new(limits.strangers())),
            at_once: Places::new(limits.requests_at_once_per_principal),
            requests: Mutex::new(Buckets::new(limits.requests())),
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
    pub fn connection(&self, address: IpAddr) -> Result<ConnectionPlace, TooMuch> {
        let source = Source::of(address);
        self.take(&self.0.connecting, source)?;
        let most = self.0.limits.connections_per_address;
        Places::take(&self.0.connections, source).ok_or(TooMuch::AtOnce { most })
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
            TooMuch::AtOnce { .. } => (Code::TooManyAtOnce, AT_ONCE_RETRY),
        };
        // A whole number of seconds, as the header wants it, and never too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::new(code, refusal.to_string()).retry_after(seconds.max(1))
    }
}
