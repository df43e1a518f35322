//! Metrics: a row for each, with how it went in a few characters.

use novacron_protocol::api::{MetricHistory, MetricPoint, MetricSeries, MetricView};
use novacron_protocol::size::display_size;

use super::Row;
use super::text::word;

/// Characters of a curve.
const CURVE_WIDTH: usize = 40;
/// From low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Row for MetricView {
    const HEADER: &'static [&'static str] = &["METRIC", "UNIT", "KIND", "OF", "MEANING"];

    fn row(&self) -> Vec<String> {
        let of: Vec<_> = self.resources.iter().map(word).collect();
        let meaning = self.meaning.clone();
        vec![self.metric.clone(), self.unit.clone(), word(&self.kind), of.join(","), meaning]
    }
}

impl Row for MetricSeries {
    const HEADER: &'static [&'static str] =
        &["METRIC", "LAST", "AVERAGE", "MINIMUM", "MAXIMUM", "OVER TIME"];

    fn row(&self) -> Vec<String> {
        let show =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| self.value(value));
        let of = |number: fn(&MetricPoint) -> f64| self.points.iter().map(number);
        let count = self.points.len() as f64;
        let mean = of(|point| point.average).sum::<f64>() / count;
        vec![
            self.name(),
            show(self.points.last().map(|point| point.average)),
            show((count > 0.0).then_some(mean)),
            show(of(|point| point.minimum).reduce(f64::min)),
            show(of(|point| point.maximum).reduce(f64::max)),
            curve(&of(|point| point.average).collect::<Vec<_>>()),
        ]
    }
}

trait Named {
    fn name(&self) -> String;
    fn value(&self, value: f64) -> String;
}

impl Named for MetricSeries {
    /// With its device; without the unit, which its values have.
    fn name(&self) -> String {
        let name = self.metric.trim_end_matches("_per_second").trim_end_matches("_bytes");
        let device = self.device.iter().map(|device| format!(" {device}")).collect::<String>();
        format!("{name}{device}")
    }

    fn value(&self, value: f64) -> String {
        match self.unit.as_str() {
            "bytes" => display_size(value as u64),
            "bytes/s" => format!("{}/s", display_size(value as u64)),
            "operations/s" => format!("{value:.1}/s"),
            "processors" | "programs" => format!("{value:.2}"),
            _ => format!("{value}"),
        }
    }
}

/// How values went: each character is the mean of some of them, between the least and the most of all.
fn curve(values: &[f64]) -> String {
    let width = values.len().min(CURVE_WIDTH);
    let means: Vec<f64> = (0..width)
        .map(|place| {
            let part = &values[place * values.len() / width..(place + 1) * values.len() / width];
            part.iter().sum::<f64>() / part.len() as f64
        })
        .collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let span = means.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
    let bar = |mean: &f64| {
        let height = if span > 0.0 { (mean - least) / span * (BARS.len() - 1) as f64 } else { 0.0 };
        BARS[(height.round() as usize).min(BARS.len() - 1)]
    };
    means.iter().map(bar).collect()
}

/// What came of a stream, a line for each moment.
pub fn lines(answer: &MetricHistory) -> String {
    let moments =
        answer.series.iter().flat_map(|series| series.points.iter().map(|point| point.at));
    let moments: std::collections::BTreeSet<_> = moments.collect();
    let line = |at| {
        let values = answer.series.iter().filter_map(|series| {
            let point = series.points.iter().find(|point| point.at == at)?;
            Some(format!("{} {}", series.name(), series.value(point.average)))
        });
        format!("{at}  {}", values.collect::<Vec<_>>().join("  "))
    };
    if moments.is_empty() {
        return format!("{}  nothing was measured", answer.from);
    }
    moments.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use novacron_protocol::metric::MetricKind;
    use novacron_protocol::time::Timestamp;

    use super::*;

    fn series(unit: &str, values: &[f64]) -> MetricSeries {
        let at = |number: usize| Timestamp::from_unix_ms(number as u64 * 10_000);
        let point = |(number, value): (usize, &f64)| MetricPoint {
            at: at(number),
            average: *value,
            minimum: value / 2.0,
            maximum: value * 2.0,
        };
        MetricSeries {
            metric: "disk_written_bytes_per_second".to_owned(),
            device: Some("disk0".to_owned()),
            unit: unit.to_owned(),
            kind: MetricKind::Rate,
            points: values.iter().enumerate().map(point).collect(),
        }
    }

    #[test]
    fn a_row_says_how_it_went() {
        let row = series("bytes/s", &[0.0, 1024.0, 2048.0, 1024.0]).row();
        assert_eq!(row, ["disk_written disk0", "1 KiB/s", "1 KiB/s", "0 B/s", "4 KiB/s", "▁▅█▅"]);
        assert_eq!(series("bytes", &[]).row()[1..], ["-", "-", "-", "-", ""]);
        let long = curve(&(0..1_000).map(f64::from).collect::<Vec<_>>());
        assert_eq!(long.chars().count(), CURVE_WIDTH);
        assert!(long.starts_with('▁') && long.ends_with('█'));
        assert_eq!(curve(&[7.0, 7.0]), "▁▁");
    }

    #[test]
    fn a_stream_has_a_line_for_each_moment() {
        let mut answer = MetricHistory {
            resource: "vm:a".to_owned(),
            from: Timestamp::default(),
            to: Timestamp::default(),
            interval_s: 10,
            resolution_s: 10,
            series: vec![series("processors", &[0.5, 1.0]), series("processors", &[0.25])],
        };
        let expected = "1970-01-01T00:00:00.000Z  disk_written disk0 0.50  disk_written disk0 0.25\n\
            1970-01-01T00:00:10.000Z  disk_written disk0 1.00";
        assert_eq!(lines(&answer), expected);
        answer.series.clear();
        assert_eq!(lines(&answer), "1970-01-01T00:00:00.000Z  nothing was measured");
    }
}
