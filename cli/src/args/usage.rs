//! `novacron usage`, `invoice`, `rate` and `ledger`.

use clap::{Args, Subcommand};
use novacron_protocol::api::{
    CorrectionPost, PlanChange, PriceView, PricesView, RateCardView, UsageStep, Whole,
};
use novacron_protocol::ids::{PlanName, ProjectName};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_sdk::{InvoiceFilter, UsageFilter};

use crate::failure::Failure;

use super::values::{parse_hour, parse_meter, parse_plan, parse_price, parse_project, parse_whole};

/// Which usage, and how it is grouped.
#[derive(Debug, Args)]
pub struct Usage {
    /// From this hour on, such as 2026-11-26T13 or 2026-11-26 (UTC) [default: the beginning of the month].
    #[arg(long, value_name = "HOUR", value_parser = parse_hour)]
    pub from: Option<Timestamp>,
    /// Up to this hour [default: the end of the present one].
    #[arg(long, value_name = "HOUR", value_parser = parse_hour)]
    pub to: Option<Timestamp>,
    /// Only this project's.
    #[arg(long, value_parser = parse_project)]
    pub project: Option<ProjectName>,
    /// Only this machine's (name or id).
    #[arg(long)]
    pub vm: Option<String>,
    /// Only of this meter, such as vm-seconds.
    #[arg(long, value_parser = parse_meter)]
    pub meter: Option<Meter>,
    /// Over time by hour or day, or grouped by vm, project or label:KEY.
    #[arg(long, value_name = "GROUP")]
    pub by: Option<String>,
    /// Draw it over time: a line of bars for each day by hour, or for each four weeks by day [default: by day].
    #[arg(long)]
    pub curve: bool,
}

impl Usage {
    /// How finely it is asked for over time, if it is.
    ///
    /// # Errors
    /// What no curve is drawn of.
    pub fn step(&self) -> Result<Option<UsageStep>, Failure> {
        match self.by.as_deref() {
            Some("hour") => Ok(Some(UsageStep::Hour)),
            Some("day") => Ok(Some(UsageStep::Day)),
            None if self.curve => Ok(Some(UsageStep::Day)),
            Some(_) if self.curve => {
                Err(Failure::usage("a curve is drawn by time: give --by hour or --by day"))
            }
            _ => Ok(None),
        }
    }

    /// What the API is asked.
    pub fn filter(&self) -> UsageFilter {
        UsageFilter {
            from: self.from,
            to: self.to,
            project: self.project.clone(),
            vm: self.vm.clone(),
            meter: self.meter,
            group_by: self.by.clone(),
        }
    }
}

/// Which invoice.
#[derive(Debug, Args)]
pub struct Invoice {
    /// The month (UTC), such as 2026-11.
    #[arg(value_name = "MONTH")]
    pub period: String,
    /// Only this project's lines.
    #[arg(long, value_parser = parse_project)]
    pub project: Option<ProjectName>,
    /// Split each line by the values of this label; may be repeated.
    #[arg(long, value_name = "LABEL")]
    pub allocate: Vec<String>,
    /// As CSV.
    #[arg(long)]
    pub csv: bool,
}

impl Invoice {
    /// What the API is asked.
    pub fn filter(&self) -> InvoiceFilter {
        InvoiceFilter { project: self.project.clone(), allocate: self.allocate.clone() }
    }
}

/// What plans cost.
#[derive(Debug, Subcommand)]
pub enum RateCommand {
    /// Lists what plans cost, and which plans projects have.
    List,
    /// Sets what a plan costs from an hour on that has not begun. What is not said costs nothing.
    Set(RateSet),
    /// Gives a project a plan.
    Plan(RatePlan),
}

/// A rate card to set.
#[derive(Debug, Args)]
pub struct RateSet {
    /// The plan, such as standard.
    #[arg(value_parser = parse_plan)]
    pub plan: PlanName,
    /// The hour from which it holds, such as 2026-12-01.
    #[arg(long, value_name = "HOUR", value_parser = parse_hour)]
    pub from: Timestamp,
    /// Machines that a project may have under it [default: no bound].
    #[arg(long, value_name = "N")]
    pub vms_max: Option<u32>,
    /// Dollars for an hour of a machine: 0.15, or 27.397/1000 for a thousand of them.
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = parse_price)]
    pub vm_hours: PriceView,
    /// Dollars for a GiB of disk, for an hour.
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = parse_price)]
    pub storage_gb: PriceView,
    /// Dollars for a GiB that a migration puts on the wire.
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = parse_price)]
    pub transfer_gb: PriceView,
    /// Dollars for a snapshot, for an hour.
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = parse_price)]
    pub snapshots: PriceView,
    /// Dollars for a migration that completed.
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = parse_price)]
    pub migrations: PriceView,
}

impl RateSet {
    /// The API's request.
    pub fn request(&self) -> RateCardView {
        let prices = PricesView {
            vm_hours: self.vm_hours,
            storage_gb: self.storage_gb,
            transfer_gb: self.transfer_gb,
            snapshots: self.snapshots,
            migrations: self.migrations,
        };
        let (plan, valid_from, vms_max) = (self.plan.clone(), self.from, self.vms_max);
        RateCardView { plan, valid_from, vms_max, prices }
    }
}

/// A plan to give.
#[derive(Debug, Args)]
pub struct RatePlan {
    /// The project.
    #[arg(value_parser = parse_project)]
    pub project: ProjectName,
    /// The plan.
    #[arg(value_parser = parse_plan)]
    pub plan: PlanName,
    /// The hour from which it has it [default: the present one].
    #[arg(long, value_name = "HOUR", value_parser = parse_hour)]
    pub from: Option<Timestamp>,
}

impl RatePlan {
    /// The API's request.
    pub fn request(&self) -> PlanChange {
        let (project, plan) = (self.project.clone(), self.plan.clone());
        PlanChange { project, plan, valid_from: self.from }
    }
}

/// The ledger itself.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Checks that entries, sums, hashes and accounts agree.
    Verify {
        /// `last` of an earlier check: that window must be there and be the same.
        #[arg(long, value_name = "LAST")]
        known: Option<String>,
    },
    /// Lists the sealed windows.
    Windows,
    /// Lists the entries of a window.
    Entries {
        /// The window, such as 2026-11-26T13.
        #[arg(value_name = "HOUR", value_parser = parse_hour)]
        window: Timestamp,
    },
    /// Corrects an entry: it is taken back by a new one, and what is right is posted by another.
    Correct(LedgerCorrect),
}

/// A correction.
#[derive(Debug, Args)]
pub struct LedgerCorrect {
    /// The entry's window.
    #[arg(value_name = "HOUR", value_parser = parse_hour)]
    pub window: Timestamp,
    /// The entry's number.
    pub index: u64,
    /// What would have been right, in the meter's unit; 0 if nothing was used.
    #[arg(value_parser = parse_whole)]
    pub quantity: Whole,
    /// Why.
    #[arg(long)]
    pub reason: String,
}

impl LedgerCorrect {
    /// The API's request.
    pub fn request(&self) -> CorrectionPost {
        let (window, index, quantity) = (self.window, self.index, self.quantity);
        CorrectionPost { window, index, quantity, reason: self.reason.clone() }
    }
}
