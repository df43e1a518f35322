//! A process that is slowed down by a real `novacron-agent`, and goes on whatever ends first.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use novacron_agent::vm::process::Process;
use novacron_agent::vm::throttle::Throttle;

/// Nothing here takes a second.
const PATIENCE: Duration = Duration::from_secs(20);

const AGENT: &str = env!("CARGO_BIN_EXE_novacron-agent");

/// A process that does nothing, and ends with this test.
struct Sleeper {
    pid: i32,
    log: String,
    _directory: tempfile::TempDir,
}

impl Sleeper {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, "").unwrap();
        let text = log.display().to_string();
        let test = format!("--pid={}", std::process::id());
        let arguments = ["--follow".to_owned(), test, text.clone()];
        let process = Process::spawn(Path::new("tail"), &arguments, &log).unwrap();
        Self { pid: process.pid(), log: text, _directory: directory }
    }

    async fn throttled(&self, percent: u8) -> Throttle {
        let process = until(|| Process::find(OsStr::new(&self.log)).unwrap()).await;
        let mut throttle = Throttle::begin(Path::new(AGENT), process).unwrap();
        throttle.set(percent).unwrap();
        throttle
    }

    /// What slows it down.
    async fn throttler(&self) -> Process {
        let argument = format!("--pid={}", self.pid);
        until(|| Process::find(OsStr::new(&argument)).unwrap()).await
    }

    fn is_stopped(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        status.rsplit_once(") ").unwrap().1.starts_with('T')
    }

    async fn until_stopped(&self, is_stopped: bool) {
        until(|| (self.is_stopped() == is_stopped).then_some(())).await;
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Ok(Some(process)) = Process::find(OsStr::new(&self.log)) {
            process.kill();
        }
    }
}

async fn until<T>(look: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it never happens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_stopped_and_goes_on_until_nobody_wants_it_slow() {
    let sleeper = Sleeper::start();
    let mut throttle = sleeper.throttled(50).await;
    for _ in 0..3 {
        sleeper.until_stopped(true).await;
        sleeper.until_stopped(false).await;
    }
    let throttler = sleeper.throttler().await;
    throttle.set(99).unwrap();
    sleeper.until_stopped(true).await;
    drop(throttle);
    throttler.ended().await;
    sleeper.until_stopped(false).await;
    assert!(!sleeper.is_stopped());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_when_what_slows_it_down_is_killed() {
    let sleeper = Sleeper::start();
    let mut throttle = sleeper.throttled(99).await;
    let throttler = sleeper.throttler().await;
    sleeper.until_stopped(true).await;
    throttler.kill_and_wait().await;
    sleeper.until_stopped(false).await;
    throttle.set(50).unwrap_err();
    assert!(!sleeper.is_stopped());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_slows_it_down_ends_with_it() {
    let sleeper = Sleeper::start();
    let _throttle = sleeper.throttled(99).await;
    let throttler = sleeper.throttler().await;
    sleeper.until_stopped(true).await;
    Process::find(OsStr::new(&sleeper.log)).unwrap().unwrap().kill_and_wait().await;
    tokio::time::timeout(PATIENCE, throttler.ended()).await.unwrap();
}
