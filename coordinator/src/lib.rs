//! One fleet: the coordinator cluster that agrees on it, and what it says to agents and operators.
//!
//! A command's way: [`http`] and [`auth`] make an intent of a request, [`propose`] decides ids, time and
//! placement, [`raft`] has a quorum agree, [`state`] applies, [`outbox`] and [`agents`] carry the effects out
//! and the reports back, which are proposals again. There is no other way into the state.
//!
//! | module | holds |
//! |---|---|
//! | [`state`] | the fleet and its rules: pure |
//! | [`planner`] | where a machine fits: pure |
//! | [`raft`] | openraft, and where its log and state are kept |
//! | [`peers`] | links between coordinators |
//! | [`propose`] [`view`] | changing and reading the fleet, on any member |
//! | [`leadership`] [`outbox`] [`agents`] [`journal`] | the leader's work: effects, sessions, liveness, its log |
//! | `quorum` | whether anybody follows it |
//! | [`newcomer`] [`joint`] `upgrade` | how members come, what a leader ends of such changes, and when formats go up |
//! | [`alerts`] | what the leader has the fleet say that somebody has to look at |
//! | [`audit`] [`history`] | who changed what; what has left the fleet's tables |
//! | [`ledger`] | what was used and what it costs, read from entries and rates |
//! | [`samples`] | what agents measured, over time; neither in the log nor in the state |
//! | [`cluster`] [`status`] [`readiness`] | the coordinators themselves |
//! | [`backup`] [`restoring`] | the whole state into a file, and a cluster out of it |
//! | [`admission`] [`refusals`] | how much one client may ask; who was refused, for the audit log |
//! | [`app`] | all that the API stands on |
//! | [`metrics`] | what it says of itself in numbers |
//! | [`coordinator`] `vital` | everything put together, and stopped if a part of it is gone |
//! | [`at_rest`] | encryption of its files |
//! | [`switches`] | what its file turns off |
//! | [`config`] [`directory`] [`founding`] [`enrolment`] [`operator`] | its file, its data, how members and operators are made |
//! | [`clock`] | time and randomness, asked for in one place |
#![forbid(unsafe_code)]

pub mod admission;
pub mod agents;
pub mod alerts;
pub mod app;
pub mod at_rest;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod directory;
pub mod enrolment;
pub mod fitness;
pub mod founding;
pub mod history;
pub mod http;
pub mod joint;
pub mod journal;
pub mod leadership;
pub mod ledger;
pub mod metrics;
pub mod newcomer;
pub mod operator;
pub mod outbox;
pub mod peers;
pub mod planner;
pub mod propose;
mod quorum;
pub mod raft;
pub mod readiness;
pub mod refusals;
pub mod restoring;
pub mod samples;
pub mod secrets;
pub mod state;
pub mod status;
pub mod switches;
mod upgrade;
pub mod view;
mod vital;
