//! A request as a handler gets it. What it reads of the fleet it reads through [`Call::read`], which asks first, at the
//! same fleet, whether whoever asks still may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use novacron_protocol::access::Scope;
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::{ProjectName, RequestId};
use tokio::task::yield_now;

use super::Api;
use crate::admission::ScanPlace;
use crate::auth::{Authorized, Grant, Sight};
use crate::propose::Intent;
use crate::state::{Accepted, Fleet};

/// A request as a handler gets it: parsed, and its caller known.
pub struct Call<P, Q, B> {
    /// What the API is made of.
    pub api: Arc<Api>,
    /// What lets the caller in; none where anybody is let in.
    pub(super) grant: Option<Grant>,
    /// The request's name.
    pub request: RequestId,
    /// Parameters in the path.
    pub path: P,
    /// Parameters in the query.
    pub query: Q,
    /// The body.
    pub body: B,
    /// The headers.
    pub headers: HeaderMap,
    pub(super) freshness: Freshness,
}

/// Whether this member has everything that was acknowledged before a request began, or whoever asks does not mind. Once it
/// has, whatever the request reads after that may be read here: no quorum is asked twice for one request.
#[derive(Debug, Default)]
pub(super) struct Freshness(AtomicBool);

impl Freshness {
    /// What this member has will do.
    pub(super) fn not_needed() -> Self {
        Self(AtomicBool::new(true))
    }

    fn is_proved(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn prove(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<P, Q, B> Call<P, Q, B> {
    /// What lets the caller in.
    pub(super) fn grant(&self) -> Result<&Grant, Problem> {
        self.grant.as_ref().ok_or_else(|| {
            tracing::error!("a route for anybody asks who calls");
            Problem::new(Code::Internal, "the coordinator forgot to ask who calls")
        })
    }

    /// A value that the caller asks for. Whether it may have it in the place that is meant is decided when it is
    /// applied.
    pub(super) fn authorize<T>(&self, value: T) -> Result<Authorized<T>, Problem> {
        Ok(self.grant()?.authorize(value))
    }

    /// Looks at a fleet that has everything that was acknowledged before, as far as the caller may; at the fleet as this
    /// member has it, if the caller asked for that.
    pub(super) async fn read<T>(
        &self,
        look: impl FnOnce(&Fleet, &Sight<'_>) -> T,
    ) -> Result<T, Problem> {
        let (grant, now) = (self.grant()?, self.api.now());
        let look = |fleet: &Fleet| Ok(look(fleet, &grant.sight(fleet, now)?));
        if self.freshness.is_proved() {
            return self.api.glance(look);
        }
        let looked = self.api.read(look).await?;
        self.freshness.prove();
        looked
    }

    /// Looks again and again until a look says that it was the last, and gives way in between: what changes the fleet, and
    /// every other request, waits for one look at most. `is_scan` says whether the looks are as many as the fleet is large;
    /// then few callers look at once.
    pub(super) async fn survey<E>(
        &self,
        is_scan: bool,
        mut look: impl FnMut(&Fleet, &Sight<'_>) -> Result<bool, E>,
    ) -> Result<(), Problem>
    where
        Problem: From<E>,
    {
        let _place = if is_scan { Some(self.scan().await?) } else { None };
        while !self.read(&mut look).await?? {
            yield_now().await;
        }
        Ok(())
    }

    /// A place for a read whose cost grows with the fleet, once there is one.
    pub(super) async fn scan(&self) -> Result<ScanPlace, Problem> {
        Ok(self.api.app.admission.scan(&self.grant()?.asker().name).await?)
    }

    /// A place for a read of what is long past, in ledger or audit log, once there is one.
    pub(super) async fn dig(&self) -> Result<ScanPlace, Problem> {
        Ok(self.api.app.admission.dig(&self.grant()?.asker().name).await?)
    }

    /// Looks at the fleet as this member has it, as far as the caller may.
    pub(super) fn glance<T>(
        &self,
        look: impl FnOnce(&Fleet, &Sight<'_>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let (grant, now) = (self.grant()?, self.api.now());
        self.api.glance(|fleet| look(fleet, &grant.sight(fleet, now)?))
    }

    /// The same as [`Call::read`] for what is decided again when it is applied, or means the same for ever: what this member knows already
    /// will do. Before the caller is refused, the member catches up.
    pub(super) async fn foresee<T>(
        &self,
        look: impl Fn(&Fleet, &Sight<'_>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let (grant, now) = (self.grant()?, self.api.now());
        self.api.foresee(|fleet| look(fleet, &grant.sight(fleet, now)?)).await
    }

    /// Proposes what the caller asks for. What is read afterwards shows it.
    pub(super) async fn propose(&self, intent: Authorized<Intent>) -> Result<Accepted, Problem> {
        let accepted = self.api.propose(intent, self.request).await?;
        // Its entry was committed after the request began, and is applied here.
        self.freshness.prove();
        Ok(accepted)
    }
}

/// What belongs to a project: those who do not see its machines are told what they are told of what is not there.
pub(super) fn check_seen(
    sight: &Sight<'_>,
    project: &ProjectName,
    not_there: impl FnOnce() -> Problem,
) -> Result<(), Problem> {
    if !sight.sees(project) {
        return Err(not_there());
    }
    Ok(sight.check(Scope::Project(project.clone()))?)
}
