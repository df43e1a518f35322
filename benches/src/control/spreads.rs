//! Latencies of several kinds of requests beside each other.

use super::latencies::{Latencies, Spread};
use super::load::Tally;

/// What was asked, and how long it took.
pub type Kind<'a> = (&'a str, &'a Tally);

/// All kinds taken together: they were asked at the same time.
pub fn together(kinds: &[Kind<'_>]) -> Tally {
    let mut all = Tally { latencies: Latencies::default(), seconds: 0.0 };
    for (_, tally) in kinds {
        all.latencies.merge(&tally.latencies);
        all.seconds = all.seconds.max(tally.seconds);
    }
    all
}

/// The figures, as Markdown.
pub fn table(kinds: &[Kind<'_>]) -> String {
    let mut text = String::from(
        "| | requests | a second | p50 ms | p95 ms | p99 ms | max ms |\n|---|---|---|---|---|---|---|\n",
    );
    for (what, tally) in kinds {
        let Spread { p50_ms, p95_ms, p99_ms, max_ms } = spread(tally);
        let (count, per_second) = (tally.latencies.count(), tally.per_second());
        text.push_str(&format!(
            "| {what} | {count} | {per_second:.1} | {p50_ms:.1} | {p95_ms:.1} | {p99_ms:.1} | {max_ms:.0} |\n"
        ));
    }
    text
}

/// How latencies are spread; no numbers, which meet no bar, if there were none.
pub fn spread(tally: &Tally) -> Spread {
    let none = Spread { p50_ms: f64::NAN, p95_ms: f64::NAN, p99_ms: f64::NAN, max_ms: f64::NAN };
    tally.latencies.spread().unwrap_or(none)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tally(milliseconds: &[u64], seconds: f64) -> Tally {
        let mut latencies = Latencies::default();
        milliseconds.iter().for_each(|ms| latencies.add(Duration::from_millis(*ms)));
        Tally { latencies, seconds }
    }

    #[test]
    fn kinds_are_taken_together() {
        let (one, other) = (tally(&[1, 2], 2.0), tally(&[9, 9], 2.0));
        let all = together(&[("one", &one), ("other", &other)]);
        assert_eq!((all.latencies.count(), all.per_second()), (4, 2.0));
        assert_eq!(spread(&all).p99_ms, 9.0);
        assert!(table(&[("one", &one)]).ends_with("| one | 2 | 1.0 | 1.0 | 2.0 | 2.0 | 2 |\n"));
    }

    #[test]
    fn without_requests_there_are_no_figures() {
        assert!(spread(&tally(&[], 1.0)).p95_ms.is_nan());
    }
}
