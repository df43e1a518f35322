//! Whether KVM runs a guest here.
//!
//! On some nested machines `/dev/kvm` opens and firmware runs, and yet an ordinary 64-bit kernel hangs. So `auto`
//! believes only a kernel that was seen to begin under KVM: its banner, or a panic, on the serial port within a
//! deadline. The answer is remembered for as long as nothing changes that it depends on.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use novacron_protocol::node::Accelerator;
use novacron_protocol::qemu::QemuVersion;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::config::AcceleratorChoice;
use crate::records::{RecordName, Records};

/// A kernel says its first word within a second on the slowest machine that has KVM.
const BOOT_DEADLINE: Duration = Duration::from_secs(20);

/// Bytes of output that are looked at: firmware and kernel say little before the banner.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// What a kernel says when it runs, with or without anything to run on.
const SIGNS_OF_LIFE: [&[u8]; 2] = [b"Linux version", b"Kernel panic"];

/// What runs guests here and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Translator or hardware.
    pub accelerator: Accelerator,
    /// Why this and no better one, in one line.
    pub reason: String,
}

/// KVM was demanded and does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("accel = \"kvm\", but {reason}; set accel = \"auto\" or \"tcg\"")]
pub struct NoKvm {
    /// Why not.
    pub reason: String,
}

/// What the answer depends on; as long as it is the same, so is the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Circumstances {
    kernel: PathBuf,
    kernel_bytes: u64,
    kernel_modified_unix_s: i64,
    qemu: String,
    cpu_model: String,
    host_kernel: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct VerdictRecord {
    circumstances: Circumstances,
    verdict: Verdict,
}

impl Message for VerdictRecord {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 16 * 1024;
    const NAME: &'static str = "accelerator verdict";
}

/// Finds out; asks the records first, and a kernel if they do not know.
///
/// # Errors
/// [`NoKvm`] if KVM was demanded.
pub async fn decide(
    choice: AcceleratorChoice,
    qemu: (&Path, QemuVersion),
    probe_kernel: Option<&Path>,
    records: Option<&Records>,
) -> Result<Verdict, NoKvm> {
    if choice == AcceleratorChoice::Tcg {
        return Ok(tcg("accel = \"tcg\" in the configuration"));
    }
    let verdict = try_kvm(qemu, probe_kernel, records).await;
    if verdict.accelerator == Accelerator::Tcg {
        if choice == AcceleratorChoice::Kvm {
            return Err(NoKvm { reason: verdict.reason });
        }
        tracing::warn!(reason = %verdict.reason, "guests run under TCG, not under KVM");
    }
    Ok(verdict)
}

fn tcg(reason: impl Into<String>) -> Verdict {
    Verdict { accelerator: Accelerator::Tcg, reason: reason.into() }
}

async fn try_kvm(
    (qemu, version): (&Path, QemuVersion),
    probe_kernel: Option<&Path>,
    records: Option<&Records>,
) -> Verdict {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return tcg(format!("/dev/kvm cannot be opened: {error}"));
    }
    let kernel = match probe_kernel.map(Path::to_owned).or_else(newest_kernel) {
        Some(kernel) => kernel,
        None => {
            return tcg("there is no readable /boot/vmlinuz-* to try KVM with; set probe_kernel");
        }
    };
    let circumstances = match circumstances(&kernel, version) {
        Ok(circumstances) => circumstances,
        Err(error) => {
            return tcg(format!("probe_kernel {} is unreadable: {error}", kernel.display()));
        }
    };
    if let Some(remembered) = remembered(records, &circumstances).await {
        return remembered;
    }
    let verdict = boot_under_kvm(qemu, &kernel).await;
    remember(records, circumstances, &verdict).await;
    verdict
}

fn newest_kernel() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/boot").ok()?.flatten();
    let kernels =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
    let readable = kernels.filter(|entry| std::fs::File::open(entry.path()).is_ok());
    let newest =
        readable.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
    newest.map(|entry| entry.path())
}

fn circumstances(kernel: &Path, version: QemuVersion) -> io::Result<Circumstances> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::File::open(kernel)?.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu_model = cpuinfo.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    Ok(Circumstances {
        kernel: kernel.to_owned(),
        kernel_bytes: metadata.len(),
        kernel_modified_unix_s: metadata.mtime(),
        qemu: version.to_string(),
        cpu_model: cpu_model.to_owned(),
        host_kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
    })
}

