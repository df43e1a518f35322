//! What a program of NovaCron says of itself in numbers, and the plain HTTP endpoint where Prometheus reads it.
//!
//! | module | holds |
//! |---|---|
//! | [`pages`] | what there is to read, and its text |
//! | [`endpoint`] | the listener |
//! | [`moment`] | numbers that are looked up when somebody asks |
//! | [`certificate`] | until when a program's certificate is good |
//! | [`process`] | what every program says: processor, memory, open files |
//! | [`lint`] | the rules that the text must keep to; for tests |
//!
//! **Absent here**: any word of machines, migrations or consensus. Who has something to say makes its own metrics.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod endpoint;
pub mod lint;
pub mod moment;
pub mod pages;
pub mod process;

pub use endpoint::{Endpoint, Listen};
pub use pages::Pages;
