//! `novacron region`.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use novacron_protocol::api;
use novacron_protocol::ids::RegionCode;
use novacron_protocol::region::{Certification, ResidencyRules};

use super::values::{All, parse_all};

/// Regions: where hosts stand, and which machines may stand there.
#[derive(Debug, Subcommand)]
pub enum RegionCommand {
    /// Lists regions.
    List,
    /// Shows a region.
    Show {
        /// The region.
        region: String,
    },
    /// Makes a region.
    Create(RegionCreate),
    /// Changes a region; migrations that a new rule forbids are given up.
    Set(RegionSet),
    /// Has a region take no new machines; those that it has stay, and may move within it.
    Drain {
        /// The region.
        region: String,
    },
    /// Has a region take machines again.
    Undrain {
        /// The region.
        region: String,
    },
    /// Deletes a region in which no node stands and that no rule names.
    Delete {
        /// The region.
        region: String,
    },
    /// Says in which region a node stands.
    Assign {
        /// The node.
        node: String,
        /// The region, or `none`.
        region: String,
    },
    /// Lists machines that stand against a rule of residency.
    Violations,
    /// Says to which region to turn from one: the nearest first that has nodes that take machines.
    Route {
        /// The region that it is seen from.
        #[arg(long, value_name = "CODE")]
        from: String,
        /// By the rules of residency of this project.
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
}

/// What a region has, and what holds there.
#[derive(Debug, Args)]
pub struct RegionArgs {
    /// What it is called for people.
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// What is attested of it, such as ISO-27001,SOC2, or `none`.
    #[arg(long, value_name = "NAMES", value_parser = parse_all::<Certification>)]
    pub certifications: Option<All<Certification>>,
    /// Regions to which machines may leave it, such as eu-1,eu-2, `none` to keep them all, or `any`.
    #[arg(long, value_name = "REGIONS", value_parser = parse_leaving)]
    pub may_leave_to: Option<Leaving>,
}

/// Where machines may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving(Option<BTreeSet<RegionCode>>);

fn parse_leaving(text: &str) -> Result<Leaving, String> {
    match text {
        "any" => Ok(Leaving(None)),
        _ => parse_all(text).map(|All(regions)| Leaving(Some(regions))),
    }
}

impl RegionArgs {
    fn rules(&self) -> Option<ResidencyRules> {
        let Leaving(may_leave_to) = self.may_leave_to.clone()?;
        Some(ResidencyRules { may_leave_to })
    }

    fn certifications(&self) -> Option<BTreeSet<Certification>> {
        self.certifications.clone().map(|All(certifications)| certifications)
    }
}

/// A region to make.
#[derive(Debug, Args)]
pub struct RegionCreate {
    /// Code: lower-case letters, digits and `-`.
    pub code: String,
    /// What it has.
    #[command(flatten)]
    pub content: RegionArgs,
}

impl RegionCreate {
    /// The API's request.
    pub fn request(&self) -> api::RegionCreate {
        api::RegionCreate {
            region_code: self.code.clone(),
            region_name: self.content.name.clone().unwrap_or_default(),
            compliance_certifications: self.content.certifications().unwrap_or_default(),
            data_residency_rules: self.content.rules().unwrap_or_default(),
        }
    }
}

/// What to change of a region.
#[derive(Debug, Args)]
pub struct RegionSet {
    /// The region.
    pub region: String,
    /// What it has.
    #[command(flatten)]
    pub content: RegionArgs,
    /// Milliseconds from it to other regions and back, all that are known, such as eu-2=12,us-1=90, or `none`.
    #[arg(long, value_name = "CODE=MS", value_parser = parse_latencies)]
    pub latencies: Option<Latencies>,
}

/// How far other regions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies(BTreeMap<RegionCode, u32>);

fn parse_latencies(text: &str) -> Result<Latencies, String> {
    if text == "none" {
        return Ok(Latencies(BTreeMap::new()));
    }
    let pair = |text: &str| {
        let (code, ms) = text.split_once('=').ok_or("write CODE=MS, such as eu-2=12")?;
        let code: RegionCode = code.parse().map_err(|error| format!("{error}"))?;
        let ms = ms.parse().map_err(|_| format!("`{ms}` is not a number of milliseconds"))?;
        Ok((code, ms))
    };
    let pairs: Vec<(RegionCode, u32)> = text.split(',').map(pair).collect::<Result<_, String>>()?;
    let (count, all) = (pairs.len(), pairs.into_iter().collect::<BTreeMap<_, _>>());
    match all.len() == count {
        true => Ok(Latencies(all)),
        false => Err("a region is named twice".to_owned()),
    }
}

impl RegionSet {
    /// The API's request.
    pub fn request(&self) -> api::RegionChange {
        api::RegionChange {
            region_name: self.content.name.clone(),
            compliance_certifications: self.content.certifications(),
            data_residency_rules: self.content.rules(),
            status: None,
            latencies_ms: self.latencies.clone().map(|Latencies(all)| all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_pairs_and_none_of_them_is_there_twice() {
        let Latencies(all) = parse_latencies("us=90,eu-2=12").unwrap();
        let shown: Vec<_> = all.iter().map(|(code, ms)| format!("{code} {ms}")).collect();
        assert_eq!(shown, ["eu-2 12", "us 90"]);
        assert_eq!(parse_latencies("none"), Ok(Latencies(BTreeMap::new())));
        for bad in ["", "us", "us=", "us=-1", "us=1ms", "US=1", "us=1,us=2"] {
            assert!(parse_latencies(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn to_keep_all_is_another_rule_than_none_at_all() {
        let rules = |text| parse_leaving(text).unwrap().0;
        assert_eq!(rules("any"), None);
        assert_eq!(rules("none"), Some(BTreeSet::new()));
        assert_eq!(rules("eu-1,eu-2").map(|regions| regions.len()), Some(2));
        assert!(parse_leaving("EU 1").is_err() && parse_leaving("").is_err());
    }
}
