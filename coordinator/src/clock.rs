//! The one place that asks the system for the time and for randomness. Both go into commands as values.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use novacron_protocol::ids::RequestId;
use novacron_protocol::time::Timestamp;
use uuid::{Builder, Uuid};

/// Tells the time. Cheap to clone; tests give their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        }))
    }

    /// A clock of one's own.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// A new id. Ids begin with the time (UUID version 7), so that tables are in the order of creation.
pub fn new_uuid(now: Timestamp) -> Uuid {
    Builder::from_unix_timestamp_millis(now.unix_ms, &rand::random()).into_uuid()
}

/// A request id for a command of the cluster itself.
pub fn new_request(now: Timestamp) -> RequestId {
    RequestId(new_uuid(now))
}
