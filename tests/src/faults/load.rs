//! Clients that never stop: they write and read registers, and post what machines used, and note what they are told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use novacron_protocol::ids::{Generation, NodeName, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome, UsageRecord};
use novacron_sdk::api::{Code, UsagePost, VmCreate};
use novacron_sdk::{Client, UsageFilter};

use super::dice::Dice;
use super::history::{Action, Operation, Register, Value};
use super::linearizable::{Verdict, judge};
use super::running::Metered;
use super::site::{MEMBERS, NODES, Site};

/// Clients that write and read.
const CLIENTS: u32 = 6;
/// Machines that hold registers, and registers of each.
const MACHINES: usize = 2;
const KEYS: usize = 3;
/// Between two operations of a client: some hundred operations a second in all, so that a register's history can be
/// searched however long the campaign is.
const PACE: Duration = Duration::from_millis(25);
/// Records of one batch of usage, and seconds of each: so few that five batches a second for most of an hour do not come up
/// to the present.
const RECORDS: u64 = 50;
const RECORD_S: u64 = 2;
/// Days before now at which the posted usage begins: old enough for a long campaign, and younger than the ledger takes.
const USAGE_AGE_DAYS: u64 = 20;

/// Whether the campaign is over.
#[derive(Debug, Default)]
struct End {
    is_over: Mutex<bool>,
    told: Condvar,
}

impl End {
    fn tell(&self) {
        *lock(&self.is_over) = true;
        self.told.notify_all();
    }

    /// Whether it is over within some time. A client's pace is that it asks this between two operations.
    fn is_within(&self, time: Duration) -> bool {
        let waited = self.told.wait_timeout_while(lock(&self.is_over), time, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What all clients share.
#[derive(Debug, Default)]
struct Shared {
    end: End,
    answers: AtomicU64,
    next_value: AtomicU64,
    next_client: AtomicU64,
    operations: Mutex<Vec<Operation>>,
    faults: Mutex<Vec<String>>,
}

/// Clients under way.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    poster: JoinHandle<u64>,
    machines: Vec<VmId>,
    posted_vm: VmId,
}

/// What a campaign's clients saw, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Operations that were answered.
    pub answered: usize,
    /// Writes of which nobody knows whether they happened.
    pub unknown: usize,
    /// Seconds of usage that were acknowledged.
    pub usage_s: u64,
    /// What the agents of machines that ran all the while metered.
    pub metered: Metered,
    /// Power cuts, each of which took something.
    pub power_cuts: u64,
    /// Bytes that they took.
    pub forgotten_bytes: u64,
}

impl Load {
    /// Makes the machines and starts the clients.
    ///
    /// # Errors
    /// The cluster takes no machines.
    pub fn start(site: &Site, seed: u64) -> Result<Self> {
        let client = site.client()?;
        let machine = |name: String| -> Result<VmId> {
            // Created only: no node shall be asked for anything.
            let create = VmCreate {
                name,
                start: Some(false),
                node: Some(NODES[0].to_owned()),
                memory: Some(64 << 20),
                disk: Some(16 << 20),
                ..VmCreate::default()
            };
            Ok(client.vm_create(&create)?.id)
        };
        let machines = (0..MACHINES)
            .map(|at| machine(format!("register-{at}")))
            .collect::<Result<Vec<_>>>()?;
        let posted_vm = machine("metered".to_owned())?;
        let shared = Arc::new(Shared::default());
        shared.next_client.store(u64::from(CLIENTS), Ordering::Relaxed);
        let client = |number: u32| {
            let client = Clerk {
                number,
                client: site.client_preferring(number as usize % MEMBERS.len())?,
                dice: Dice::new(seed.wrapping_add(u64::from(number))),
                machines: machines.clone(),
                shared: Arc::clone(&shared),
                clock: site.clock(),
            };
            Ok(std::thread::spawn(move || client.work()))
        };
        let clients = (0..CLIENTS).map(client).collect::<Result<_>>()?;
        let poster = Poster { client: site.client()?, vm: posted_vm, shared: Arc::clone(&shared) };
        let poster = std::thread::spawn(move || poster.work());
        Ok(Self { shared, clients, poster, machines, posted_vm })
    }

