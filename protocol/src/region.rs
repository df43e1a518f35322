//! Regions: where hosts stand, and what the law or a contract says of what is kept there.
//!
//! Two kinds of rules. A project says where its machines may stand ([`Residency`]); a region says where machines that
//! stand in it may go ([`ResidencyRules`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::{Deserialize, Serialize};

use crate::ids::{RegionCode, text_schema};
use crate::limits::{CERTIFICATION_BYTES_MAX, CERTIFICATIONS_MAX, LATENCY_MS_MAX, REGIONS_MAX};
use crate::vm::InvalidField;

/// The label of a host that says in which region it stands when it joins. Afterwards only operators say so.
pub const REGION_LABEL: &str = "region";

/// Codes that no region gets: in a path they mean something else.
pub const RESERVED_REGION_CODES: [&str; 1] = ["route"];

/// Whether a region takes machines.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RegionStatus {
    /// It does.
    #[default]
    Active,
    /// No machine comes into it any more; those that it has may move from host to host within it, and leave.
    Draining,
}

/// The text is no certification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a certification: write 1 to {CERTIFICATION_BYTES_MAX} letters, digits and `-_.`, such as ISO-27001"
)]
pub struct InvalidCertification {
    /// What was given, cut to a printable length.
    pub text: String,
}

/// What somebody outside has attested of a region, such as `ISO-27001`. Compared letter by letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Certification(String);

/// Format of a certification in schemas.
pub const CERTIFICATION_FORMAT: &str = "certification";

impl JsonSchema for Certification {
    fn is_referenceable() -> bool {
        false
    }

    fn schema_name() -> String {
        "Certification".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!("^[A-Za-z0-9_.-]{{1,{CERTIFICATION_BYTES_MAX}}}$");
        text_schema(CERTIFICATION_FORMAT, pattern)
    }
}

impl FromStr for Certification {
    type Err = InvalidCertification;

    fn from_str(text: &str) -> Result<Self, InvalidCertification> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=CERTIFICATION_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidCertification { text: text.chars().take(CERTIFICATION_BYTES_MAX).collect() })
    }
}

impl TryFrom<String> for Certification {
    type Error = InvalidCertification;

    fn try_from(text: String) -> Result<Self, InvalidCertification> {
        text.parse()
    }
}

impl From<Certification> for String {
    fn from(certification: Certification) -> String {
        certification.0
    }
}

impl fmt::Display for Certification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where machines of a project may stand. Without anything in it: anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Residency {
    /// Only in these regions; in any, if there are none.
    #[serde(default)]
    pub regions: BTreeSet<RegionCode>,
    /// Only in regions that have all of these.
    #[serde(default)]
    pub certifications: BTreeSet<Certification>,
}

impl Residency {
    /// Whether there is any rule.
    pub fn is_none(&self) -> bool {
        self.regions.is_empty() && self.certifications.is_empty()
    }

    /// All that cannot be, apart from what only the fleet knows. Fields begin with `field`.
    pub fn problems(&self, field: &str) -> Vec<InvalidField> {
        let regions = too_many(&format!("{field}.regions"), self.regions.len(), REGIONS_MAX);
        let name = format!("{field}.certifications");
        regions.into_iter().chain(check_certifications(&name, &self.certifications)).collect()
    }
}

/// What holds for machines that stand in a region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidencyRules {
    /// Regions to which they may be moved; none at all if it is empty, anywhere if it is absent or `null`. Within the
    /// region they move freely.
    #[serde(default)]
    pub may_leave_to: Option<BTreeSet<RegionCode>>,
}

impl ResidencyRules {
    /// All that cannot be, apart from what only the fleet knows.
    pub fn problems(&self, field: &str) -> Vec<InvalidField> {
        let named = self.may_leave_to.as_ref().map_or(0, BTreeSet::len);
        too_many(&format!("{field}.may_leave_to"), named, REGIONS_MAX).into_iter().collect()
    }
}

/// Whether there are too many certifications.
pub fn check_certifications(
    field: &str,
    certifications: &BTreeSet<Certification>,
) -> Option<InvalidField> {
    too_many(field, certifications.len(), CERTIFICATIONS_MAX)
}

/// All that cannot be of how far other regions are from one, if that is known, apart from what only the fleet knows.
pub fn check_latencies(
    field: &str,
    from: Option<&RegionCode>,
    latencies_ms: &BTreeMap<RegionCode, u32>,
) -> Vec<InvalidField> {
    let wrong = |problem| InvalidField { field: field.to_owned(), problem };
    let itself = from.filter(|from| latencies_ms.contains_key(*from));
    let itself = itself.map(|from| wrong(format!("`{from}` is 0 from itself: leave it out")));
    let far = latencies_ms.iter().find(|(_, ms)| **ms > LATENCY_MS_MAX);
    let far = far.map(|(to, ms)| wrong(format!("{ms} to `{to}`; at most {LATENCY_MS_MAX} ms")));
    let many = too_many(field, latencies_ms.len(), REGIONS_MAX);
    many.into_iter().chain(itself).chain(far).collect()
}

fn too_many(field: &str, count: usize, most: usize) -> Option<InvalidField> {
    let problem = format!("{count} of them; at most {most}");
    (count > most).then(|| InvalidField { field: field.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certification_is_one_plain_word() {
        for good in ["ISO-27001", "soc2", "a", "x_1.2"] {
            assert_eq!(good.parse::<Certification>().unwrap().to_string(), good);
        }
        let long = "a".repeat(CERTIFICATION_BYTES_MAX + 1);
        for bad in ["", "ISO 27001", "é", "a,b", long.as_str()] {
            assert!(bad.parse::<Certification>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_absent_list_is_another_rule_than_an_empty_one() {
        let read = |text: &str| serde_json::from_str::<ResidencyRules>(text).unwrap();
        assert_eq!(read("{}").may_leave_to, None);
        assert_eq!(read(r#"{"may_leave_to":[]}"#).may_leave_to, Some(BTreeSet::new()));
        let stays = ResidencyRules { may_leave_to: Some(BTreeSet::new()) };
        assert_eq!(read(&serde_json::to_string(&stays).unwrap()), stays);
    }

    #[test]
    fn a_region_is_not_away_from_itself_nor_farther_than_a_minute() {
        let eu: RegionCode = "eu".parse().unwrap();
        let wrong = |to: &str, ms| {
            let latencies = BTreeMap::from([(to.parse().unwrap(), ms)]);
            check_latencies("latencies_ms", Some(&eu), &latencies).len()
        };
        assert_eq!((wrong("us", 0), wrong("us", LATENCY_MS_MAX)), (0, 0));
        assert_eq!((wrong("us", LATENCY_MS_MAX + 1), wrong("eu", 0)), (1, 1));
        assert_eq!(wrong("eu", LATENCY_MS_MAX + 1), 2, "all that is wrong");
    }

    #[test]
    fn all_that_is_too_much_is_listed() {
        let residency = Residency {
            regions: (0..=REGIONS_MAX).map(|one| format!("r{one}").parse().unwrap()).collect(),
            certifications: (0..=CERTIFICATIONS_MAX)
                .map(|one| format!("c{one}").parse().unwrap())
                .collect(),
        };
        let fields: Vec<_> =
            residency.problems("residency").into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["residency.regions", "residency.certifications"]);
    }
}
