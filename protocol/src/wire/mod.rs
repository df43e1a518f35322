//! How messages and records become bytes. Page and disk payloads do not pass through here.

pub mod codec;
