//! Values on the command line, as people write them.

use std::collections::BTreeSet;
use std::str::FromStr;

use novacron_protocol::access::AccessRole;
use novacron_protocol::annotation::{check_key, check_value};
use novacron_protocol::api::{NetworkChoice, PriceView, VmDisk, Whole};
use novacron_protocol::ids::{
    AlertId, ApiKeyId, BatchId, BindingId, InvalidName, MigrationId, NetworkName, PlanName,
    ProjectName, Revision,
};
use novacron_protocol::size::parse_size_bytes;
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::{DiskFormat, VmState};
use serde::de::DeserializeOwned;

use crate::dev::cluster::NODES_MAX;

pub use std::time::Duration;

/// Longest time to wait: a week.
const DURATION_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// A duration such as `500ms`, `90s`, `5m`, `1h`. A number alone is none: it would be seconds to one and milliseconds
/// to another.
///
/// # Errors
/// What would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || {
        format!(
            "`{text}` is not a duration: write a whole number and ms, s, m or h, such as 90s; at most 7 days"
        )
    };
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    let factor_ms: u64 = match unit {
        "" => {
            return Err(format!(
                "`{text}` has no unit: write {text}ms, {text}s, {text}m or {text}h"
            ));
        }
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return Err(invalid()),
    };
    let milliseconds =
        number.checked_mul(factor_ms).filter(|ms| *ms <= DURATION_SECONDS_MAX * 1000);
    milliseconds.map(Duration::from_millis).ok_or_else(invalid)
}

/// A rate such as `800mbit`, in bits per second.
///
/// # Errors
/// What would be right.
pub fn parse_bandwidth(text: &str) -> Result<u64, String> {
    let invalid = || {
        format!("`{text}` is not a rate: write a whole number and mbit or gbit, such as 800mbit")
    };
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return Err(invalid()),
    };
    number.checked_mul(factor).ok_or_else(invalid)
}

/// An hour such as `2026-11-26T13`, a day such as `2026-11-26`, or a moment as the API writes it; UTC.
///
/// # Errors
/// What would be right.
pub fn parse_hour(text: &str) -> Result<Timestamp, String> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        13 => format!("{text}:00:00Z"),
        _ => text.to_owned(),
    };
    let invalid = |_| format!("`{text}` is not an hour: write it as 2026-11-26T13 (UTC)");
    serde_json::from_value(serde_json::Value::String(whole)).map_err(invalid)
}

/// A meter.
///
/// # Errors
/// What would be right.
pub fn parse_meter(text: &str) -> Result<Meter, String> {
    let found = Meter::ALL.into_iter().find(|meter| meter.word() == text);
    found.ok_or_else(|| {
        let words: Vec<&str> = Meter::ALL.into_iter().map(Meter::word).collect();
        format!("`{text}` is not a meter: one of {}", words.join(", "))
    })
}

/// The name of a project.
///
/// # Errors
/// What would be right.
pub fn parse_project(text: &str) -> Result<ProjectName, String> {
    text.parse().map_err(|error: InvalidName| error.to_string())
}

/// The name of a plan.
///
/// # Errors
/// What would be right.
pub fn parse_plan(text: &str) -> Result<PlanName, String> {
    text.parse().map_err(|error: InvalidName| error.to_string())
}

/// A quantity in a meter's unit.
///
/// # Errors
/// What would be right.
pub fn parse_whole(text: &str) -> Result<Whole, String> {
    parse_number(text, "such as 3600")
}

/// Dollars with at most six decimals, for one unit or, as in `27.397/1000`, for so many.
///
/// # Errors
/// What would be right.
pub fn parse_price(text: &str) -> Result<PriceView, String> {
    let invalid = || {
        format!(
            "`{text}` is not a price: write dollars with at most six decimals, such as 0.15, or 27.397/1000 for a \
             thousand units"
        )
    };
    let (amount, units) = text.split_once('/').unwrap_or((text, "1"));
    let (dollars, decimals) = amount.split_once('.').unwrap_or((amount, ""));
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if decimals.len() > 6 || dollars.is_empty() || !are_digits(dollars) || !are_digits(decimals) {
        return Err(invalid());
    }
    let micro: u64 = format!("{dollars}{decimals:0<6}").parse().map_err(|_| invalid())?;
    let per_units = units.parse().map_err(|_| invalid())?;
    Ok(PriceView { micro_dollars: micro, per_units })
}

