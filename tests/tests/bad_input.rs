//! What cannot be is refused with an exit code for programs and a line for people: which field, and what would be
//! right. And nothing is half done.
#![allow(missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use novacron_sdk::api::{Code, VmCreate};
use novacron_tests::dev_cluster::DevCluster;
use novacron_tests::fleet::guest_file;
use serde_json::Value;

/// Exit codes of `novacron`, as its help lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const NOT_ALLOWED: i32 = 5;

/// Runs a command that must be refused with that code and a message that has all of these words.
fn refused(cluster: &DevCluster, line: &str, code: i32, words: &[&str]) -> Result<()> {
    let arguments: Vec<_> = line.split(' ').collect();
    let output = cluster.output(&arguments)?;
    check(line, &output, code, words)
}

fn check(line: &str, output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    println!("$ {line}\n{said}");
    ensure!(output.status.code() == Some(code), "`{line}`: {}, not {code}:\n{said}", output.status);
    match words.iter().find(|word| !said.contains(*word)) {
        Some(word) => bail!("`{line}` says nothing of `{word}`:\n{said}"),
        None => Ok(()),
    }
}

#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let cluster = DevCluster::up(1, 2)?;
    let kernel = guest_file("vmlinuz")?;
    let kernel = kernel.display().to_string();
    let make = format!("vm create web-01 --memory 64M --cpus 1 --disk 16M --kernel {kernel}");
    let making = format!("{make} --node node-01 --no-start --wait");
    cluster.run(&making.split(' ').collect::<Vec<_>>())?;
    values(&cluster, &kernel)?;
    things(&cluster, &make)?;
    migrations(&cluster)?;
    memory(&cluster, &kernel)?;
    files(&cluster)?;
    tokens(&cluster)?;
    roles(&cluster)?;
    fields(&cluster)
}

/// Values that are refused before anybody is asked.
fn values(cluster: &DevCluster, kernel: &str) -> Result<()> {
    let create = |rest: &str| format!("vm create new-01 --kernel {kernel} {rest}");
    refused(cluster, &create("--memory 1M"), USAGE, &["memory: ", "from 16 MiB to 16 TiB"])?;
    refused(cluster, &create("--memory 64Q"), USAGE, &["--memory", "64Q", "K, M, G or T"])?;
    refused(cluster, &create("--disk 100"), USAGE, &["disks[0].size: ", "multiple of 64 KiB"])?;
    refused(cluster, &create("--cpus 0"), USAGE, &["cpus: ", "1 to 512"])?;
    let name = format!("vm create Not_Good --kernel {kernel}");
    refused(cluster, &name, USAGE, &["name: ", "lower-case letters"])?;
    let plain = "vm migrate web-01 --target node-02 --live --downtime-limit 50";
    refused(cluster, plain, USAGE, &["--downtime-limit", "write 50ms"])
}

/// Names that are taken, or nobody's.
fn things(cluster: &DevCluster, make: &str) -> Result<()> {
    refused(cluster, make, CONFLICT, &["name", "`web-01`", "taken"])?;
    let elsewhere = make.replace("web-01", "web-02") + " --node node-09";
    refused(cluster, &elsewhere, NOT_FOUND, &["node", "`node-09`"])?;
    refused(cluster, "vm show web-09", NOT_FOUND, &["machine", "`web-09`"])?;
    refused(cluster, "node show node-09", NOT_FOUND, &["node", "`node-09`"])
}

/// Journeys that cannot be. The machine is stopped, at node-01.
fn migrations(cluster: &DevCluster) -> Result<()> {
    let to = |rest: &str| format!("vm migrate web-01 --target {rest}");
    refused(cluster, &to("node-09"), NOT_FOUND, &["node", "`node-09`"])?;
    refused(cluster, &to("node-01"), USAGE, &["target: ", "`node-01` already"])?;
    refused(cluster, &to("node-02 --live"), CONFLICT, &["stopped", "start it first"])?;
    let nobody = "vm migrate web-09 --target node-02";
    refused(cluster, nobody, NOT_FOUND, &["machine", "`web-09`"])?;
    let unknown = "migrate cancel 00000000-0000-4000-8000-000000000001";
    refused(cluster, unknown, NOT_FOUND, &["no migration"])?;
    let all = cluster.json(&["migrate", "status"])?;
    ensure!(all.as_array().is_some_and(Vec::is_empty), "one began: {all:#}");
    Ok(())
}

/// A target without room: each node holds one machine of more than half of its memory.
fn memory(cluster: &DevCluster, kernel: &str) -> Result<()> {
    for (name, node) in [("big-01", "node-01"), ("big-02", "node-02")] {
        let view = cluster.json(&["node", "show", node])?;
        let bytes = view["capacity"]["memory_bytes"].as_u64().context("the node's memory")?;
        let memory = format!("{}M", (bytes / 100 * 60) >> 20);
        let create = format!(
            "vm create {name} --memory {memory} --cpus 1 --disk 16M --kernel {kernel} --node {node} --no-start --wait"
        );
        cluster.run(&create.split(' ').collect::<Vec<_>>())?;
    }
    let words = ["`node-02`", "of memory needed", "free", "node list"];
    refused(cluster, "vm migrate big-01 --target node-02", CONFLICT, &words)?;
    for name in ["big-01", "big-02"] {
        cluster.run(&["vm", "destroy", name, "--yes", "--wait"])?;
    }
    Ok(())
}

