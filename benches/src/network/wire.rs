//! What crossed the link, counted the same way for everybody.
//!
//! TCP hands its packets to the link in clumps of up to 64 KiB, and an interface counts a clump as one packet with
//! one header; QUIC's clumps are smaller. That alone is 4 %, as much as the bar allows. The shaper, however, counts
//! (and lets pass) every header as if the clump were cut already. So its bytes are the ones that are compared; the
//! interface's own are kept beside them. An emulated line gets every packet cut, and counts what left, with the frame's
//! header and whether it was lost on the way or not.

use std::ops::Sub;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::emulator::{Emulator, LineCounter};
use super::plan::INTERFACE;
use crate::execute::{argv, execute};

/// Bytes that two hosts have sent since their links were made, or between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WireBytes {
    /// What the shapers and the emulated line let pass, both directions, all headers.
    pub shaped: u64,
    /// What the interfaces and the emulated line say, both directions.
    pub interfaces: u64,
}

impl WireBytes {
    /// As often.
    pub fn times(self, count: u64) -> Self {
        Self { shaped: self.shaped * count, interfaces: self.interfaces * count }
    }
}

impl Sub for WireBytes {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            shaped: self.shaped.saturating_sub(earlier.shaped),
            interfaces: self.interfaces.saturating_sub(earlier.interfaces),
        }
    }
}

/// How a link is shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Shape {
    /// Bytes per second.
    rate: u64,
    burst: u64,
    #[serde(rename = "lat")]
    latency_us: u64,
}

/// The place where bytes are counted: the links of two hosts, as they leave them.
#[derive(Debug)]
pub struct Wire {
    namespaces: [String; 2],
    line: Option<LineCounter>,
}

impl Wire {
    /// The wire between the hosts with these namespaces.
    pub fn between(source: &str, target: &str) -> Self {
        Self { namespaces: [source.to_owned(), target.to_owned()], line: None }
    }

    /// The same with an emulated line beside the links.
    pub fn with_line(self, emulator: Option<&Emulator>) -> Self {
        Self { line: emulator.map(Emulator::counter), ..self }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> Result<WireBytes> {
        let mut sum = WireBytes::default();
        for namespace in &self.namespaces {
            sum.shaped += shaper(namespace)?.bytes;
            sum.interfaces += interface_bytes(namespace)?;
        }
        for counts in
            self.line.iter().map(LineCounter::counts).collect::<Result<Vec<_>>>()?.concat()
        {
            sum.shaped += counts.bytes;
            sum.interfaces += counts.bytes;
        }
        Ok(sum)
    }

    /// How the first host's link is shaped.
    pub fn shape(&self) -> Result<Shape> {
        Ok(shaper(&self.namespaces[0])?.options)
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Shaper {
    options: Shape,
    bytes: u64,
}

fn shaper(namespace: &str) -> Result<Shaper> {
    let json = execute(&argv(&format!("tc -n {namespace} -s -j qdisc show dev {INTERFACE}")))?;
    parse_shaper(&json).with_context(|| format!("the shaper of {namespace}"))
}

fn parse_shaper(json: &str) -> Result<Shaper> {
    let mut all: Vec<Shaper> = serde_json::from_str(json).context("tc's answer")?;
    all.pop().context("there is none")
}

fn interface_bytes(namespace: &str) -> Result<u64> {
    let json = execute(&argv(&format!("ip -n {namespace} -s -j link show dev {INTERFACE}")))?;
    parse_interface(&json).with_context(|| format!("the interface of {namespace}"))
}

fn parse_interface(json: &str) -> Result<u64> {
    #[derive(Deserialize)]
    struct Link {
        stats64: Stats,
    }
    #[derive(Deserialize)]
    struct Stats {
        tx: Transmitted,
    }
    #[derive(Deserialize)]
    struct Transmitted {
        bytes: u64,
    }
    let links: Vec<Link> = serde_json::from_str(json).context("ip's answer")?;
    links.first().map(|link| link.stats64.tx.bytes).context("there is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapers_are_read() {
        let json = r#"[{"kind":"tbf","handle":"801d:","root":true,"refcnt":3,
            "options":{"rate":125000000,"burst":250000,"lat":10000},
            "bytes":42,"packets":1,"drops":0,"overlimits":0}]"#;
        let shape = Shape { rate: 125_000_000, burst: 250_000, latency_us: 10_000 };
        assert_eq!(parse_shaper(json).unwrap(), Shaper { options: shape, bytes: 42 });
        let unshaped = r#"[{"kind":"noqueue","options":{},"bytes":0}]"#;
        assert!(parse_shaper(unshaped).is_err());
        assert!(parse_shaper("[]").is_err());
    }

    #[test]
    fn interfaces_are_read() {
        let json =
            r#"[{"ifname":"eth0","stats64":{"rx":{"bytes":5},"tx":{"bytes":70,"packets":1}}}]"#;
        assert_eq!(parse_interface(json).unwrap(), 70);
        assert!(parse_interface("[]").is_err());
    }

    #[test]
    fn what_passed_in_between_is_the_difference() {
        let bytes = |shaped, interfaces| WireBytes { shaped, interfaces };
        assert_eq!(bytes(10, 9) - bytes(4, 5), bytes(6, 4));
    }
}
