//! What there is to read: a registry behind each path.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

/// Where Prometheus looks.
pub const METRICS_PATH: &str = "/metrics";

/// Registries by path.
#[derive(Debug, Default)]
pub struct Pages {
    registries: BTreeMap<&'static str, Registry>,
}

impl Pages {
    /// One more page.
    #[must_use]
    pub fn with(mut self, path: &'static str, registry: Registry) -> Self {
        self.registries.insert(path, registry);
        self
    }

    /// The text at a path, as it is now; `None` where there is nothing.
    ///
    /// # Errors
    /// A collector has no answer.
    pub fn text(&self, path: &str) -> Option<Result<String, fmt::Error>> {
        self.registries.get(path).map(text)
    }
}

/// What a registry holds, in Prometheus' text format 0.0.4.
///
/// # Errors
/// A collector has no answer.
pub fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry)?;
    Ok(text)
}
