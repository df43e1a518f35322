//! The command line as scripts and people meet it, without any cluster.
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use std::path::Path;
use std::process::Command;

use program::{Run, command, finish, run};
use tempfile::tempdir;

/// Every command that does something.
const COMMANDS: &[&str] = &[
    "vm list",
    "vm create",
    "vm show",
    "vm start",
    "vm stop",
    "vm destroy",
    "vm watch",
    "vm migrate",
    "vm console",
    "vm snapshot create",
    "vm snapshot list",
    "vm snapshot show",
    "vm snapshot delete",
    "vm restore",
    "migrate status",
    "migrate cancel",
    "migrate batch",
    "migrate batch-status",
    "migrate batch-cancel",
    "node list",
    "node show",
    "node drain",
    "node undrain",
    "region list",
    "region show",
    "region create",
    "region set",
    "region drain",
    "region undrain",
    "region delete",
    "region assign",
    "region violations",
    "region route",
    "network list",
    "network show",
    "network create",
    "network set",
    "network delete",
    "events",
    "alert list",
    "alert show",
    "alert raise",
    "alert ack",
    "alert unack",
    "alert resolve",
    "project budget",
    "cluster show",
    "cluster remove",
    "cluster set",
    "token create",
    "dev up",
    "dev link",
    "dev status",
    "dev kill",
    "dev start",
    "dev down",
    "completion",
];

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn at_home(line: &str) -> Run {
    run(tempdir().unwrap().path(), &words(line))
}

#[test]
fn every_command_has_help_and_takes_an_output_form() {
    for name in COMMANDS {
        let help = at_home(&format!("{name} --help"));
        assert_eq!(help.code, 0, "{name}");
        assert!(help.stdout.contains("-o, --output <table|json|yaml>"), "{name}:\n{}", help.stdout);
        assert_eq!(help.stderr, "", "{name}");
    }
}

#[test]
fn every_long_command_can_wait() {
    for name in [
        "vm create",
        "vm start",
        "vm stop",
        "vm destroy",
        "vm migrate",
        "migrate status",
        "migrate cancel",
        "migrate batch",
        "migrate batch-status",
        "migrate batch-cancel",
        "node drain",
    ] {
        let help = at_home(&format!("{name} --help")).stdout;
        assert!(
            help.contains("--wait") && help.contains("--timeout <DURATION>"),
            "{name}:\n{help}"
        );
    }
}

#[test]
fn the_exit_codes_are_in_the_help() {
    assert!(at_home("--help").stdout.contains(
        "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not allowed, 6 timed out."
    ));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_wrong() {
    for (line, said) in [
        ("", "Usage: novacron"),
        ("vm fly", "unrecognized subcommand 'fly'"),
        ("vm migrate web-01", "--target <NODE>"),
        ("vm migrate a --target b --live --bandwidth 800", "write a whole number and mbit or gbit"),
        ("vm migrate a --target b --live --downtime-limit fast", "`fast` is not a duration"),
        ("vm migrate a --target b --live --downtime-limit 50", "`50` has no unit: write 50ms"),
        ("vm migrate a --target b --live --downtime-limit -5ms", "`-5ms` is not a duration"),
        ("vm migrate a --target b --live --bandwidth -5mbit", "`-5mbit` is not a rate"),
        ("migrate batch --from a --to b --downtime-limit 50", "write 50ms"),
        ("migrate batch --from a --to b --downtime-limit -5ms", "`-5ms` is not a duration"),
        ("node drain a --downtime-limit 50", "write 50ms"),
        ("node drain a --downtime-limit -5ms", "`-5ms` is not a duration"),
        ("vm start a --wait --timeout 90", "write 90ms, 90s"),
        ("token create --role agent --ttl 60", "write 60ms, 60s"),
        ("dev up --timeout -1s", "`-1s` is not a duration"),
        ("vm create a --cpus two", "write a whole number such as 2"),
        ("dev up --nodes 51", "write a whole number from 0 to 50"),
        ("migrate status 123", "`123` is not the id of a migration"),
        ("events --migration 123", "`123` is not the id of a migration"),
        ("migrate batch-cancel nosuch", "`nosuch` is not the id of a batch"),
        ("vm migrate a --target b --downtime-limit 50ms", "--live"),
        ("vm migrate a --target b --auto-converge", "--live"),
        ("vm migrate a --target b --live --warm", "cannot be used with"),
        ("vm migrate a --target b --live --force-shutdown", "cannot be used with"),
        ("vm migrate a --target b --force-shutdown", "--warm"),
        ("vm migrate a --target b --warm --auto-converge", "cannot be used with"),
        ("vm create a --memory 1.5G", "`1.5G` is not a size"),
        ("vm create a --disk format=vmdk", "write raw or qcow2"),
        ("vm create a --network Wifi", "bridge=INTERFACE or the name of a network"),
        ("vm create a --label x", "write KEY=VALUE"),
        ("vm start a --timeout soon", "`soon` is not a duration"),
        ("vm list --state happy", "`happy` is not a state"),
        ("vm list -o xml", "invalid value 'xml'"),
        ("migrate cancel web-01", "web-01"),
        ("migrate batch --from node-01", "--to <NODE>"),
        ("migrate batch --from a --to b --live --cold", "cannot be used with"),
        ("migrate batch --from a --to b --cold --auto-converge", "cannot be used with"),
        ("migrate batch --from a --to b --cold --force-shutdown", "cannot be used with"),
        ("migrate batch --from a --to b --label x", "write KEY=VALUE"),
        ("migrate batch-status web-01", "web-01"),
        ("node drain", "<NODE>"),
        ("node drain node-01 --bandwidth 800", "write a whole number and mbit or gbit"),
        ("cluster set", "--migrations-per-node <N>"),
        ("cluster set --migrations-per-node many", "write a whole number from 1 to 64"),
        ("cluster remove coordinator-2", "write its number"),
        ("dev up --coordinators 2", "write 1, 3 or 5"),
        ("dev up --link fast", "`fast` is not a rate"),
        ("dev link node-01 node-02", "--down|--up|--rate <RATE>"),
        ("dev link node-01 node-02 --up --down", "cannot be used with"),
        ("token create --role root", "invalid value 'root'"),
    ] {
        let run = at_home(line);
        assert_eq!(run.code, 2, "{line}: {run:?}");
        assert_eq!(run.stdout, "", "{line}");
        assert!(run.stderr.contains(said), "{line}:\n{}", run.stderr);
    }
}

#[test]
fn without_a_configuration_the_error_says_what_to_do() {
    let run = at_home("vm list");
    assert_eq!(run.code, 2);
    assert_eq!(run.stdout, "");
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.stderr);
    assert!(
        lines[0].starts_with("error: no endpoints") && lines[0].contains(".novacron.yaml"),
        "{}",
        lines[0]
    );
    assert!(lines[1].starts_with("hint: ") && lines[1].contains("novacron dev up"), "{}", lines[1]);
    assert!(!run.stderr.contains('\x1b'), "colours go to terminals only");
}

