//! Usage over time: a row for each hour or day, or a curve of a few lines.

use novacron_protocol::api::{UsagePoint, UsageSeries, UsageStep, Whole};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;

use super::Row;
use super::text::or_dash;
use super::usage::{dollars, in_units};

/// From low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Row for UsagePoint {
    const HEADER: &'static [&'static str] =
        &["FROM", "MACHINES", "DISKS", "SNAPSHOTS", "MOVED", "MIGRATIONS", "DOLLARS"];

    fn row(&self) -> Vec<String> {
        let used =
            |meter| or_dash(self.quantities.get(&meter).map(|quantity| in_units(meter, *quantity)));
        let mut row = vec![self.at.to_string()];
        row.extend(Meter::ALL.map(used));
        row.push(or_dash(self.micro_dollars.map(dollars)));
        row
    }
}

/// One thing over time.
struct Curve {
    name: String,
    values: Vec<i128>,
    in_words: fn(&str, i128) -> String,
}

/// What was used of each meter, and what it cost, as bars: a line for each day by the hour, or for each four weeks by the
/// day. What was not used at all is left out.
pub fn curves(series: &UsageSeries) -> String {
    let of_meter = |meter: Meter| Curve {
        name: meter.to_string(),
        values: values(series, |point| point.quantities.get(&meter).map(|quantity| quantity.0)),
        in_words: quantity_in_words,
    };
    let money = Curve {
        name: "dollars".to_owned(),
        values: values(series, |point| point.micro_dollars.map(i128::from)),
        in_words: |_, value| dollars(i64::try_from(value).unwrap_or(i64::MAX)),
    };
    let all = Meter::ALL.into_iter().map(of_meter).chain([money]);
    let used = all.filter(|curve| curve.values.iter().any(|value| *value != 0));
    used.map(|curve| curve.lines(series)).collect::<Vec<_>>().join("\n")
}

fn values(series: &UsageSeries, of: impl Fn(&UsagePoint) -> Option<i128>) -> Vec<i128> {
    series.points.iter().map(|point| of(point).unwrap_or(0)).collect()
}

fn quantity_in_words(name: &str, value: i128) -> String {
    let meter = Meter::ALL.into_iter().find(|meter| meter.word() == name);
    meter.map_or_else(|| value.to_string(), |meter| in_units(meter, Whole(value)))
}

impl Curve {
    fn lines(&self, series: &UsageSeries) -> String {
        let (step, columns) = match series.by {
            UsageStep::Hour => ("hour", 24),
            UsageStep::Day => ("day", 28),
        };
        let most = self.values.iter().copied().max().unwrap_or(0).max(0);
        let sum = self.values.iter().fold(0_i128, |sum, value| sum.saturating_add(*value));
        let in_words = |value| (self.in_words)(&self.name, value);
        let mut text = format!(
            "{}: {} in all, at most {} in one {step}\n",
            self.name,
            in_words(sum),
            in_words(most)
        );
        for (points, values) in series.points.chunks(columns).zip(self.values.chunks(columns)) {
            let bars: String = values.iter().map(|value| bar(*value, most)).collect();
            text += &format!("  {}  {bars}\n", begin(points.first(), series.by));
        }
        text
    }
}

/// The day, and by the hour also that.
fn begin(point: Option<&UsagePoint>, by: UsageStep) -> String {
    let at = point.map_or(Timestamp::default(), |point| point.at).to_string();
    let length = match by {
        UsageStep::Hour => "2026-11-26T13".len(),
        UsageStep::Day => "2026-11-26".len(),
    };
    at.chars().take(length).collect()
}

/// Nothing is a point, what corrections took back a line, and anything at all has a bar.
fn bar(value: i128, most: i128) -> char {
    match value {
        0 => '·',
        _ if value < 0 => '-',
        _ => {
            // Far beyond what a ledger holds a bar need not be exact.
            let scale = if most > i128::MAX / 8 { 8 } else { 1 };
            let (value, most) = (value / scale, most / scale);
            let bars = BARS.into_iter().zip(1..);
            let reached = bars.into_iter().find(|(_, eighths)| value * 8 <= most * eighths);
            reached.map_or('█', |(bar, _)| bar)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::text::table;
    use super::*;

    fn series(by: UsageStep, seconds: &[i128]) -> UsageSeries {
        let step_ms = if by == UsageStep::Hour { 3_600_000 } else { 86_400_000 };
        let begin_ms = 1_790_035_200_000;
        let at = |number: usize| Timestamp::from_unix_ms(begin_ms + number as u64 * step_ms);
        let point = |(number, seconds): (usize, &i128)| UsagePoint {
            at: at(number),
            quantities: BTreeMap::from([
                (Meter::VmSeconds, Whole(*seconds)),
                (Meter::Migrations, Whole(0)),
            ]),
            micro_dollars: (*seconds > 0).then_some(150_000),
        };
        let points = seconds.iter().enumerate().map(point).collect();
        UsageSeries { from: at(0), to: at(seconds.len()), by, points }
    }

    #[test]
    fn a_curve_has_a_line_for_each_day_and_says_what_a_full_bar_is() {
        let mut seconds = vec![0, 450, 451, 3_600, -60];
        seconds.resize(26, 0);
        assert_eq!(
            curves(&series(UsageStep::Hour, &seconds)),
            "vm-seconds: 1.23 h in all, at most 1.00 h in one hour\n  \
             2026-09-22T00  ·▁▂█-···················\n  \
             2026-09-23T00  ··\n\
             \n\
             dollars: 0.450000 in all, at most 0.150000 in one hour\n  \
             2026-09-22T00  ·███····················\n  \
             2026-09-23T00  ··\n"
        );
        assert_eq!(curves(&series(UsageStep::Day, &[0, 0])), "");
        let days = curves(&series(UsageStep::Day, &[1; 29]));
        assert!(days.contains("\n  2026-10-20  █\n"), "{days}");
    }

    #[test]
    fn a_point_is_a_row() {
        let points = series(UsageStep::Hour, &[5_400, 0]).points;
        assert_eq!(
            table(UsagePoint::HEADER, points.iter().map(Row::row)),
            "FROM                      MACHINES  DISKS  SNAPSHOTS  MOVED  MIGRATIONS  DOLLARS\n\
             2026-09-22T00:00:00.000Z  1.50 h    -      -          -      0           0.150000\n\
             2026-09-22T01:00:00.000Z  0.00 h    -      -          -      0           -\n"
        );
    }

    #[test]
    fn the_largest_numbers_have_bars() {
        assert_eq!((bar(i128::MAX, i128::MAX), bar(1, i128::MAX)), ('█', '▁'));
        assert_eq!((bar(0, 0), bar(i128::MIN, 0)), ('·', '-'));
    }
}