async fn remembered(records: Option<&Records>, now: &Circumstances) -> Option<Verdict> {
    let record = records?.get::<VerdictRecord>(RecordName::Accelerator).await;
    // Whatever is wrong with the record, asking again is right.
    let record = record.ok().flatten()?;
    (record.circumstances == *now).then_some(record.verdict)
}

async fn remember(records: Option<&Records>, circumstances: Circumstances, verdict: &Verdict) {
    let Some(records) = records else { return };
    let record = VerdictRecord { circumstances, verdict: verdict.clone() };
    if let Err(error) = records.put(RecordName::Accelerator, &record).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "KVM is tried again next time");
    }
}

async fn boot_under_kvm(qemu: &Path, kernel: &Path) -> Verdict {
    let mut command = Command::new(qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "q35,accel=kvm", "-cpu", "host", "-m", "128M", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .args(["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return tcg(format!("QEMU cannot be run to try KVM: {error}")),
    };
    let (Some(mut output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
        return tcg("QEMU cannot be listened to");
    };
    let seen = tokio::time::timeout(BOOT_DEADLINE, shows_life(&mut output)).await;
    // The guest has done its duty, or never will.
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "the trial guest cannot be ended");
    }
    let name = kernel.display();
    match seen {
        Ok(true) => {
            let reason = format!("{name} boots under KVM");
            Verdict { accelerator: Accelerator::Kvm, reason }
        }
        Ok(false) => tcg(format!("QEMU gave up under KVM: {}", first_line(&mut errors).await)),
        Err(_) => tcg(format!(
            "{name} does not boot under KVM within {} s, although /dev/kvm opens",
            BOOT_DEADLINE.as_secs()
        )),
    }
}

/// Whether a kernel is seen before the output ends.
async fn shows_life<R: AsyncRead + Unpin>(output: &mut R) -> bool {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = output.read(&mut chunk).await.unwrap_or_default();
        seen.extend_from_slice(&chunk[..read]);
        let shows = |sign: &[u8]| seen.windows(sign.len()).any(|window| window == sign);
        if SIGNS_OF_LIFE.into_iter().any(shows) {
            return true;
        }
        if read == 0 || seen.len() > OUTPUT_BYTES_MAX {
            return false;
        }
    }
}

async fn first_line<R: AsyncRead + Unpin>(errors: &mut R) -> String {
    let mut text = Vec::new();
    let bounded = errors.take(1024).read_to_end(&mut text).await;
    let text = bounded.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kernel_is_known_by_its_banner_or_its_panic() {
        for (output, expected) in [
            (&b"\x1bc[    0.000000] Linux version 6.12.0-cloud"[..], true),
            (b"[    1.9] Kernel panic - not syncing: VFS", true),
            (b"SeaBIOS (version 1.16.3)\r\nBooting from ROM..", false),
            (b"", false),
        ] {
            assert_eq!(shows_life(&mut &output[..]).await, expected);
        }
    }

    #[tokio::test]
    async fn tcg_is_taken_at_its_word() {
        let version = QemuVersion { major: 10, minor: 0, micro: 2 };
        let qemu = (Path::new("/nowhere"), version);
        let verdict = decide(AcceleratorChoice::Tcg, qemu, None, None).await.unwrap();
        assert_eq!(verdict.accelerator, Accelerator::Tcg);
    }

    #[tokio::test]
    async fn kvm_that_cannot_be_had_is_refused_with_the_reason() {
        let version = QemuVersion { major: 10, minor: 0, micro: 2 };
        let qemu = (Path::new("/nowhere/qemu"), version);
        let kernel = Path::new("/nowhere/vmlinuz");
        let refused = decide(AcceleratorChoice::Kvm, qemu, Some(kernel), None).await.unwrap_err();
        assert!(refused.to_string().contains("accel = \"kvm\""), "{refused}");
        let fallen_back = decide(AcceleratorChoice::Auto, qemu, Some(kernel), None).await.unwrap();
        assert_eq!(fallen_back.accelerator, Accelerator::Tcg);
        assert!(!fallen_back.reason.is_empty());
    }
}
