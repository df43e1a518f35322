//! The rules of the fleet, one test each, and the same rules under random commands.

mod access;
mod alerts;
mod annotations;
mod audit;
mod batches;
mod drains;
mod entries;
mod events;
mod formats;
mod golden;
mod incarnations;
mod inventory;
mod lifecycle;
mod migrations;
mod networks;
mod news;
mod projects;
mod random;
mod regions;
mod requests;
mod secrets;
mod slots;
mod snapshots;
