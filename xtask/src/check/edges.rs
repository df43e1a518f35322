//! Who may depend on whom, among our own crates and, for the pure ones, on others.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::process;
use crate::workspace::Workspace;

/// A crate and those of ours that it may depend on, in any way.
struct Edge {
    from: &'static str,
    to: &'static [&'static str],
}

const PROTOCOL: &str = "novacron-protocol";
const STORAGE: &str = "novacron-storage";
const VAULT: &str = "novacron-vault";
const TRANSPORT: &str = "novacron-transport";
const METRICS: &str = "novacron-metrics";
const AGENT: &str = "novacron-agent";
const COORDINATOR: &str = "novacron-coordinator";
const SDK: &str = "novacron-sdk";
const CLI: &str = "novacron";

/// The table of ARCHITECTURE.md.
const EDGES: &[Edge] = &[
    Edge { from: PROTOCOL, to: &[] },
    Edge { from: STORAGE, to: &[] },
    Edge { from: VAULT, to: &[] },
    Edge { from: TRANSPORT, to: &[PROTOCOL] },
    Edge { from: METRICS, to: &[] },
    Edge { from: AGENT, to: &[PROTOCOL, STORAGE, TRANSPORT, METRICS] },
    Edge { from: COORDINATOR, to: &[PROTOCOL, STORAGE, VAULT, TRANSPORT, METRICS] },
    Edge { from: SDK, to: &[PROTOCOL] },
    Edge { from: CLI, to: &[SDK, PROTOCOL, VAULT] },
    Edge {
        from: "novacron-tests",
        to: &[PROTOCOL, STORAGE, VAULT, TRANSPORT, METRICS, AGENT, COORDINATOR, SDK],
    },
    Edge { from: "novacron-benches", to: &[PROTOCOL, STORAGE, TRANSPORT, AGENT, COORDINATOR, SDK] },
    Edge { from: "novacron-simulation", to: &[PROTOCOL, STORAGE, TRANSPORT, COORDINATOR] },
    Edge { from: "novacron-guest", to: &[] },
    Edge { from: "xtask", to: &[] },
];

/// Crates of others that one of ours never links, not even through a third.
const NEVER_LINKED: &[Edge] = &[
    Edge { from: PROTOCOL, to: &["tokio", "quinn", "rand", "rustix"] },
    Edge { from: STORAGE, to: &["quinn", "rustls", "axum", "ureq"] },
    Edge { from: AGENT, to: &["openraft"] },
    Edge { from: CLI, to: &["openraft", "quinn", "sled"] },
];

/// Every edge that should not be there.
pub fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let metadata = process::capture(workspace.cargo().args([
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--locked",
    ]))?;
    let mut findings = own_edges(&serde_json::from_str(&metadata)?)?;
    for rule in NEVER_LINKED {
        // Not `cargo metadata`: that joins the features that other members ask for.
        let tree = process::capture(workspace.cargo().args([
            "tree",
            "--locked",
            "--edges=normal",
            "--prefix=none",
            "--format={p}",
            "--package",
            rule.from,
        ]))?;
        findings.extend(linked(rule, &tree));
    }
    Ok(findings)
}

/// Compares the manifests of all members with the table.
fn own_edges(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let mut findings = Vec::new();
    for package in packages {
        let from = name(package);
        let Some(edge) = EDGES.iter().find(|edge| edge.from == from) else {
            findings
                .push(Finding { place: from, what: "is not in xtask's table of edges".to_owned() });
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten().map(name);
        for to in dependencies.filter(|to| members.contains(to) && !edge.to.contains(&to.as_str()))
        {
            findings
                .push(Finding { place: from.clone(), what: format!("must not depend on {to}") });
        }
    }
    Ok(findings)
}

/// Reads `cargo tree`: one crate a line, its name first.
fn linked(rule: &Edge, tree: &str) -> Vec<Finding> {
    let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let forbidden = rule.to.iter().filter(|name| linked.contains(**name));
    forbidden
        .map(|name| Finding { place: rule.from.to_owned(), what: format!("must not link {name}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(from: &str, to: &str) -> Value {
        json!({"packages": [
            {"name": from, "dependencies": [{"name": to, "kind": "dev"}, {"name": "serde"}]},
            {"name": AGENT, "dependencies": []},
            {"name": PROTOCOL, "dependencies": []},
        ]})
    }

    #[test]
    fn the_table_is_kept() {
        assert_eq!(own_edges(&metadata(COORDINATOR, PROTOCOL)).unwrap(), []);
        let findings = own_edges(&metadata(COORDINATOR, AGENT)).unwrap();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, COORDINATOR);
    }

    #[test]
    fn a_new_member_needs_a_row() {
        assert_eq!(own_edges(&metadata("novacron-plugins", PROTOCOL)).unwrap().len(), 1);
    }

    #[test]
    fn nothing_depends_on_tests_and_benches() {
        let mut all = EDGES.iter().flat_map(|edge| edge.to);
        let leaves = ["novacron-tests", "novacron-benches", "novacron-simulation", "xtask"];
        assert!(!all.any(|to| leaves.contains(to)));
    }

    #[test]
    fn links_are_read_from_the_tree() {
        let rule = Edge { from: PROTOCOL, to: &["tokio", "rand"] };
        let tree = "novacron-protocol v0.1.0 (/somewhere)\nserde v1.0.0\ntokio v1.54.0 (*)\n";
        let findings = linked(&rule, tree);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains("tokio"));
        assert!(linked(&rule, "rand_core v0.9.0\n").is_empty());
    }
}
