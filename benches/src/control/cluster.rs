//! A cluster of either side: its processes, and how they are asked.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::dialect::{CLIENTS_MAX, Dialect, Key};
use super::link::{Answer, Ask, Door};
use crate::child::Process;
use crate::execute::Argv;
use crate::interruption::Interruption;

/// Members of a cluster.
pub const MEMBERS: usize = 3;
/// For a cluster to have a leader and to take writes at every member.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// For a member that was asked to end: it writes its tables.
const END_PATIENCE: Duration = Duration::from_secs(120);
/// For one answer while a cluster is being set up.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The first of the clients that write while a cluster is being set up; no load has so many.
const CLIENT_OF_ITS_OWN: usize = CLIENTS_MAX - MEMBERS;
/// Between two questions that wait for something.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// One member.
#[derive(Debug)]
pub struct Member {
    name: String,
    argv: Argv,
    log: PathBuf,
    door: Door,
    process: Option<Process>,
    is_run_elsewhere: bool,
}

impl Member {
    /// One that is not started yet.
    pub fn new(name: String, argv: Argv, log: PathBuf, door: Door) -> Self {
        Self { name, argv, log, door, process: None, is_run_elsewhere: false }
    }
}

/// The members, killed when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    name: &'static str,
    dialect: Arc<dyn Dialect>,
    members: Vec<Member>,
    runtime: Runtime,
}

impl Cluster {
    /// Of members that are not started yet.
    pub fn new(
        name: &'static str,
        dialect: Arc<dyn Dialect>,
        members: Vec<Member>,
    ) -> Result<Self> {
        // One thread: the load must not take both of the processors that the members need.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { name, dialect, members, runtime })
    }

    /// How it is asked.
    pub fn dialect(&self) -> &Arc<dyn Dialect> {
        &self.dialect
    }

    /// Where its members are asked.
    pub fn doors(&self) -> Vec<Door> {
        self.members.iter().map(|member| member.door.clone()).collect()
    }

    /// What drives the clients.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The processes that run.
    pub fn processes(&self) -> Vec<u32> {
        let running = self.members.iter().filter_map(|member| member.process.as_ref());
        running.map(Process::number).collect()
    }

    /// Starts a member, for the first time or again.
    pub fn start(&mut self, at: usize) -> Result<()> {
        let member = &mut self.members[at];
        member.process = Some(Process::start(&member.name, &member.argv, member.log.clone())?);
        Ok(())
    }

    /// The members that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        let runs = |member: &Member| member.process.is_some() || member.is_run_elsewhere;
        (0..self.members.len()).filter(move |&at| runs(&self.members[at]))
    }

    /// Notes whether somebody else runs a member.
    pub fn set_run_elsewhere(&mut self, at: usize, is_run_elsewhere: bool) {
        self.members[at].is_run_elsewhere = is_run_elsewhere;
    }

    /// The process of a member that runs.
    pub fn process(&self, at: usize) -> Result<u32> {
        let process = self.members[at].process.as_ref().map(Process::number);
        process.with_context(|| format!("{} does not run", self.members[at].name))
    }

    /// Asks a member to end, and returns when it has.
    pub fn end(&mut self, at: usize, interruption: &Interruption) -> Result<()> {
        let Some(mut process) = self.members[at].process.take() else { return Ok(()) };
        process.end(END_PATIENCE, interruption)
    }

    /// Kills a member, and returns when it is gone.
    pub fn kill(&mut self, at: usize) {
        self.members[at].process = None;
    }

    /// An error if a member has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        let mut running = self.members.iter_mut().filter_map(|member| member.process.as_mut());
        running.try_for_each(Process::check)
    }

    /// The member that leads.
    pub fn leader(&self) -> Result<usize> {
        let leads = |at: usize| {
            let answer = self.ask(at, &self.dialect.status()).ok()?;
            self.dialect.leads(self.members[at].door.address, &answer).ok()?
        };
        self.running()
            .find(|&at| leads(at) == Some(true))
            .with_context(|| format!("no member of {} says that it leads", self.name))
    }

    /// Waits until every member that runs acknowledges a write, and one of them leads.
    pub fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        for at in 0..self.members.len() {
            if self.members[at].process.is_some() {
                self.await_write(at, deadline)?;
            }
        }
        while self.leader().is_err() {
            ensure!(Instant::now() < deadline, "{}: nobody leads", self.name);
            std::thread::sleep(ASK_AGAIN);
        }
        Ok(())
    }

    fn await_write(&mut self, at: usize, deadline: Instant) -> Result<()> {
        let key = Key { client: CLIENT_OF_ITS_OWN + at, number: 0 };
        loop {
            self.check()?;
            let answer = self.ask(at, &self.dialect.write(key));
            match answer.and_then(|answer| self.dialect.check_write(&answer)) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context(format!("{} takes no write", self.members[at].name)));
                }
                Err(_) => std::thread::sleep(ASK_AGAIN),
            }
        }
    }

    /// Asks a member over a connection of its own.
    pub fn ask(&self, at: usize, ask: &Ask) -> Result<Answer> {
        let door = &self.members[at].door;
        let asking = async { door.open().await?.exchange(ask.clone()).await };
        self.runtime.block_on(async { timeout(ASK_TIMEOUT, asking).await })?
    }

    /// Asks again until the answer is as wanted.
    pub fn ask_patiently(
        &self,
        at: usize,
        ask: &Ask,
        patience: Duration,
        is_wanted: impl Fn(&Answer) -> Result<bool>,
    ) -> Result<Answer> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.ask(at, ask);
            match answer {
                Ok(answer) if is_wanted(&answer).unwrap_or(false) => return Ok(answer),
                Ok(answer) if Instant::now() >= deadline => {
                    bail!("{} at {}: {answer:?}", ask.method, ask.path)
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                _ => std::thread::sleep(ASK_AGAIN),
            }
        }
    }
}

/// Addresses of this machine where nobody listens now, all different.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").context("no free port");
    let held = (0..count).map(bind).collect::<Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}
