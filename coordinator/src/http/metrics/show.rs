//! What is answered, in the words of the API.

use novacron_protocol::api::{Code, MetricHistory, MetricPoint, MetricSeries, Problem};
use novacron_protocol::metric::{Metric, ResourceKind};

use crate::samples::question::{Question, seconds};
use crate::samples::rollup::Rollup;
use crate::samples::track::{Points, SeriesKey};
use crate::samples::{Samples, Subject};

/// Points of one answer, of all series: 3 MB of JSON. A machine of one disk has 9 series of at most 1,000.
const POINTS_MAX: usize = 20_000;

/// How something was.
pub(super) async fn history(
    samples: &Samples,
    subject: Subject,
    question: Question,
    metrics: Vec<Metric>,
) -> Result<MetricHistory, Problem> {
    let resource = subject.resource.clone();
    let answer = samples.ask(subject, question, metrics).await;
    let answer = answer.map_err(|error| Problem::new(Code::Unavailable, error.to_string()))?;
    let points: usize = answer.iter().map(|(_, points)| points.iter().flatten().count()).sum();
    if points > POINTS_MAX {
        let text = format!(
            "{points} points are more than the {POINTS_MAX} of one answer: name fewer metrics, or give a longer `interval_s`"
        );
        return Err(Problem::new(Code::InvalidRequest, text).about("metric"));
    }
    let kind = resource.kind();
    Ok(MetricHistory {
        resource: resource.to_text(),
        from: seconds(question.from_s),
        to: seconds(question.to_s),
        interval_s: question.interval_s,
        resolution_s: question.level.step_s(),
        series: answer.into_iter().map(|points| series(kind, &question, points)).collect(),
    })
}

fn series(kind: ResourceKind, question: &Question, (key, points): Points) -> MetricSeries {
    let SeriesKey { metric, device } = key;
    let show = |(number, point): (u64, Option<Rollup>)| {
        let at = seconds(question.from_s + number * question.interval_s);
        Some(self::point(metric, at, point?))
    };
    MetricSeries {
        metric: metric.word().to_owned(),
        device: metric.device(kind, device),
        unit: metric.unit().to_owned(),
        kind: metric.kind(),
        points: (0..).zip(points).filter_map(show).collect(),
    }
}

fn point(
    metric: Metric,
    at: novacron_protocol::time::Timestamp,
    Rollup { average, minimum, maximum }: Rollup,
) -> MetricPoint {
    let scale = metric.scale() as f64;
    let of = |number: u64| number as f64 / scale;
    MetricPoint { at, average: of(average), minimum: of(minimum), maximum: of(maximum) }
}
