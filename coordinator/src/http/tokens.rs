//! Join tokens.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, Problem, TokenCreate, TokenView};

use super::answer::Created;
use super::body::Json;
use super::parameters::Nothing;
use super::route::{Call, Route, post};
use crate::auth::Where;

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/api/v1/tokens", "createToken", "Let an agent, coordinator or operator join")
            .needs(Permission::NodeJoin, Where::Fleet)
            .refuses(&[Code::NoCapacity, Code::Conflict])
            .to(create),
    ]
}

async fn create(
    call: Call<Nothing, Nothing, Json<TokenCreate>>,
) -> Result<Created<TokenView>, Problem> {
    let asked = call.authorize(call.body.0.clone())?;
    call.api.create_token(asked, call.request).await.map(Created)
}
