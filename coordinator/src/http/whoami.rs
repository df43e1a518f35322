//! Who asks, and what it may do: for people whose request was refused, and for programs that look before they leap.

use novacron_protocol::api::{Problem, WhoamiView};

use super::answer::Found;
use super::body::NoBody;
use super::parameters::Nothing;
use super::route::{Call, Route, get};
use crate::view::access::whoami_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/whoami", "whoami", "Show who asks, and what it may do")
            .for_principals()
            .to(show),
    ]
}

async fn show(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<WhoamiView>, Problem> {
    let asker = call.grant()?.asker().clone();
    let view = call.read(move |fleet, sight| whoami_view(fleet, sight.principal(), &asker));
    view.await.map(Found)
}
