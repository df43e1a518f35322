//! What plans cost, and which plans projects have.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{
    Code, PlanChange, PriceView, PricesView, Problem, RateCardView, RatesView,
};

use super::Api;
use super::answer::Found;
use super::body::{Json, NoBody};
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use super::usage::hour;
use crate::auth::Where;
use crate::propose::Intent;
use crate::state::Fleet;
use crate::state::ledger::rate::{Dimension, Price, Prices, RateCard};

const REFUSALS: &[Code] = &[Code::RateBegun, Code::NoCapacity, Code::IdempotencyConflict];

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/rates", "listRates", "Show what plans cost, and which plans projects have")
            .needs(Permission::LedgerRead, Where::Fleet)
            .to(list),
        post("/api/v1/rates", "setRate", "Set what a plan costs from an hour on")
            .needs(Permission::RateAdmin, Where::Fleet)
            .refuses(REFUSALS)
            .to(set_rate),
        post("/api/v1/rates/plans", "setPlan", "Give a project a plan from an hour on")
            .needs(Permission::RateAdmin, Where::Fleet)
            .refuses(&[
                Code::NotFound,
                Code::RateBegun,
                Code::NoCapacity,
                Code::IdempotencyConflict,
            ])
            .to(set_plan),
    ]
}

async fn list(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<RatesView>, Problem> {
    rates(&call.api).await
}

async fn rates(api: &Api) -> Result<Found<RatesView>, Problem> {
    api.read(view).await.map(Found)
}

async fn set_rate(
    call: Call<Nothing, Nothing, Json<RateCardView>>,
) -> Result<Found<RatesView>, Problem> {
    let RateCardView { plan, valid_from, vms_max, prices } = call.body.0.clone();
    let valid_from = hour("valid_from", valid_from)?;
    let card = RateCard { plan, valid_from, vms_max, prices: read_prices(&prices) };
    let intent = call.authorize(Intent::SetRate(card))?;
    call.propose(intent).await?;
    rates(&call.api).await
}

async fn set_plan(
    call: Call<Nothing, Nothing, Json<PlanChange>>,
) -> Result<Found<RatesView>, Problem> {
    let PlanChange { project, plan, valid_from } = call.body.0.clone();
    let from = valid_from.map(|from| hour("valid_from", from)).transpose()?;
    let intent = call.authorize(Intent::SetPlan { project, plan, from })?;
    call.propose(intent).await?;
    rates(&call.api).await
}

fn view(fleet: &Fleet) -> RatesView {
    let cards = fleet.rate_cards().into_iter().map(|card| RateCardView {
        prices: show_prices(&card),
        plan: card.plan,
        valid_from: card.valid_from.begin(),
        vms_max: card.vms_max,
    });
    let plans = fleet.plans().flat_map(|(project, history)| {
        history.changes.iter().map(|(from, plan)| PlanChange {
            project: project.clone(),
            plan: plan.clone(),
            valid_from: Some(from.begin()),
        })
    });
    RatesView { cards: cards.collect(), plans: plans.collect() }
}

/// In the order of [`Dimension::ALL`].
fn read_prices(view: &PricesView) -> Prices {
    [view.vm_hours, view.storage_gb, view.transfer_gb, view.snapshots, view.migrations]
        .map(|PriceView { micro_dollars, per_units }| Price { micro_dollars, per_units })
}

fn show_prices(card: &RateCard) -> PricesView {
    let price = |dimension| {
        let Price { micro_dollars, per_units } = card.price(dimension);
        PriceView { micro_dollars, per_units }
    };
    PricesView {
        vm_hours: price(Dimension::VmHours),
        storage_gb: price(Dimension::StorageGb),
        transfer_gb: price(Dimension::TransferGb),
        snapshots: price(Dimension::Snapshots),
        migrations: price(Dimension::Migrations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ledger::hour::Hour;

    #[test]
    fn prices_keep_their_places() {
        let prices = [1, 2, 3, 4, 5].map(Price::each);
        let plan = "own".parse().unwrap();
        let card = RateCard { plan, valid_from: Hour(0), vms_max: None, prices };
        let shown = show_prices(&card);
        assert_eq!((shown.vm_hours.micro_dollars, shown.migrations.micro_dollars), (1, 5));
        assert_eq!(read_prices(&shown), prices);
    }
}
