//! The rules of the fleet, one test each, and the same rules under random commands.

mod audit;
mod batches;
mod drains;
mod entries;
mod golden;
mod inventory;
mod lifecycle;
mod migrations;
mod random;
mod requests;
mod slots;
