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
    /// As plain, encrypted.
    PlainTls,
    /// As multifd, encrypted.
    MultifdTls,
    /// As multifd-zstd, encrypted.
    MultifdZstdTls,
}

/// The id of both sides' certificates.
pub const TLS_CREDENTIALS: &str = "tls0";

impl Mode {
    /// Whether it is encrypted, as ours always is.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::PlainTls | Self::MultifdTls | Self::MultifdZstdTls)
    }

    fn has_channels(self) -> bool {
        !matches!(self, Self::Plain | Self::PlainTls | Self::Xbzrle)
    }

    /// For `migrate-set-capabilities`.
    pub fn capabilities(self) -> Vec<Value> {
        let wanted: &[&str] = match self {
            Self::Xbzrle => &["events", "xbzrle"],
            _ if self.has_channels() => &["events", "multifd"],
            _ => &["events"],
        };
        wanted.iter().map(|name| json!({ "capability": name, "state": true })).collect()
    }

    /// For `migrate-set-parameters`: nothing holds it back, and xbzrle remembers the whole guest.
    pub fn parameters(self, memory_bytes: u64) -> Value {
        let mut parameters = json!({ "max-bandwidth": 0, "downtime-limit": DOWNTIME_LIMIT_MS });
        if self.has_channels() {
            parameters["multifd-channels"] = json!(CHANNELS);
        }
        if self.is_encrypted() {
            parameters["tls-creds"] = json!(TLS_CREDENTIALS);
            parameters["tls-hostname"] = json!(super::tls::SERVER_NAME);
        }
        match self {
            Self::MultifdZstd | Self::MultifdZstdTls => {
                parameters["multifd-compression"] = json!("zstd");
            }
            Self::Xbzrle => {
                parameters["xbzrle-cache-size"] = json!(memory_bytes.next_power_of_two());
            }
            _ => {}
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
            Self::PlainTls => "plain-tls",
            Self::MultifdTls => "multifd-tls",
            Self::MultifdZstdTls => "multifd-zstd-tls",
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
