//! Looking again until it is so: the one way in which an end-to-end test waits for programs that do not call it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks: short beside every phase that a test wants to hit.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and gives that.
///
/// # Errors
/// It is not there within `limit`, or looking fails.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}
