//! A request as a handler gets it. What it reads of the fleet it reads through [`Call::read`], which asks first, at the
//! same fleet, whether whoever asks still may.

use std::sync::Arc;

use novacron_protocol::access::Scope;
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::{ProjectName, RequestId};

use super::Api;
use crate::auth::{Authorized, Grant, Sight};
use crate::state::Fleet;

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

    /// Looks at a fleet that has everything that was acknowledged before, as far as the caller may.
    pub(super) async fn read<T>(
        &self,
        look: impl FnOnce(&Fleet, &Sight<'_>) -> T,
    ) -> Result<T, Problem> {
        let (grant, now) = (self.grant()?, self.api.now());
        let looked = self.api.read(|fleet| Ok(look(fleet, &grant.sight(fleet, now)?)));
        looked.await?
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
