//! Numbers that are looked up when somebody asks, in the words that a collector gives them in.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What is looked up, for one collector.
#[derive(Debug)]
pub struct Moment<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Moment<'a> {
    /// With the encoder that a collector is given.
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// A number that goes up and down.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn gauge<N>(&mut self, name: &str, help: &str, value: N) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
        N: EncodeGaugeValue,
    {
        let encoder = self.describe(name, help, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// Numbers that go up and down, one for each word of a label. The words are this program's, so there are few.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn gauges<N>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, N)>,
    ) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
        N: EncodeGaugeValue,
    {
        self.labelled(name, help, values.into_iter().map(|(word, value)| ([(label, word)], value)))
    }

    /// Numbers that go up and down, each with its labels. Whoever gives them keeps their number small.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn labelled<'l, N, const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'l str); LABELS], N)>,
    ) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
        N: EncodeGaugeValue,
    {
        let mut encoder = self.describe(name, help, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A number that only grows. `_total` is added to its name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn counter<N>(&mut self, name: &str, help: &str, value: N) -> fmt::Result
    where
        ConstCounter<N>: EncodeMetric,
        N: EncodeCounterValue,
    {
        let encoder = self.describe(name, help, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    /// Numbers that only grow, one for each word of a label. The words are this program's, so there are few.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn counters<N>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, N)>,
    ) -> fmt::Result
    where
        ConstCounter<N>: EncodeMetric,
        N: EncodeCounterValue,
    {
        let mut encoder = self.describe(name, help, MetricType::Counter)?;
        for (word, value) in values {
            let labels = [(label, word)];
            ConstCounter::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// As [`Self::gauge`], always 1: what there is to say is in the labels, which do not change while the program runs.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        let mut encoder = self.describe(name, help, MetricType::Gauge)?;
        ConstGauge::new(1).encode(encoder.encode_family(&labels)?)
    }

    /// The full stop is what the registry puts after the help of the metrics that it holds.
    fn describe<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, &format!("{help}."), None, kind)
    }
}

/// A count as a gauge: more than fits is as much as fits.
pub fn whole(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
