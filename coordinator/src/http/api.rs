//! What handlers stand on: the doors of the coordinator, with their errors as problems.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use novacron_protocol::api::{ClusterView, Code, Problem, SecretRevealed, TokenCreate, TokenView};
use novacron_protocol::ids::{MemberId, RequestId};
use novacron_protocol::time::Timestamp;
use novacron_transport::api_key::ApiKeySecret;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::audit::AuditLog;
use crate::auth::{Authorized, NotAllowed};
use crate::ledger::Ledger;
use crate::metrics::{RefusalReason, SecurityRefusal};
use crate::propose::{Intent, NewApiKey};
use crate::secrets::NewSecret;
use crate::state::secret::SecretPlace;
use crate::state::{Accepted, Fleet};

/// The coordinator as the API sees it.
pub struct Api {
    pub(super) app: App,
    shutdown: CancellationToken,
}

impl Api {
    pub(super) fn new(app: App, shutdown: CancellationToken) -> Self {
        Self { app, shutdown }
    }

    /// Looks at a fleet that has everything that was acknowledged before.
    pub(super) async fn read<T>(&self, look: impl FnOnce(&Fleet) -> T) -> Result<T, Problem> {
        self.app.view.read(look).await.map_err(|error| error.to_problem())
    }

    /// Looks at the fleet as this member has it, and where that refuses, at one that has everything that was acknowledged
    /// before: what was allowed a moment ago, elsewhere, is not refused.
    pub(super) async fn foresee<T>(
        &self,
        look: impl Fn(&Fleet) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        match self.glance(&look) {
            Ok(found) => Ok(found),
            Err(_) => self.read(look).await?,
        }
    }

    /// Looks at the fleet as this member has it.
    pub(super) fn glance<T>(&self, look: impl FnOnce(&Fleet) -> T) -> T {
        self.app.view.local(look)
    }

    /// Whether this member can answer.
    pub(super) async fn ready(&self) -> Result<(), Problem> {
        let ready = self.app.readiness.check().await;
        ready.map_err(|error| Problem::new(Code::Unavailable, error.to_string()))
    }

    /// The moment.
    pub(super) fn now(&self) -> Timestamp {
        self.app.proposer.clock().now()
    }

    /// Somebody was not let in, or not to what it wanted: counted, and gathered for the audit log.
    pub(super) fn refused(
        &self,
        operation: &'static str,
        who: &str,
        from: Option<IpAddr>,
        code: Code,
    ) {
        let Some(refusal) = SecurityRefusal::of(code) else { return };
        self.app.requests.refused(operation, refusal);
        self.app.refusals.note(who, from, operation, code, self.now());
    }

    /// The same, or a policy refused what somebody wanted: counted by why, which is asked only if it has to be.
    pub(super) fn count_refusal(&self, code: Code, why: impl FnOnce() -> Option<NotAllowed>) {
        if let Some(reason) = RefusalReason::of(code, why) {
            self.app.requests.security.refused(reason);
        }
    }

    /// Changes whenever this member has applied something.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.app.view.applied()
    }

    /// A request was answered.
    pub(super) fn answered(
        &self,
        operation: Option<&'static str>,
        status: StatusCode,
        took: Duration,
    ) {
        self.app.requests.answered(operation, status.as_u16(), took);
    }

    /// Ends when the coordinator shuts down.
    pub(super) async fn stopping(&self) {
        self.shutdown.cancelled().await;
    }

    /// Who changed what.
    pub(super) fn audit(&self) -> &AuditLog {
        &self.app.audit
    }

    /// What was used, and what it costs.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.app.ledger
    }

    /// Proposes what a client asked for.
    pub(super) async fn propose(
        &self,
        intent: Authorized<Intent>,
        request: RequestId,
    ) -> Result<Accepted, Problem> {
        let proposed = self.app.proposer.submit(request, intent).await;
        proposed.map_err(|error| error.to_problem())
    }

    /// Makes an API key.
    pub(super) async fn create_api_key(
        &self,
        asked: Authorized<NewApiKey>,
        request: RequestId,
    ) -> Result<ApiKeySecret, Problem> {
        let made = self.app.proposer.create_api_key(request, asked).await;
        made.map_err(|error| error.to_problem())
    }

    /// The coordinators.
    pub(super) async fn cluster(&self) -> Result<ClusterView, Problem> {
        self.app.cluster.view().await.map_err(|error| error.to_problem())
    }

    /// Removes a coordinator.
    pub(super) async fn remove_member(
        &self,
        member: Authorized<MemberId>,
        request: RequestId,
    ) -> Result<(), Problem> {
        let removed = self.app.cluster.remove(request, member).await;
        removed.map_err(|error| error.to_problem())
    }

    /// Keeps a value encrypted.
    pub(super) async fn put_secret(
        &self,
        new: Authorized<NewSecret>,
        request: RequestId,
    ) -> Result<(), Problem> {
        let put = self.app.secrets.put(request, new).await;
        put.map_err(|error| error.to_problem())
    }

    /// Removes a secret.
    pub(super) async fn delete_secret(
        &self,
        place: Authorized<SecretPlace>,
        request: RequestId,
    ) -> Result<(), Problem> {
        let deleted = self.app.secrets.delete(request, place).await;
        deleted.map_err(|error| error.to_problem())
    }

    /// Gives out the value of a secret.
    pub(super) async fn reveal_secret(
        &self,
        place: Authorized<SecretPlace>,
        request: RequestId,
    ) -> Result<SecretRevealed, Problem> {
        let revealed = self.app.secrets.reveal(request, place).await;
        revealed.map_err(|error| error.to_problem())
    }

    /// Turns the key of secrets.
    pub(super) async fn turn_secret_key(
        &self,
        asked: Authorized<()>,
        request: RequestId,
    ) -> Result<(), Problem> {
        let turned = self.app.secrets.turn(request, asked).await;
        turned.map_err(|error| error.to_problem())
    }

    /// Makes a join token.
    pub(super) async fn create_token(
        &self,
        asked: Authorized<TokenCreate>,
        request: RequestId,
    ) -> Result<TokenView, Problem> {
        let made = self.app.cluster.create_token(request, asked).await;
        made.map_err(|error| error.to_problem())
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Api").finish_non_exhaustive()
    }
}