#[test]
fn a_wrong_configuration_is_no_reason_to_make_a_cluster() {
    let home = tempdir().unwrap();
    let file = home.path().join(".novacron.yaml");
    for (text, said) in [
        ("endpoint: []\n", "line 1, column 1: there is no setting `endpoint`"),
        ("endpoints: 5\n", "line 1, column 12: `endpoints` is a list of URLs"),
        ("endpoints: []\ncredentials: [1]\n", "line 2, column 14: `credentials` is a directory"),
        ("endpoints: [a\n", "this is not YAML"),
        ("- 1\n", "line 1, column 1: write"),
        ("endpoints: [http://a:1]\ncredentials: .\n", "only https"),
        ("endpoints: [https://a:1]\ncredentials: .\n", "ca.pem"),
        ("endpoints: []\n", "no endpoints"),
        ("", "no endpoints"),
    ] {
        std::fs::write(&file, text).unwrap();
        let run = run(home.path(), &["vm", "list"]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{text}");
        assert!(run.stderr.contains(said), "{text}: {}", run.stderr);
        assert!(!run.stderr.contains("hint"), "{text}: {}", run.stderr);
    }
}

/// The credential directory that a run would use: it does not exist, so the error names it.
fn credentials_used(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = command(home, &[&["vm", "list"], arguments].concat());
    let run = finish(command.envs(variables.iter().copied()));
    assert_eq!(run.code, 2);
    run.stderr
}

#[test]
fn an_option_counts_before_the_environment_and_that_before_the_file() {
    let home = tempdir().unwrap();
    let file = home.path().join(".novacron.yaml");
    std::fs::write(&file, "endpoints: [https://127.0.0.1:1]\ncredentials: /from-file\n").unwrap();
    let variables = [("NOVACRON_CREDENTIALS", "/from-environment")];
    let option = ["--credentials", "/from-option"];
    let used = |arguments: &[&str], variables: &[(&str, &str)]| {
        credentials_used(home.path(), arguments, variables)
    };
    assert!(used(&[], &[]).contains("/from-file/"));
    assert!(used(&[], &variables).contains("/from-environment/"));
    assert!(used(&option, &variables).contains("/from-option/"));

    let other = home.path().join("other.yaml");
    std::fs::write(&other, "endpoints: [https://127.0.0.1:1]\ncredentials: /from-other\n").unwrap();
    let other = other.to_str().unwrap();
    assert!(used(&[], &[("NOVACRON_CONFIG", other)]).contains("/from-other/"));
    assert!(
        used(&["--config", other], &[("NOVACRON_CONFIG", "/nowhere")]).contains("/from-other/")
    );
}

#[test]
fn shells_understand_their_completion_scripts() {
    let home = tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let run = at_home(&format!("completion {shell}"));
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains("migrate"), "{shell}");
        let script = home.path().join(shell);
        std::fs::write(&script, run.stdout).unwrap();
        match Command::new(shell).arg("-n").arg(&script).output() {
            Ok(checked) => assert!(checked.status.success(), "{shell}: {checked:?}"),
            // Only bash is on every machine.
            Err(error) => assert_ne!(shell, "bash", "{error}"),
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let pipe =
        format!("set -o pipefail; {} completion zsh | head -1", env!("CARGO_BIN_EXE_novacron"));
    let output = Command::new("bash").args(["-c", &pipe]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
}

#[test]
fn where_there_is_no_cluster_there_is_nothing_to_show_and_nothing_to_end() {
    let home = tempdir().unwrap();
    let status = run(home.path(), &["dev", "status", "-o", "json"]);
    assert_eq!((status.code, status.stdout.as_str()), (3, ""));
    assert!(status.stderr.contains("novacron dev up"), "{}", status.stderr);
    let down = run(home.path(), &["dev", "down"]);
    assert_eq!((down.code, down.stdout.as_str()), (3, ""));
    assert!(down.stderr.starts_with("error: there is no development cluster"), "{}", down.stderr);
}
