//! The wall clock, for what is compared with moments of other machines, and the time since the host was started, for what
//! is compared with moments of earlier runs of the agent. Everything else uses `Instant`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use novacron_protocol::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;
use uuid::Uuid;

use crate::metering::time::Reading;

/// Now.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Microseconds since the host was started, those for which it slept included.
pub fn since_boot_us() -> u64 {
    let since = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (since.tv_sec.unsigned_abs(), since.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1000)
}

/// What wall clock and monotonic clock show, for metering. Cheap to clone; tests give their own.
#[derive(Clone)]
pub struct Clocks(Arc<dyn Fn() -> Reading + Send + Sync>);

impl Clocks {
    /// The host's.
    pub fn system() -> Self {
        Self::from_fn(reading)
    }

    /// Clocks of one's own.
    pub fn from_fn(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// What both show.
    pub fn read(&self) -> Reading {
        (self.0)()
    }
}

impl fmt::Debug for Clocks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clocks")
    }
}

fn reading() -> Reading {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) =
        (monotonic.tv_sec.unsigned_abs(), monotonic.tv_nsec.unsigned_abs());
    let monotonic_ms = seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000);
    Reading { wall_ms: now().unix_ms, monotonic_ms }
}

/// Which run of the host this is, if the kernel says.
pub fn boot() -> Option<Uuid> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().parse().ok()
}

/// The moment of this process's clock at which `moment` will be, if it is not past.
pub fn instant_of(moment: Timestamp) -> Option<Instant> {
    let remaining_ms = moment.since_ms(now());
    (remaining_ms > 0).then(|| Instant::now() + Duration::from_millis(remaining_ms.min(YEAR_MS)))
}

/// Further away than any deadline; keeps the sum within what `Instant` can hold.
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;
