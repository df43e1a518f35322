//! One plain QEMU: the machine that NovaCron's agent would start, word for word where it can be seen from the guest
//! or on the wire.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::mode::TLS_CREDENTIALS;
use super::qmp::Qmp;
use super::tls;
use crate::child::Process;
use crate::execute::Argv;
use crate::interruption::Interruption;
use crate::network::Host;

/// For how long QEMU may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// The block node that the guest's disk is.
pub const DISK_NODE: &str = "disk0";
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a machine depends on.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Whether the guest boots here or is awaited.
    pub host: Host,
    /// The guest's memory.
    pub memory_bytes: u64,
    /// What it boots.
    pub kernel: &'a Path,
    /// What it boots.
    pub initrd: &'a Path,
    /// What it boots.
    pub append: &'a str,
    /// Whether it has a disk, in the file [`Plan::disk`].
    pub has_disk: bool,
    /// Where its files are.
    pub directory: &'a Path,
    /// Whether it has certificates.
    pub is_encrypted: bool,
}

impl Plan<'_> {
    /// Where its disk is, if it has one.
    pub fn disk(&self) -> PathBuf {
        self.file("qcow2")
    }

    /// The disk, connected as ours is.
    fn disk_options(&self) -> [(&'static str, String); 2] {
        let file = json!({
            "driver": "file", "node-name": "file0", "filename": self.disk(), "discard": "unmap",
        });
        let node = json!({
            "driver": "qcow2", "node-name": DISK_NODE, "file": file, "discard": "unmap",
            "detect-zeroes": "unmap",
        });
        let device = json!({
            "driver": "virtio-blk-pci", "id": "blk0", "drive": DISK_NODE, "serial": DISK_NODE,
            "bootindex": 1,
        });
        [("-blockdev", node.to_string()), ("-device", device.to_string())]
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", self.host.name()))
    }

    fn arguments(&self) -> Argv {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let socket = |kind| format!("path={},server=on,wait=off", path(&self.file(kind)));
        let log = path(&self.file("console"));
        let memory = self.memory_bytes;
        let options = [
            (
                "-sandbox",
                "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
            ),
            ("-display", "none".into()),
            ("-vga", "none".into()),
            ("-rtc", "base=utc".into()),
            (
                "-machine",
                "pc-q35-10.0,accel=tcg,usb=off,vmport=off,suppress-vmdesc=on,memory-backend=pc.ram"
                    .into(),
            ),
            ("-object", format!("memory-backend-ram,id=pc.ram,size={memory}")),
            ("-m", format!("size={memory}b")),
            ("-cpu", "Nehalem-v1".into()),
            ("-smp", "cpus=1,sockets=1,cores=1,threads=1".into()),
            ("-object", "rng-builtin,id=rng0".into()),
            ("-device", "virtio-rng-pci,id=random0,rng=rng0".into()),
            ("-kernel", path(self.kernel)),
            ("-initrd", path(self.initrd)),
            ("-append", self.append.into()),
            (
                "-chardev",
                format!("socket,id=serial0,{},logfile={log},logappend=on", socket("serial")),
            ),
            ("-serial", "chardev:serial0".into()),
            ("-chardev", format!("socket,id=qmp0,{}", socket("qmp"))),
            ("-mon", "chardev=qmp0,mode=control".into()),
        ];
        let mut arguments = vec!["-nodefaults".to_owned(), "-no-user-config".to_owned()];
        let disk = self.has_disk.then(|| self.disk_options()).into_iter().flatten();
        let options = options.into_iter().chain(disk);
        arguments.extend(options.flat_map(|(name, value)| [name.to_owned(), value]));
        if self.is_encrypted {
            let end = if self.host == Host::Target { "server" } else { "client" };
            let dir = path(&tls::credentials(self.directory, self.host));
            let object = format!(
                "tls-creds-x509,id={TLS_CREDENTIALS},dir={dir},endpoint={end},verify-peer=on"
            );
            arguments.extend(["-object".to_owned(), object]);
        }
        if self.host == Host::Target {
            arguments.extend(["-incoming".to_owned(), "defer".to_owned()]);
        }
        arguments
    }
}

/// A running QEMU.
#[derive(Debug)]
pub struct Machine {
    /// What orders it.
    pub qmp: Qmp,
    process: Process,
    console: PathBuf,
    serial: PathBuf,
}

impl Machine {
    /// Starts it; `enter` is what runs a program on its host.
    pub fn start(plan: &Plan<'_>, mut enter: Argv, interruption: &Interruption) -> Result<Self> {
        enter.push("qemu-system-x86_64".to_owned());
        enter.extend(plan.arguments());
        let name = format!("QEMU of the {}", plan.host.name());
        let mut process = Process::start(&name, &enter, plan.file("log"))?;
        let socket = plan.file("qmp");
        let connection = interruption.wait("QEMU's start", START_PATIENCE, LOOK_AGAIN, || {
            process.check()?;
            Ok(UnixStream::connect(&socket).ok())
        })?;
        let qmp = Qmp::open(connection, interruption.clone())?;
        Ok(Self { qmp, process, console: plan.file("console"), serial: plan.file("serial") })
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.process.number()
    }

    /// Where its console is logged.
    pub fn console_path(&self) -> PathBuf {
        self.console.clone()
    }

    /// The thread that is the guest's processor.
    pub fn processor_thread(&mut self) -> Result<u32> {
        let answer = self.qmp.execute("query-cpus-fast", &json!({}))?;
        let number = answer[0]["thread-id"].as_u64().context("QEMU has no processor")?;
        u32::try_from(number).context("no thread has such a number")
    }

    /// What the guest has said so far. It may say anything, but only UTF-8 is of interest.
    pub fn console(&self) -> Result<String> {
        let bytes = fs::read(&self.console).context("cannot read the guest's console")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Types on the guest's console. What the guest answers is in its log.
    pub fn type_in(&self, text: &str) -> Result<()> {
        let serial = UnixStream::connect(&self.serial);
        let mut serial = serial.context("cannot reach the guest's console")?;
        serial.write_all(text.as_bytes()).context("cannot type on the guest's console")?;
        // QEMU writes byte by byte, each with a kernel buffer of its own: some three lines that nobody takes away
        // fill the socket, and then the guest waits. This ends when QEMU does.
        thread::spawn(move || io::copy(&mut serial, &mut io::sink()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(host: Host, has_disk: bool) -> String {
        let plan = Plan {
            host,
            memory_bytes: 1 << 29,
            kernel: Path::new("/g/vmlinuz"),
            initrd: Path::new("/g/initrd"),
            append: "quiet",
            has_disk,
            directory: Path::new("/d"),
            is_encrypted: false,
        };
        plan.arguments().join(" ")
    }

    #[test]
    fn both_ends_are_one_machine() {
        for has_disk in [false, true] {
            let [source, target] = Host::ALL.map(|host| arguments(host, has_disk));
            let renamed = target.replace("/d/target.", "/d/source.");
            assert_eq!(renamed.strip_suffix(" -incoming defer"), Some(source.as_str()));
            assert!(source.contains("-m size=536870912b"), "{source}");
            assert_eq!(source.contains("/d/source.qcow2"), has_disk, "{source}");
        }
    }
}