/// A whole number, where `such_as` is one that is right.
fn parse_number<T: FromStr>(text: &str, such_as: &str) -> Result<T, String> {
    let right =
        |_| format!("`{text}` is not a number that can be here: write a whole number {such_as}");
    text.parse().map_err(right)
}

/// A number of processors; which are allowed is checked with the rest of the machine.
///
/// # Errors
/// What would be right.
pub fn parse_cpus(text: &str) -> Result<u32, String> {
    parse_number(text, "such as 2")
}

/// A number of migrations; which are allowed is the coordinator's to say.
///
/// # Errors
/// What would be right.
pub fn parse_migrations(text: &str) -> Result<u32, String> {
    parse_number(text, "from 1 to 64")
}

/// A number of nodes.
///
/// # Errors
/// What would be right.
pub fn parse_nodes(text: &str) -> Result<u8, String> {
    let right = format!("from 0 to {NODES_MAX}");
    match parse_number(text, &right)? {
        nodes @ 0..=NODES_MAX => Ok(nodes),
        nodes => Err(format!("{nodes} nodes are too many: write a whole number {right}")),
    }
}

/// The id of a migration.
///
/// # Errors
/// What would be right.
pub fn parse_migration(text: &str) -> Result<MigrationId, String> {
    let right =
        |_| format!("`{text}` is not the id of a migration: `novacron migrate status` lists them");
    text.parse().map_err(right)
}

/// The id of a batch.
///
/// # Errors
/// What would be right.
pub fn parse_batch(text: &str) -> Result<BatchId, String> {
    let right = |_| {
        format!("`{text}` is not the id of a batch: `novacron migrate batch-status` lists them")
    };
    text.parse().map_err(right)
}

/// The id of an alert.
///
/// # Errors
/// What would be right.
pub fn parse_alert(text: &str) -> Result<AlertId, String> {
    let right = |_| format!("`{text}` is not the id of an alert: `novacron alert list` shows them");
    text.parse().map_err(right)
}

/// A budget in dollars, or `none`.
///
/// # Errors
/// What would be right.
pub fn parse_budget(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    match parse_price(text) {
        Ok(PriceView { micro_dollars, per_units: 1 }) => Ok(Limit(Some(micro_dollars))),
        Ok(_) | Err(_) => {
            Err(format!("`{text}` is not a budget: write dollars, such as 100 or 99.50, or `none`"))
        }
    }
}

/// A size such as `512M`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse_size_bytes(text).map_err(|error| error.to_string())
}

/// A revision.
pub fn parse_revision(text: &str) -> Result<Revision, String> {
    text.parse()
        .map(Revision)
        .map_err(|_| format!("`{text}` is not a revision: write a whole number"))
}

/// A word of an enumeration of the API.
pub fn parse_word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|error| error.to_string())
}

/// `key=value`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label: write KEY=VALUE")),
    }
}

/// What to keep beside a machine, or not to keep any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationChange {
    /// Under which key.
    pub key: String,
    /// The text; `None` removes what is there.
    pub value: Option<String>,
}

/// `KEY=VALUE` or `KEY-`. Checked as the coordinator checks it.
///
/// # Errors
/// What would be right.
pub fn parse_annotation(text: &str) -> Result<AnnotationChange, String> {
    let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => (key, Some(value)),
        (None, Some(key)) => (key, None),
        (None, None) => {
            return Err(format!(
                "`{text}` is no change of an annotation: write KEY=VALUE, or KEY- to remove one"
            ));
        }
    };
    let checked = check_key(key).and_then(|()| value.map_or(Ok(()), check_value));
    checked.map_err(|wrong| wrong.to_string())?;
    Ok(AnnotationChange { key: key.to_owned(), value: value.map(str::to_owned) })
}

/// `none`, `user`, `bridge=INTERFACE` or the name of a network.
pub fn parse_network(text: &str) -> Result<NetworkChoice, String> {
    let is_name = || text != "bridge" && text.parse::<NetworkName>().is_ok();
    match text.split_once('=') {
        None if text == "none" => Ok(NetworkChoice::None),
        None if text == "user" => Ok(NetworkChoice::User),
        None if is_name() => Ok(NetworkChoice::Named(text.to_owned())),
        Some(("bridge", bridge)) if !bridge.is_empty() => {
            Ok(NetworkChoice::Bridge { bridge: bridge.to_owned() })
        }
        _ => Err(format!(
            "`{text}` is not a network: write none, user, bridge=INTERFACE or the name of a network"
        )),
    }
}

