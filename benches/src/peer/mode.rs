//! QEMU's own ways to move memory, as capabilities and parameters.

use std::fmt;

use clap::ValueEnum;
use serde_json::{Value, json};

/// Channels of multifd, as many as ours has by default.
const CHANNELS: u64 = 2;
/// QEMU's default, and ours.
const DOWNTIME_LIMIT_MS: u64 = 300;

/// How memory moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One channel, pages as they are.
    Plain,
    /// Parallel channels.
    Multifd,
    /// Parallel channels, compressed.
    MultifdZstd,
    /// One channel; of pages sent before only the differences, as far as a cache remembers them.
    Xbzrle,
}

impl Mode {
    /// For `migrate-set-capabilities`.
    pub fn capabilities(self) -> Vec<Value> {
        let wanted: &[&str] = match self {
            Self::Plain => &["events"],
            Self::Multifd | Self::MultifdZstd => &["events", "multifd"],
            Self::Xbzrle => &["events", "xbzrle"],
        };
        wanted.iter().map(|name| json!({ "capability": name, "state": true })).collect()
    }

    /// For `migrate-set-parameters`: nothing holds it back, and xbzrle remembers the whole guest.
    pub fn parameters(self, memory_bytes: u64) -> Value {
        let mut parameters = json!({ "max-bandwidth": 0, "downtime-limit": DOWNTIME_LIMIT_MS });
        if matches!(self, Self::Multifd | Self::MultifdZstd) {
            parameters["multifd-channels"] = json!(CHANNELS);
        }
        match self {
            Self::Plain | Self::Multifd => {}
            Self::MultifdZstd => parameters["multifd-compression"] = json!("zstd"),
            Self::Xbzrle => {
                parameters["xbzrle-cache-size"] = json!(memory_bytes.next_power_of_two())
            }
        }
        parameters
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Multifd => "multifd",
            Self::MultifdZstd => "multifd-zstd",
            Self::Xbzrle => "xbzrle",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_called_what_the_command_line_calls_them() {
        for mode in Mode::value_variants() {
            assert_eq!(Mode::from_str(&mode.to_string(), false).as_ref(), Ok(mode));
        }
    }

    #[test]
    fn only_zstd_compresses() {
        let zstd = Mode::MultifdZstd.parameters(1 << 29);
        assert_eq!(
            (&zstd["multifd-compression"], &zstd["max-bandwidth"]),
            (&json!("zstd"), &json!(0))
        );
        assert!(Mode::Multifd.parameters(1 << 29)["multifd-compression"].is_null());
        assert_eq!(Mode::Xbzrle.parameters(500 << 20)["xbzrle-cache-size"], json!(512 << 20));
        assert_eq!(Mode::Xbzrle.capabilities()[1]["capability"], "xbzrle");
    }
}
