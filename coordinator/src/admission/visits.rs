//! Connections to the API, from when they are accepted until they end: whose they are, as far as that is known, and when one
//! has to end.
//!
//! ```text
//!   stranger ──certificate, or the first key that is accepted──► somebody's
//!      │ evicted by another stranger, or idle for too long           │ one principal has a quarter of all
//!      ▼                                                             ▼
//!    closed ◄──── idle for too long ──── somebody's     stays a stranger, and is served
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novacron_transport::{Role, SubjectName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::lobby::{Doing, Lobby, Number};
use super::places::{Place, Places};
use super::source::Source;

/// Whose a connection is: names of one role are those of principals, others their own.
pub type Somebody = (Role, SubjectName);

/// The connections of one member.
#[derive(Debug)]
pub(super) struct Visits {
    of_sources: Arc<Places<Source>>,
    of_principals: Arc<Places<Somebody>>,
    /// Places for connections that are somebody's: all but those of strangers.
    known: Arc<Semaphore>,
    strangers: Mutex<Strangers>,
}

#[derive(Debug)]
struct Strangers {
    lobby: Lobby<Source>,
    /// How each is told that it has to go.
    leave: BTreeMap<Number, CancellationToken>,
}

/// A connection. Its places are free when it is dropped.
#[derive(Debug)]
pub struct Visit {
    visits: Arc<Visits>,
    source: Source,
    number: Number,
    leave: CancellationToken,
    standing: Mutex<Standing>,
    _of_source: Place<Source>,
}

/// How a connection stands.
#[derive(Debug)]
struct Standing {
    /// Requests that are under way.
    requests: u32,
    /// When one began or ended last.
    since: Instant,
    /// Its places if it is somebody's.
    known: Option<(Place<Somebody>, OwnedSemaphorePermit)>,
}

/// A request that is under way on a connection, until this is dropped: until its answer is on its way as a whole.
#[derive(Debug)]
pub struct Asking(Arc<Visit>);

impl Visits {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let strangers = limits.strangers_at_once();
        let each_max = limits.stranger_connections_per_address as usize;
        let known = (limits.connections as usize).saturating_sub(strangers);
        Arc::new(Self {
            of_sources: Places::new(limits.connections_per_address),
            of_principals: Places::new(limits.connections_per_principal),
            known: Arc::new(Semaphore::new(known.min(Semaphore::MAX_PERMITS))),
            strangers: Mutex::new(Strangers {
                lobby: Lobby::new(strangers, each_max),
                leave: BTreeMap::new(),
            }),
        })
    }

    /// One more from a source, if it may have one more; another one may have to go for it.
    pub(super) fn enter(visits: &Arc<Self>, source: Source) -> Option<Arc<Visit>> {
        let of_source = Places::take(&visits.of_sources, source)?;
        let leave = CancellationToken::new();
        let number = visits.strangers().enter(source, leave.clone());
        Some(Arc::new(Visit {
            visits: Arc::clone(visits),
            source,
            number,
            leave,
            standing: Mutex::new(Standing { requests: 0, since: Instant::now(), known: None }),
            _of_source: of_source,
        }))
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Strangers {
    fn enter(&mut self, source: Source, leave: CancellationToken) -> Number {
        let (number, evicted) = self.lobby.enter(source);
        if let Some(evicted) = evicted.and_then(|evicted| self.leave.remove(&evicted)) {
            evicted.cancel();
        }
        self.leave.insert(number, leave);
        number
    }

    /// Takes one out; whether it was still in.
    fn leave(&mut self, source: Source, number: Number) -> bool {
        self.lobby.leave(source, number);
        self.leave.remove(&number).is_some()
    }
}

impl Visit {
    /// The connection is somebody's from now on, if that principal may have one more. It stays a stranger otherwise: it is
    /// served, and goes when its place is needed.
    pub fn is_of(&self, role: Role, name: &SubjectName) {
        let mut standing = self.standing();
        if standing.known.is_some() {
            return;
        }
        let (visits, somebody) = (&self.visits, (role, name.clone()));
        let Some(of_principal) = Places::take(&visits.of_principals, somebody) else { return };
        let Ok(of_all) = Arc::clone(&visits.known).try_acquire_owned() else { return };
        // Whoever was told to go goes.
        if visits.strangers().leave(self.source, self.number) {
            standing.known = Some((of_principal, of_all));
        }
    }

    /// A request of it begins.
    pub fn asks(visit: &Arc<Self>) -> Asking {
        visit.count(|requests| requests + 1);
        Asking(Arc::clone(visit))
    }

    fn count(&self, change: impl FnOnce(u32) -> u32) {
        let mut standing = self.standing();
        standing.requests = change(standing.requests);
        standing.since = Instant::now();
        let doing = if standing.requests == 0 { Doing::Nothing } else { Doing::Asking };
        if standing.known.is_none() {
            self.visits.strangers().lobby.does(self.source, self.number, doing);
        }
    }

    /// Ends when the connection has to go at once: it is nobody's, and its place is needed.
    pub async fn has_to_leave(&self) {
        self.leave.cancelled().await;
    }

    /// Ends when nothing was under way on it for that long.
    pub async fn idles(&self, patience: Duration) {
        loop {
            let now = Instant::now();
            let due = match *self.standing() {
                Standing { requests: 0, since, .. } => since + patience,
                // What is under way ends later, and the wait begins then.
                Standing { .. } => now + patience,
            };
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visits.strangers().leave(self.source, self.number);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.count(|requests| requests.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn visits(limits: Limits) -> Arc<Visits> {
        Visits::new(&limits)
    }

    fn enter(visits: &Arc<Visits>, last: u8) -> Arc<Visit> {
        Visits::enter(visits, Source::of(IpAddr::from([10, 0, 0, last]))).unwrap()
    }

    fn is_over(visit: &Visit) -> bool {
        visit.has_to_leave().now_or_never().is_some()
    }

    fn is_idle(visit: &Visit) -> bool {
        visit.idles(PATIENCE).now_or_never().is_some()
    }

    #[tokio::test]
    async fn who_is_somebody_stays_and_strangers_give_way() {
        let limits = Limits { connections: 4, connections_per_principal: 1, ..Limits::default() };
        let visits = visits(limits);
        let (admin, name) = (enter(&visits, 1), "admin".parse().unwrap());
        admin.is_of(Role::Operator, &name);
        let second = enter(&visits, 1);
        second.is_of(Role::Operator, &name);
        let agent = enter(&visits, 1);
        agent.is_of(Role::Agent, &name);
        let strangers = [enter(&visits, 2), enter(&visits, 3)];
        assert!(!is_over(&admin) && !is_over(&agent));
        assert!(is_over(&second), "a principal has one, and the first stranger gives way");
        assert!(!is_over(&strangers[0]) && !is_over(&strangers[1]));
        second.is_of(Role::Partner, &name);
        assert!(is_over(&second), "whoever was told to go goes");
        // All places of those that are somebody are taken.
        let third = enter(&visits, 4);
        third.is_of(Role::Partner, &name);
        assert!(is_over(&strangers[0]));
        enter(&visits, 5);
        assert!(is_over(&strangers[1]) && !is_over(&third));
        drop(agent);
        third.is_of(Role::Partner, &name);
        let later: Vec<_> = (6..9).map(|last| enter(&visits, last)).collect();
        assert!(is_over(&later[0]) && !is_over(&third));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_nothing_for_long_is_idle() {
        let visits = visits(Limits::default());
        for somebody in [None, Some("admin".parse().unwrap())] {
            let (idle, busy) = (enter(&visits, 1), enter(&visits, 2));
            let asking = Visit::asks(&busy);
            if let Some(name) = &somebody {
                idle.is_of(Role::Operator, name);
                busy.is_of(Role::Operator, name);
            }
            advance(PATIENCE).await;
            assert!(is_idle(&idle) && !is_idle(&busy));
            drop(asking);
            assert!(!is_idle(&busy), "it has just asked");
            advance(PATIENCE).await;
            assert!(is_idle(&busy));
            assert!(!is_over(&idle) && !is_over(&busy), "nobody needs their places");
        }
    }
}