    /// Operations that were answered so far.
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Ends the clients, reads every register once more, and judges all that was seen. `metered` is what agents metered
    /// meanwhile, for the account.
    ///
    /// # Errors
    /// What cannot have happened.
    pub fn judge(self, site: &Site, metered: Metered) -> Result<Account> {
        self.shared.end.tell();
        for client in self.clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        }
        let usage_s = self.poster.join().map_err(|_| anyhow::anyhow!("the poster panicked"))?;
        let faults = std::mem::take(&mut *lock(&self.shared.faults));
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        let mut operations = std::mem::take(&mut *lock(&self.shared.operations));
        for member in 0..MEMBERS.len() {
            let client = site.client_preferring(member)?;
            for register in 0..MACHINES * KEYS {
                let began_ns = site.clock().now_ns();
                let value = read(&client, &self.machines, register)?;
                operations.push(Operation {
                    client: u32::MAX,
                    register: Register(register as u32),
                    action: Action::Read(value),
                    began_ns,
                    ended_ns: Some(site.clock().now_ns()),
                });
            }
        }
        match judge(&operations) {
            Verdict::Linearizable => {}
            Verdict::Impossible { register, operations } => {
                let lines: Vec<String> = operations.iter().map(ToString::to_string).collect();
                anyhow::bail!("register {} is not linearizable:\n{}", register.0, lines.join("\n"));
            }
            Verdict::TooWide { register } => {
                anyhow::bail!("the history of register {} is too wide to be judged", register.0)
            }
        }
        check_usage(site, self.posted_vm, usage_s)?;
        let answered = operations.iter().filter(|operation| operation.ended_ns.is_some()).count();
        let unknown = operations.len() - answered;
        let (power_cuts, forgotten_bytes) = site.power_cuts();
        Ok(Account { answered, unknown, usage_s, metered, power_cuts, forgotten_bytes })
    }
}

/// Every second that was acknowledged is in the ledger, once, and the ledger agrees with itself.
fn check_usage(site: &Site, vm: VmId, posted_s: u64) -> Result<()> {
    let filter = UsageFilter {
        from: Some(Timestamp::from_unix_ms(usage_begin_s() * 1000)),
        vm: Some(vm.to_string()),
        meter: Some(Meter::VmSeconds),
        ..UsageFilter::default()
    };
    let in_ledger: i128 = site.client()?.usage(&filter)?.iter().map(|row| row.quantity.0).sum();
    ensure!(
        in_ledger == i128::from(posted_s),
        "{posted_s} s of usage were acknowledged, and {in_ledger} s are in the ledger"
    );
    site.cluster().run(&["ledger", "verify"])?;
    site.cluster().run(&["audit", "verify"]).map(drop)
}

/// One client of registers.
struct Clerk {
    number: u32,
    client: Client,
    dice: Dice,
    machines: Vec<VmId>,
    shared: Arc<Shared>,
    clock: super::site::Clock,
}

impl Clerk {
    fn work(mut self) {
        while !self.shared.end.is_within(PACE) {
            let register = self.dice.below(MACHINES * KEYS);
            if self.dice.below(2) == 0 {
                self.write(register);
            } else {
                self.read(register);
            }
        }
    }

    fn write(&mut self, register: usize) {
        let value = Value(1 + self.shared.next_value.fetch_add(1, Ordering::Relaxed));
        let began_ns = self.clock.now_ns();
        let (vm, key) = place(&self.machines, register);
        let answered = self.client.annotate(&vm, &key, &value.0.to_string());
        let ended_ns = answered.is_ok().then(|| self.clock.now_ns());
        self.note(register, Action::Write(value), began_ns, ended_ns);
        if ended_ns.is_none() {
            // Whoever does not know what became of an operation is another client from now on.
            self.number = self.shared.next_client.fetch_add(1, Ordering::Relaxed) as u32;
        }
    }

