//! The rules that the text of metrics must keep to: those that `promtool check metrics` looks at, and that the
//! combinations of labels stay few. Only tests call this. `promtool` is asked besides, where it is: it is the judge, and
//! the rules here are what it says, for machines that do not have it. `cargo xtask test` brings it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Where promtool is, if not in the path: then it has to be there.
const PROMTOOL_VARIABLE: &str = "NOVACRON_PROMTOOL";

/// Samples of one metric at most: more is a label that anybody can fill.
const SAMPLES_MAX: usize = 1000;

/// Words of units and their base, which names should say instead.
const UNITS: [(&str, &str); 20] = [
    ("s", "seconds"),
    ("sec", "seconds"),
    ("us", "seconds"),
    ("kb", "bytes"),
    ("mb", "bytes"),
    ("gb", "bytes"),
    ("milliseconds", "seconds"),
    ("microseconds", "seconds"),
    ("nanoseconds", "seconds"),
    ("ms", "seconds"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("kilobytes", "bytes"),
    ("megabytes", "bytes"),
    ("mebibytes", "bytes"),
    ("bits", "bytes"),
    ("percent", "ratio"),
    ("milliwatts", "watts"),
    ("fahrenheit", "celsius"),
];

/// Endings that belong to the parts of a histogram or summary.
const RESERVED: [&str; 3] = ["_count", "_sum", "_bucket"];

#[derive(Debug, Default)]
struct Metric {
    kind: Option<String>,
    help: Option<String>,
    samples: usize,
    labels: BTreeSet<String>,
}

/// Everything that is wrong with a text, in words; nothing if it is as it should be.
pub fn problems(text: &str) -> Vec<String> {
    let mut problems = own_problems(text);
    let promtool = env::var_os(PROMTOOL_VARIABLE);
    let is_promised = promtool.is_some();
    match promtool_problems(&promtool.unwrap_or_else(|| "promtool".into()), text) {
        Ok(found) => problems.extend(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_promised => {}
        Err(error) => problems.push(format!("promtool cannot be asked: {error}")),
    }
    problems
}

/// The metrics of a text that a document does not name.
pub fn undocumented<'a>(text: &'a str, document: &str) -> Vec<&'a str> {
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    names.filter(|name| !document.contains(&format!("`{name}`"))).collect()
}

/// What `promtool check metrics` (of Debian's package `prometheus`) says.
fn promtool_problems(promtool: &OsStr, text: &str) -> io::Result<Vec<String>> {
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // It reads everything before it says anything; the pipe is closed at the end of the statement.
    promtool.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()))?;
    let said = promtool.wait_with_output()?;
    let words = [said.stdout, said.stderr].concat();
    let lines =
        String::from_utf8_lossy(&words).lines().map(|line| format!("promtool: {line}")).collect();
    Ok(if said.status.success() { Vec::new() } else { lines })
}

fn own_problems(text: &str) -> Vec<String> {
    let mut metrics = BTreeMap::<String, Metric>::new();
    let mut problems = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Err(problem) = take_in(line, &mut metrics) {
            problems.push(problem);
        }
    }
    for (name, metric) in &metrics {
        problems.extend(about(name, metric).into_iter().map(|problem| format!("{name} {problem}")));
    }
    problems
}

fn take_in(line: &str, metrics: &mut BTreeMap<String, Metric>) -> Result<(), String> {
    if let Some(comment) = line.strip_prefix("# ") {
        let mut words = comment.splitn(3, ' ');
        let (what, name, said) = (words.next(), words.next(), words.next().unwrap_or_default());
        let metric = metrics.entry(name.unwrap_or_default().to_owned()).or_default();
        match what {
            Some("HELP") => metric.help = Some(said.to_owned()),
            Some("TYPE") => metric.kind = Some(said.to_owned()),
            _ => return Err(format!("a comment that says nothing: {line}")),
        }
        return Ok(());
    }
    let (series, value) = line.rsplit_once(' ').ok_or_else(|| format!("no sample: {line}"))?;
    value.parse::<f64>().map_err(|_| format!("no number: {line}"))?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let metric = metrics.entry(family(name, metrics)).or_default();
    metric.samples += 1;
    metric.labels.extend(label_names(labels));
    Ok(())
}

