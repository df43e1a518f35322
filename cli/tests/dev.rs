//! `novacron dev` with programs that do not do their work: what `up` says then, and that nothing stays behind.
//! With real programs it is tested in `tests/tests/dev_cluster.rs`.
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

#[path = "../../sdk/tests/fake/mod.rs"]
mod fake;
mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fake::{Authority, nobody};
use program::{Run, command, finish};
use tempfile::{TempDir, tempdir};

/// A home with programs that enrol as asked and whose `serve` is what the test wants.
struct Place {
    home: TempDir,
}

impl Place {
    fn new(serve: &str) -> Self {
        let place = Self { home: tempdir().unwrap() };
        let credentials = place.path("credentials");
        fs::create_dir(&credentials).unwrap();
        Authority::new().client(&credentials, &[&nobody()]);
        fs::create_dir(place.path("bin")).unwrap();
        let script = format!(
            "#!/bin/sh\ncase $1 in\ninit) cp -r {} \"$3\" ;;\njoin) ;;\nserve) {serve} ;;\nesac\n",
            credentials.display()
        );
        for name in ["novacron-coordinator", "novacron-agent"] {
            let path = place.path("bin").join(name);
            fs::write(&path, &script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn dev(&self, line: &str) -> Run {
        let cluster = self.path("cluster");
        let words = ["dev"].into_iter().chain(line.split_whitespace());
        let words: Vec<_> = words.chain(["--dir", cluster.to_str().unwrap()]).collect();
        finish(command(self.home.path(), &words).env("NOVACRON_BIN_DIR", self.path("bin")))
    }

    /// Processes whose command line or namespace belongs to the cluster.
    fn leftovers(&self) -> Vec<String> {
        let dir = self.home.path().display().to_string();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines =
            entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(&dir)).collect()
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn namespaces(tag: &str) -> usize {
    let listing = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8_lossy(&listing.stdout).lines().filter(|line| line.contains(tag)).count()
}

fn tag(cluster: &Path) -> String {
    let record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(cluster.join("dev.json")).unwrap()).unwrap();
    record["tag"].as_str().unwrap().to_owned()
}

#[test]
fn a_program_that_ends_is_explained_by_its_log() {
    let place = Place::new("echo the address is in use; exit 1");
    let up = place.dev("up --loopback --coordinators 1 --nodes 0 --timeout 20s");
    assert_eq!((up.code, up.stdout.as_str()), (1, ""));
    assert!(up.stderr.contains("the address is in use"), "{}", up.stderr);
    assert!(
        up.stderr.contains("error: novacron-coordinator of coordinator-1 has ended"),
        "{}",
        up.stderr
    );
    assert_eq!(place.leftovers(), Vec::<String>::new());
    let purge = place.dev("down --purge");
    assert_eq!(purge.code, 0, "{}", purge.stderr);
    assert!(!place.path("cluster").exists());
}

#[test]
fn a_program_that_is_never_ready_is_ended_after_the_deadline() {
    let place = Place::new("exec sleep 600");
    let up = place.dev("up --loopback --coordinators 1 --nodes 0 --timeout 1s");
    assert_eq!((up.code, up.stdout.as_str()), (6, ""));
    assert!(up.stderr.contains("coordinator-1 is not ready in time"), "{}", up.stderr);
    let status = place.dev("status -o json");
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["hosts"][0]["alive"], false);
    assert_eq!(place.dev("kill coordinator-1").code, 4);
    assert_eq!(place.dev("kill coordinator-9").code, 3);
    assert_eq!(
        place.dev("link coordinator-1 coordinator-1 --down").code,
        5,
        "the loopback cannot be cut"
    );
    assert_eq!(place.dev("down").code, 0);
}

#[test]
fn a_host_is_started_stopped_and_ended_by_itself() {
    let place = Place::new("exec sleep 600");
    place.dev("up --loopback --coordinators 1 --nodes 1 --timeout 0s");
    assert_eq!(place.dev("start node-01").code, 0);
    assert_eq!(place.dev("start node-01").code, 4, "it runs already");
    assert_eq!(place.dev("up --loopback").code, 4, "it is up");
    assert_eq!(place.dev("kill node-01 --signal STOP").code, 0);
    assert_eq!(place.dev("kill node-01").code, 0);
    assert_eq!(place.dev("kill node-01").code, 4);
    assert_eq!(place.dev("start node-01").code, 0);
    assert_eq!(place.dev("kill node-01 --signal stop").code, 0);
    assert_eq!(place.dev("down").code, 0, "a program that stands still ends too");
    let other = place.dev("up --loopback --nodes 2");
    assert_eq!(other.code, 4);
    assert!(other.stderr.contains("another number of nodes"), "{}", other.stderr);
}

#[test]
fn namespaces_do_not_stay_behind() {
    if !is_root() {
        return;
    }
    let place = Place::new("exec sleep 600");
    let up = place.dev("up --coordinators 1 --nodes 1 --timeout 500ms");
    assert_eq!(up.code, 6, "{}", up.stderr);
    assert!(up.stderr.contains("a 1gbit link each"), "{}", up.stderr);
    let tag = tag(&place.path("cluster"));
    assert_eq!(namespaces(&tag), 0);
    assert!(!Path::new("/sys/class/net").join(tag).exists());
}

#[test]
fn a_cluster_whose_directory_somebody_removed_is_ended_too() {
    let place = Place::new("exec sleep 600");
    place.dev("up --loopback --coordinators 1 --nodes 1 --timeout 0s");
    let tag = tag(&place.path("cluster"));
    let memory = Path::new("/dev/shm").join(format!("{tag}-node-01"));
    fs::create_dir(&memory).unwrap();
    fs::remove_dir_all(place.path("cluster")).unwrap();
    assert_eq!(place.dev("down").code, 0);
    assert!(!memory.exists());
}
