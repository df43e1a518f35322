//! Until when a program's own certificate is good: after that nobody lets it in.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::moment::Moment;

/// The certificate that this program shows. It is read once, when the program starts.
#[derive(Debug, Clone, Copy)]
pub struct Certificate {
    /// When it expires, in seconds since 1970.
    pub expires_at_s: i64,
}

impl Collector for Certificate {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "When this program's certificate expires, in seconds since 1970";
        let name = "novacron_certificate_expiry_timestamp_seconds";
        Moment::new(encoder).gauge(name, help, self.expires_at_s)
    }
}
