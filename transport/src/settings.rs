//! The limits of a link, with their arithmetic.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use serde::Deserialize;

/// The least datagram that every path must carry (RFC 9000 §14): where a connection starts.
const INITIAL_MTU_BYTES: u16 = 1200;

const MIB: u32 = 1024 * 1024;

/// A limit that QUIC cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{name} is beyond what QUIC can express")]
pub struct InvalidSetting {
    /// The field of [`LinkSettings`].
    pub name: &'static str,
}

/// How a sender finds out what the path carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// RFC 9438: fills the queue until a packet is lost. Fair to everything else on the link.
    Cubic,
    /// Estimates bandwidth and delay (quinn's, which it calls experimental): fills paths that lose packets without being
    /// full.
    Bbr,
}

impl fmt::Display for Congestion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        })
    }
}

/// Every limit of an endpoint and its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// A connection without a packet for this long is dead.
    pub idle_timeout: Duration,
    /// A packet is sent at least this often: five chances within `idle_timeout` of 10 s.
    pub keep_alive: Duration,
    /// A handshake takes two round trips; this bounds a peer that stops in the middle.
    pub handshake_timeout: Duration,
    /// Bytes sent and not yet acknowledged, over all streams of a connection: at least bandwidth × round trip.
    pub send_window_bytes: u32,
    /// Bytes that a peer may have in flight on one stream.
    pub stream_receive_window_bytes: u32,
    /// Bytes that a peer may have in flight on all streams together. This and `send_window_bytes` bound the
    /// memory of a connection.
    pub connection_receive_window_bytes: u32,
    /// Two-way streams that a peer may have open at once.
    pub bidirectional_streams_max: u32,
    /// One-way streams that a peer may have open at once.
    pub unidirectional_streams_max: u32,
    /// The congestion controller.
    pub congestion: Congestion,
    /// Largest UDP payload that path discovery tries: 1,452 is Ethernet's 1,500 less IPv6 (40) and UDP (8).
    /// Links with jumbo frames may raise it to 8,952.
    pub mtu_bytes_max: u16,
    /// Bytes of each of the socket's buffers, as far as the system allows (`net.core.rmem_max`): at 1 Gbit/s, 2 MiB
    /// is what arrives while the receiving task is off the processor for 16 ms.
    pub socket_buffer_bytes: usize,
    /// Incoming handshakes under way at once. Each costs a signature, two verifications and the
    /// connection's buffers, on behalf of a peer that has proven nothing.
    pub handshakes_max: usize,
    /// Verified connections that wait for their owner to accept them.
    pub accept_backlog_max: usize,
}

impl LinkSettings {
    /// Links of a coordinator to agents and other members: small messages, many peers. Memory of a link is at
    /// most 2 + 1 MiB, so 1,000 stalled agents hold less than 3 GiB.
    pub fn control() -> Self {
        Self {
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            send_window_bytes: MIB,
            stream_receive_window_bytes: MIB,
            connection_receive_window_bytes: 2 * MIB,
            bidirectional_streams_max: 256,
            unidirectional_streams_max: 16,
            congestion: Congestion::Cubic,
            mtu_bytes_max: 1452,
            socket_buffer_bytes: 2 * MIB as usize,
            handshakes_max: 64,
            accept_backlog_max: 64,
        }
    }

    /// Links between agents that carry a migration. 1 Gbit/s × 8 ms round trip, or 100 Mbit/s × 80 ms, are 1 MB: a
    /// send window of 1 MiB keeps such links full, yet no more than 8 ms of stale pages wait in it at 1 Gbit/s when
    /// the guest is stopped, and a switch with a shallow buffer loses none. The receiver may let one lane use twice of
    /// it, and all lanes together four times as much. At most 1 + 4 MiB a connection, with at most a handful of them.
    pub fn migration() -> Self {
        Self {
            send_window_bytes: MIB,
            stream_receive_window_bytes: 2 * MIB,
            connection_receive_window_bytes: 4 * MIB,
            congestion: Congestion::Bbr,
            bidirectional_streams_max: 64,
            unidirectional_streams_max: 64,
            handshakes_max: 16,
            accept_backlog_max: 16,
            ..Self::control()
        }
    }

    /// Links of applicants, who are nobody yet: one short exchange each.
    pub fn enrolment() -> Self {
        Self {
            send_window_bytes: 64 * 1024,
            stream_receive_window_bytes: 64 * 1024,
            connection_receive_window_bytes: 64 * 1024,
            bidirectional_streams_max: 1,
            unidirectional_streams_max: 0,
            socket_buffer_bytes: 256 * 1024,
            handshakes_max: 16,
            accept_backlog_max: 16,
            ..Self::control()
        }
    }

    /// These settings as quinn takes them.
    pub(crate) fn transport_config(&self) -> Result<Arc<TransportConfig>, InvalidSetting> {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.mtu_bytes_max);
        let mut config = TransportConfig::default();
        config
            .max_idle_timeout(Some(self.idle_timeout()?))
            .keep_alive_interval(Some(self.keep_alive))
            .send_window(u64::from(self.send_window_bytes))
            .stream_receive_window(VarInt::from_u32(self.stream_receive_window_bytes))
            .receive_window(VarInt::from_u32(self.connection_receive_window_bytes))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.bidirectional_streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(self.unidirectional_streams_max))
            .congestion_controller_factory(self.congestion_controller())
            .initial_mtu(INITIAL_MTU_BYTES)
            .mtu_discovery_config(Some(discovery))
            .datagram_receive_buffer_size(None);
        Ok(Arc::new(config))
    }

    fn idle_timeout(&self) -> Result<IdleTimeout, InvalidSetting> {
        self.idle_timeout.try_into().map_err(|_| InvalidSetting { name: "idle_timeout" })
    }

    fn congestion_controller(&self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self.congestion {
            Congestion::Cubic => Arc::new(CubicConfig::default()),
            Congestion::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_consistent() {
        for settings in
            [LinkSettings::control(), LinkSettings::migration(), LinkSettings::enrolment()]
        {
            assert!(settings.transport_config().is_ok());
            assert!(settings.keep_alive * 3 <= settings.idle_timeout);
            assert!(
                settings.stream_receive_window_bytes <= settings.connection_receive_window_bytes
            );
        }
        let gigabit_8_ms_bytes = 1_000_000_000 / 8 * 8 / 1_000;
        assert!(LinkSettings::migration().send_window_bytes >= gigabit_8_ms_bytes);
    }

    #[test]
    fn an_impossible_timeout_is_refused() {
        let settings = LinkSettings { idle_timeout: Duration::MAX, ..LinkSettings::control() };
        let refusal = settings.transport_config().unwrap_err();
        assert_eq!(refusal, InvalidSetting { name: "idle_timeout" });
    }
}
