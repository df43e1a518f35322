//! The one place of these tests that looks again after a while: what happens in another process or thread without a
//! signal is waited for here, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::DEADLINE;

/// Asks until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        pause().await;
    }
}

/// Before looking again.
pub async fn pause() {
    sleep(Duration::from_millis(20)).await;
}
