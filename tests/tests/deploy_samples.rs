//! The files in `deploy/` are what the programs read, and what systemd takes.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use novacron_sdk::{Config, Overrides};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

#[test]
fn the_coordinator_reads_its_sample() {
    let config = novacron_coordinator::config::Config::load(&deploy("coordinator.toml")).unwrap();
    assert_eq!(config.peer_advertise, "10.0.0.1:7400");
    assert_eq!(config.hosts(), ["10.0.0.1", "localhost"]);
}

#[test]
fn the_agent_reads_its_sample() {
    let config = novacron_agent::config::Config::load(&deploy("agent.toml")).unwrap();
    assert_eq!(config.coordinators.len(), 3);
    assert_eq!(config.migration_advertise(), "10.0.0.11:7410");
}

#[test]
fn clients_read_their_sample() {
    let overrides = Overrides { file: Some(deploy("novacron.yaml")), ..Overrides::default() };
    let config = Config::load(&overrides).unwrap();
    assert_eq!(config.endpoints[0], "https://10.0.0.1:7443");
    assert_eq!(config.credentials, Path::new("/etc/novacron/operator"));
}

/// Only what units say of themselves: the programs they start are not installed here.
#[test]
fn systemd_takes_the_units() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["novacron-coordinator.service", "novacron-agent.service"] {
        let unit = std::fs::read_to_string(deploy("systemd").join(name)).unwrap();
        let program = format!("/usr/bin/{}", name.trim_end_matches(".service"));
        assert!(
            unit.contains(&format!("ExecStart={program} serve --config /etc/novacron/")),
            "{name}"
        );
        let path = directory.path().join(name);
        std::fs::write(&path, unit.replace(&program, "/bin/true")).unwrap();
        let Ok(verdict) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
            return;
        };
        assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stderr));
    }
}

/// Prometheus takes the samples, and they ask for metrics that there are: the tests of both programs compare what they
/// say with the operating guide.
#[test]
fn prometheus_takes_its_samples() {
    let alerts = std::fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let guide = std::fs::read_to_string(deploy("../docs/operating.md")).unwrap();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = alerts.split(|c| !is_word(c)).filter(|word| word.starts_with("novacron_"));
    for name in words.map(|word| word.trim_end_matches("_bucket")) {
        assert!(guide.contains(&format!("`{name}`")), "{name}");
    }
    for (what, file) in [
        (&["check", "rules"][..], "prometheus/alerts.yml"),
        (&["check", "config", "--syntax-only"][..], "prometheus/scrape.yml"),
    ] {
        let promtool = std::env::var_os("NOVACRON_PROMTOOL").unwrap_or_else(|| "promtool".into());
        let Ok(verdict) = Command::new(promtool).args(what).arg(deploy(file)).output() else {
            return;
        };
        assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stderr));
    }
}

#[test]
fn guests_outlive_the_agents_unit() {
    let unit = std::fs::read_to_string(deploy("systemd/novacron-agent.service")).unwrap();
    assert!(unit.lines().any(|line| line == "KillMode=process"));
}
