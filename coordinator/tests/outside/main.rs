//! The coordinator as programs of others judge it. A program of its own: it starts processes and makes thousands of
//! connections, and tests beside it would lend the former their locks and the latter their ports.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "it takes some of what the other tests stand on")]

mod conformance;
#[path = "../all/https/mod.rs"]
mod https;
#[path = "../all/member/mod.rs"]
mod member;
mod openapi;
mod python;
#[path = "../all/support/mod.rs"]
mod support;
#[path = "../all/access/town.rs"]
mod town;