/// `SIZE`, or `image=NAME`, `size=SIZE`, `format=raw|qcow2` in any order with commas between.
pub fn parse_disk(text: &str) -> Result<VmDisk, String> {
    let mut disk = VmDisk { size: None, image: None, format: DiskFormat::default() };
    for part in text.split(',') {
        match part.split_once('=') {
            None | Some(("size", _)) => {
                let size = part.strip_prefix("size=").unwrap_or(part);
                once(&mut disk.size, "size", parse_size(size)?)?;
            }
            Some(("image", image)) => once(&mut disk.image, "image", image.to_owned())?,
            Some(("format", "raw")) => disk.format = DiskFormat::Raw,
            Some(("format", "qcow2")) => disk.format = DiskFormat::Qcow2,
            Some(("format", other)) => {
                return Err(format!("format `{other}` is not known: write raw or qcow2"));
            }
            Some((key, _)) => {
                return Err(format!(
                    "`{key}` is not part of a disk: write size=, image= and format="
                ));
            }
        }
    }
    if disk.size.is_none() && disk.image.is_none() {
        return Err("a disk needs a size or an image".to_owned());
    }
    Ok(disk)
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` is given twice")),
    }
}

/// A duration as the API counts it.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The most of something that may be, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

/// A number, or `none`.
///
/// # Errors
/// What would be right.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => parse_number(text, "or `none`").map(|limit| Limit(Some(limit))),
    }
}

/// A size, or `none`.
///
/// # Errors
/// What would be right.
pub fn parse_size_limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => parse_size(text).map(|limit| Limit(Some(limit))),
    }
}

/// All of some words, possibly none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct All<T>(pub BTreeSet<T>);

/// Words with commas between, or `none`.
///
/// # Errors
/// What would be right.
pub fn parse_all<T: FromStr<Err: ToString> + Ord>(text: &str) -> Result<All<T>, String> {
    if text == "none" {
        return Ok(All(BTreeSet::new()));
    }
    let words = text.split(',').map(|word| word.parse().map_err(|error: T::Err| error.to_string()));
    words.collect::<Result<_, _>>().map(All)
}

/// A role.
///
/// # Errors
/// What would be right.
pub fn parse_role(text: &str) -> Result<AccessRole, String> {
    let role = AccessRole::ALL.into_iter().find(|role| role.word() == text);
    role.ok_or_else(|| {
        let words = AccessRole::ALL.map(AccessRole::word).join(", ");
        format!("`{text}` is not a role: write one of {words}")
    })
}

/// The id of a binding.
///
/// # Errors
/// What would be right.
pub fn parse_binding(text: &str) -> Result<BindingId, String> {
    let right = |_| format!("`{text}` is not the id of a binding: `novacron role list` shows them");
    text.parse().map_err(right)
}

/// The id of an API key. What was given is not repeated: it may be a whole key.
///
/// # Errors
/// What would be right.
pub fn parse_api_key(text: &str) -> Result<ApiKeyId, String> {
    let right = |_| "not the id of an API key: `novacron key list` shows them".to_owned();
    text.parse().map_err(right)
}

/// For how many days a key is good.
///
/// # Errors
/// What would be right.
pub fn parse_days(text: &str) -> Result<u64, String> {
    match parse_number(text, "of days from 1 to 366")? {
        days @ 1..=366 => Ok(days),
        days => Err(format!("{days} days: write a whole number from 1 to 366")),
    }
}

/// A state of a machine, as the API writes it.
pub fn parse_state(text: &str) -> Result<VmState, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|_| {
        format!(
            "`{text}` is not a state: write pending, creating, stopped, starting, running, paused, migrating, \
             stopping, failed, unknown or deleted"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        let price =
            |text: &str| parse_price(text).map(|price| (price.micro_dollars, price.per_units)).ok();
        assert_eq!(price("0.15"), Some((150_000, 1)));
        assert_eq!(price("27.397/1000"), Some((27_397_000, 1_000)));
        assert_eq!(price("2"), Some((2_000_000, 1)));
        assert_eq!(price("0.000001"), Some((1, 1)));
        for bad in ["", ".5", "0.1234567", "-1", "1e3", "1/", "$1", "99999999999999999999"] {
            assert_eq!(price(bad), None, "{bad}");
        }
    }

    #[test]
    fn hours_are_written_as_people_do() {
        let hour = parse_hour("2026-11-26T13").unwrap();
        assert_eq!(hour.to_string(), "2026-11-26T13:00:00.000Z");
        assert_eq!(parse_hour("2026-11-26T13:00:00Z"), Ok(hour));
        assert_eq!(parse_hour("2026-11-26").unwrap().to_string(), "2026-11-26T00:00:00.000Z");
        for bad in ["", "13", "2026-11-31", "2026-11-26T25"] {
            assert!(parse_hour(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in
            [("500ms", 500), ("90s", 90_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(
            parse_duration("50").unwrap_err(),
            "`50` has no unit: write 50ms, 50s, 50m or 50h"
        );
        for text in ["", "s", "7", "-1s", "1.5s", "1d", "169h", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_disk_is_a_size_or_its_parts() {
        let disk = |size, image: Option<&str>, format| VmDisk {
            size,
            image: image.map(str::to_owned),
            format,
        };
        assert_eq!(parse_disk("1G"), Ok(disk(Some(1 << 30), None, DiskFormat::Qcow2)));
        assert_eq!(parse_disk("image=debian"), Ok(disk(None, Some("debian"), DiskFormat::Qcow2)));
        assert_eq!(
            parse_disk("image=debian,size=4GiB,format=raw"),
            Ok(disk(Some(4 << 30), Some("debian"), DiskFormat::Raw))
        );
        for text in [
            "",
            "1X",
            "image=a,image=b",
            "1G,size=2G",
            "format=raw",
            "format=vmdk,1G",
            "colour=red",
        ] {
            assert!(parse_disk(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_ids_are_explained_in_our_own_words() {
        assert_eq!(parse_migrations("4"), Ok(4));
        assert!(parse_migrations("x").unwrap_err().ends_with("write a whole number from 1 to 64"));
        assert!(parse_cpus("1.5").unwrap_err().ends_with("write a whole number such as 2"));
        assert_eq!(parse_nodes("50"), Ok(50));
        for text in ["51", "300", "-1", "many"] {
            assert!(parse_nodes(text).unwrap_err().ends_with("write a whole number from 0 to 50"));
        }
        let migration = parse_migration("123").unwrap_err();
        assert!(migration.ends_with("`novacron migrate status` lists them"), "{migration}");
        assert!(parse_batch("nosuch").unwrap_err().contains("not the id of a batch"));
    }

    #[test]
    fn an_annotation_is_kept_or_removed() {
        let change = |key: &str, value: Option<&str>| {
            Ok(AnnotationChange { key: key.to_owned(), value: value.map(str::to_owned) })
        };
        assert_eq!(parse_annotation("owner=a=b-"), change("owner", Some("a=b-")));
        assert_eq!(parse_annotation("a.b/c-d="), change("a.b/c-d", Some("")));
        assert_eq!(parse_annotation("owner-"), change("owner", None));
        assert!(parse_annotation("owner").unwrap_err().contains("write KEY=VALUE, or KEY-"));
        for text in ["=v", "-", "two words=v", ""] {
            assert!(parse_annotation(text).is_err(), "{text}");
        }
        assert!(parse_annotation(&format!("k={}", "v".repeat(4097))).unwrap_err().contains("4096"));
    }

    #[test]
    fn networks_labels_and_states_are_checked() {
        assert_eq!(parse_network("bridge=br0"), Ok(NetworkChoice::Bridge { bridge: "br0".into() }));
        assert_eq!(parse_network("none"), Ok(NetworkChoice::None));
        assert_eq!(parse_network("office"), Ok(NetworkChoice::Named("office".into())));
        assert!(parse_network("Office").is_err());
        assert!(parse_network("bridge").is_err() && parse_network("none=1").is_err());
        assert_eq!(parse_label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_label("=b").is_err() && parse_label("a").is_err());
        assert_eq!(parse_state("running"), Ok(VmState::Running));
        assert!(parse_state("Running").is_err());
    }
}