/// The metric of a sample: a histogram's has three kinds of them.
fn family(sample: &str, metrics: &BTreeMap<String, Metric>) -> String {
    let of_parts = RESERVED.iter().find_map(|ending| {
        let name = sample.strip_suffix(ending)?;
        let kind = metrics.get(name)?.kind.as_deref()?;
        matches!(kind, "histogram" | "summary").then(|| name.to_owned())
    });
    of_parts.unwrap_or_else(|| sample.to_owned())
}

/// Names before `="`; values hold no such thing here.
fn label_names(labels: &str) -> impl Iterator<Item = String> + '_ {
    labels.split("=\"").filter_map(|part| {
        let name = part.rsplit([',', '"', '{']).next()?;
        (!name.is_empty() && !name.starts_with('}')).then(|| name.to_owned())
    })
}

fn is_lower_case(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn about(name: &str, metric: &Metric) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |is_wrong: bool, problem: &str| {
        if is_wrong {
            problems.push(problem.to_owned());
        }
    };
    let kind = metric.kind.as_deref().unwrap_or_default();
    check(metric.help.as_deref().unwrap_or_default().is_empty(), "has no help");
    check(
        metric.help.as_deref().unwrap_or_default().ends_with(".."),
        "has a help that stops twice",
    );
    check(kind.is_empty() || kind == "untyped", "has no type");
    check(kind == "counter" && !name.ends_with("_total"), "counts, and does not end in _total");
    check(kind != "counter" && name.ends_with("_total"), "ends in _total, and does not count");
    let is_part = RESERVED.iter().any(|ending| name.ends_with(ending));
    check(is_part, "ends like a part of a histogram");
    check(!is_lower_case(name), "is not in lower case with underscores");
    check(name.contains("__"), "has an empty word");
    let words: Vec<&str> = name.split('_').collect();
    for (unit, base) in UNITS {
        check(words.contains(&unit), &format!("should be in {base}, not {unit}"));
    }
    check(words.contains(&kind), "has its type in its name");
    let mut labels = metric.labels.iter().filter(|label| *label != "le" && *label != "quantile");
    check(labels.any(|label| words.contains(&label.as_str())), "has a label's name in its own");
    check(metric.labels.iter().any(|label| !is_lower_case(label)), "has a label in capitals");
    check(metric.samples > SAMPLES_MAX, "has too many samples: a label is not bounded");
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# HELP a_seconds How long.
# TYPE a_seconds histogram
a_seconds_bucket{mode=\"live\",le=\"0.1\"} 1
a_seconds_bucket{mode=\"live\",le=\"+Inf\"} 1
a_seconds_sum{mode=\"live\"} 0.05
a_seconds_count{mode=\"live\"} 1
# HELP b_total How many.
# TYPE b_total counter
b_total 7
";

    #[test]
    fn what_is_good_has_no_problems() {
        assert_eq!(problems(GOOD), Vec::<String>::new());
    }

    #[test]
    fn what_no_document_names_is_found() {
        assert_eq!(undocumented(GOOD, "`a_seconds`"), ["b_total"]);
    }

    #[test]
    fn each_rule_is_looked_at() {
        let with = |from: &str, to: &str| own_problems(&GOOD.replace(from, to));
        assert_eq!(with("# HELP b_total How many.\n", ""), ["b_total has no help"]);
        assert_eq!(with("# TYPE b_total counter\n", "").len(), 2);
        assert_eq!(with("b_total", "b"), ["b counts, and does not end in _total"]);
        assert_eq!(with("counter", "gauge"), ["b_total ends in _total, and does not count"]);
        assert_eq!(
            with("a_seconds", "a_milliseconds"),
            ["a_milliseconds should be in seconds, not milliseconds"]
        );
        assert_eq!(with("b_total", "B_total"), ["B_total is not in lower case with underscores"]);
        assert_eq!(with("a_seconds", "a_live_mode_seconds").len(), 1);
        assert_eq!(with("How many.", "How many..").len(), 1);
        assert_eq!(with("mode=", "Mode="), ["a_seconds has a label in capitals"]);
        assert_eq!(with("b_total 7", "b_total seven"), ["no number: b_total seven"]);
        let many = (0..=SAMPLES_MAX).map(|n| format!("b_total{{n=\"{n}\"}} 1\n"));
        assert_eq!(own_problems(&(GOOD.to_owned() + &many.collect::<String>())).len(), 1);
    }
}