    fn read(&mut self, register: usize) {
        let began_ns = self.clock.now_ns();
        // A read that was not answered says nothing.
        if let Ok(value) = read(&self.client, &self.machines, register) {
            self.note(register, Action::Read(value), began_ns, Some(self.clock.now_ns()));
        }
    }

    fn note(&self, register: usize, action: Action, began_ns: u64, ended_ns: Option<u64>) {
        if ended_ns.is_some() {
            self.shared.answers.fetch_add(1, Ordering::Relaxed);
        }
        let (client, register) = (self.number, Register(register as u32));
        let operation = Operation { client, register, action, began_ns, ended_ns };
        lock(&self.shared.operations).push(operation);
    }
}

/// Machine and key of a register.
fn place(machines: &[VmId], register: usize) -> (String, String) {
    (machines[register / KEYS].to_string(), format!("register-{}", register % KEYS))
}

fn read(client: &Client, machines: &[VmId], register: usize) -> Result<Value> {
    let (vm, key) = place(machines, register);
    match client.annotation(&vm, &key) {
        Ok(found) => Ok(Value(found.value.parse().context("a register holds no number")?)),
        Err(error) if error.problem().is_some_and(|problem| problem.code == Code::NotFound) => {
            Ok(Value(0))
        }
        Err(error) => Err(error.into()),
    }
}

/// Posts what a machine used, second after second, each batch until it is answered.
struct Poster {
    client: Client,
    vm: VmId,
    shared: Arc<Shared>,
}

impl Poster {
    /// Answers the seconds that were acknowledged.
    fn work(self) -> u64 {
        let (mut next_s, mut posted_s) = (usage_begin_s(), 0);
        while !self.shared.end.is_within(PACE * 8) {
            let records: Vec<UsageRecord> = (0..RECORDS)
                .map(|at| next_s + at * RECORD_S)
                .map(|start_s| UsageRecord {
                    vm: self.vm,
                    generation: Generation(1),
                    meter: Meter::VmSeconds,
                    start_s,
                    end_s: start_s + RECORD_S,
                    level: 1,
                })
                .collect();
            // Until it is answered, also beyond the end: an answer is owed for everything that may have happened.
            let posted = self.post(&records);
            if let Some(wrong) = posted.iter().find(|outcome| !is_in_ledger(outcome)) {
                lock(&self.shared.faults).push(format!("usage was refused: {wrong:?}"));
            }
            posted_s += RECORDS * RECORD_S;
            next_s += RECORDS * RECORD_S;
        }
        posted_s
    }

    fn post(&self, records: &[UsageRecord]) -> Vec<RecordOutcome> {
        let node: NodeName = NODES[0].parse().expect("a name");
        loop {
            let post = UsagePost { node: node.clone(), records: records.to_vec() };
            match self.client.usage_post(&post) {
                Ok(posted) => return posted.outcomes,
                Err(error) if error.problem().is_some_and(|problem| problem.status < 500) => {
                    lock(&self.shared.faults).push(format!("usage was refused: {error}"));
                    return Vec::new();
                }
                // The client itself has tried for some seconds.
                Err(_) => {}
            }
        }
    }
}

fn is_in_ledger(outcome: &RecordOutcome) -> bool {
    matches!(
        outcome,
        RecordOutcome::Created { .. } | RecordOutcome::CreatedLate { .. } | RecordOutcome::Exists
    )
}

/// A full hour.
fn usage_begin_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    (now - USAGE_AGE_DAYS * 24 * HOUR_S) / (24 * HOUR_S) * (24 * HOUR_S)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