/// Files that the node does not have. Only the node can tell, so the machine is there and says so; its disks are not.
fn files(cluster: &DevCluster) -> Result<()> {
    let start = "vm create lost-01 --memory 64M --cpus 1 --disk 16M --node node-02 --wait";
    let image = format!("{start} --image nowhere");
    refused(cluster, &image, FAILED, &["image: ", "`nowhere`", "images on this node"])?;
    gone_with_its_files(cluster)?;
    let kernel = format!("{start} --kernel /nowhere/vmlinuz");
    refused(cluster, &kernel, FAILED, &["kernel: ", "/nowhere/vmlinuz", "cannot be read"])?;
    gone_with_its_files(cluster)?;
    let present = guest_file("vmlinuz")?.display().to_string();
    let initrd = format!("{start} --kernel {present} --initrd /nowhere/initrd");
    refused(cluster, &initrd, FAILED, &["initrd: ", "/nowhere/initrd", "cannot be read"])?;
    gone_with_its_files(cluster)
}

fn gone_with_its_files(cluster: &DevCluster) -> Result<()> {
    let machines = cluster.directory().join("node-02/data/vms");
    let left: Vec<_> = std::fs::read_dir(machines)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "half done: {left:?}");
    cluster.run(&["vm", "destroy", "lost-01", "--yes", "--wait"]).map(drop)
}

/// Tokens are for one name, good once, and not for ever. (That one expires needs a clock to turn: the coordinator's
/// own tests have one.)
fn tokens(cluster: &DevCluster) -> Result<()> {
    let brief = "token create --role agent --ttl 1s";
    refused(cluster, brief, USAGE, &["ttl_seconds: ", "60 to 86400"])?;
    let made = cluster.json(&["token", "create", "--role", "agent", "--name", "node-07"])?;
    let spare = cluster.directory().join("spare");
    let join = |name: &str, token: &str| join(cluster, &spare, name, token, &made);
    let token = made["token"].as_str().context("no token")?;
    let wrong = join("node-08", token)?;
    check("join as another", &wrong, FAILED, &["token is for another name"])?;
    let senseless = join("node-07", "open-sesame")?;
    check("join with a word", &senseless, FAILED, &["--token", "expected novacron-join."])?;
    let good = join("node-07", token)?;
    check("join", &good, 0, &["joined"])?;
    std::fs::remove_dir_all(&spare)?;
    let again = join("node-07", token)?;
    check("join again", &again, FAILED, &["token has been used"])
}

fn join(
    cluster: &DevCluster,
    spare: &Path,
    name: &str,
    token: &str,
    made: &Value,
) -> Result<Output> {
    let coordinator = made["coordinators"][0].as_str().context("no coordinator")?;
    std::fs::create_dir_all(spare)?;
    let config = spare.join("agent.toml");
    let data = spare.join("data");
    let text = format!(
        "node = {name:?}\ndata_directory = {data:?}\nmemory_directory = {:?}\nimage_directory = {spare:?}\n\
         coordinators = [{coordinator:?}]\nmigration_listen = \"127.0.0.1:0\"\n\
         migration_advertise = \"127.0.0.1:7410\"\naccel = \"tcg\"\n",
        spare.join("memory"),
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(cluster.program("novacron-agent"));
    command.arg("join").arg("--config").arg(&config);
    Ok(command.args(["--token", token, "--coordinator", coordinator]).output()?)
}

/// A node's certificate opens the links between programs, not the API.
fn roles(cluster: &DevCluster) -> Result<()> {
    let credentials = cluster.directory().join("node-01/data/credentials");
    let list = format!("--credentials {} vm list", credentials.display());
    refused(cluster, &list, NOT_ALLOWED, &["operator"])
}

/// What the command line would not let through is refused by the API too, by the field's name.
fn fields(cluster: &DevCluster) -> Result<()> {
    let client = cluster.client()?;
    let good = || VmCreate { name: "new-01".into(), disk: Some(16 << 20), ..VmCreate::default() };
    let bad = [
        ("name", VmCreate { name: "Not Good".into(), ..good() }),
        ("memory", VmCreate { memory: Some(1), ..good() }),
        ("cpus", VmCreate { cpus: Some(0), ..good() }),
        ("disk", VmCreate { disk: Some(100), ..good() }),
        ("image", VmCreate { image: Some("../etc".into()), ..good() }),
        ("kernel", VmCreate { kernel: Some("vmlinuz".into()), ..good() }),
    ];
    for (field, create) in bad {
        let error = client.vm_create(&create).err().context("it was taken")?;
        let problem = error.problem().context("no problem document")?;
        ensure!(problem.code == Code::InvalidRequest, "{field}: {problem:?}");
        ensure!(problem.field.as_deref() == Some(field), "{field}: {problem:?}");
    }
    Ok(())
}
