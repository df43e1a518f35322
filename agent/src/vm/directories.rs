//! Where everything of the agent and of a machine lies.
//!
//! ```text
//! <data>/records/…             small durable records
//! <data>/files/<blake3>        kernels and initial RAM disks, shared by the machines that use them
//! <data>/vms/<vm>/             disks, console log, TPM state: what a machine consists of
//! <data>/vms/<vm>.new          the same while it is being made
//! <data>/former/<vm>/          disks of machines that left: nothing runs from them
//! <data>/run/<vm>/             sockets, pid file and log of the machine's process
//! <memory>/<vm>                memory of a machine that is arriving, until it is accepted or refused
//! <images>/<name>.qcow2        images that disks start as copies of
//! ```

use std::path::{Path, PathBuf};

use novacron_protocol::ids::VmId;
use novacron_protocol::vm::DiskFormat;

/// Bytes of a socket's path, the final zero byte left out (`sun_path` of Linux has 108).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Bytes of a socket's name in a run directory, for whoever puts sockets there.
pub const SOCKET_NAME_BYTES_MAX: usize = 16;

/// Bytes of a machine's id as text.
const VM_ID_BYTES: usize = 36;

/// The places.
#[derive(Debug, Clone)]
pub struct Directories {
    /// What must survive.
    pub data: PathBuf,
    /// Images.
    pub images: PathBuf,
    /// Memory of arriving machines: a tmpfs.
    pub memory: PathBuf,
}

/// The data directory's path is too long for the sockets that go below it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "data_directory {path} is too long: sockets below it would have paths of {bytes} bytes, Linux allows \
     {SOCKET_PATH_BYTES_MAX}; use a directory of at most {longest} bytes, such as /var/lib/novacron"
)]
pub struct PathTooLong {
    path: PathBuf,
    bytes: usize,
    longest: usize,
}

impl Directories {
    /// Checks that every socket will have a path that the system takes.
    ///
    /// # Errors
    /// [`PathTooLong`].
    pub fn check(&self) -> Result<(), PathTooLong> {
        let below = "/run/".len() + VM_ID_BYTES + 1 + SOCKET_NAME_BYTES_MAX;
        let bytes = self.data.as_os_str().len() + below;
        if bytes <= SOCKET_PATH_BYTES_MAX {
            return Ok(());
        }
        let longest = SOCKET_PATH_BYTES_MAX - below;
        Err(PathTooLong { path: self.data.clone(), bytes, longest })
    }

    /// The agent's records.
    pub fn records(&self) -> PathBuf {
        self.data.join("records")
    }

    /// Kernels and initial RAM disks by hash.
    pub fn files(&self) -> PathBuf {
        self.data.join("files")
    }

    /// All machines.
    pub fn machines(&self) -> PathBuf {
        self.data.join("vms")
    }

    /// Disks of machines that left.
    pub fn former(&self) -> PathBuf {
        self.data.join("former")
    }

    /// The places of one machine.
    pub fn machine(&self, vm: VmId) -> MachineDirectories {
        MachineDirectories {
            durable: self.machines().join(vm.to_string()),
            run: self.data.join("run").join(vm.to_string()),
            memory: self.memory.join(vm.to_string()),
        }
    }
}

/// The places of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDirectories {
    /// What it consists of.
    pub durable: PathBuf,
    /// What belongs to its process; 0700, short enough for sockets.
    pub run: PathBuf,
    /// The file of its memory while it arrives.
    pub memory: PathBuf,
}

impl MachineDirectories {
    /// Where `durable` is while it is being made.
    pub fn unfinished(&self) -> PathBuf {
        self.durable.with_extension("new")
    }

    /// The file of one disk.
    pub fn disk(&self, index: usize, format: DiskFormat) -> PathBuf {
        disk_file(&self.durable, index, format)
    }

    /// What the guest wrote to its serial port.
    pub fn console_log(&self) -> PathBuf {
        self.durable.join("console.log")
    }

    /// State of the TPM.
    pub fn tpm_state(&self) -> PathBuf {
        self.durable.join("tpm")
    }

    /// QMP of the agent.
    pub fn qmp(&self) -> PathBuf {
        self.run.join("q.sock")
    }

    /// A second QMP for operators and debugging.
    pub fn qmp_operator(&self) -> PathBuf {
        self.run.join("o.sock")
    }

    /// The serial port.
    pub fn serial(&self) -> PathBuf {
        self.run.join("s.sock")
    }

    /// The TPM's control socket.
    pub fn tpm_socket(&self) -> PathBuf {
        self.run.join("t.sock")
    }

    /// The TPM's pid.
    pub fn tpm_pid(&self) -> PathBuf {
        self.run.join("tpm.pid")
    }

    /// QEMU's pid.
    pub fn pid(&self) -> PathBuf {
        self.run.join("qemu.pid")
    }

    /// What QEMU has to say.
    pub fn log(&self) -> PathBuf {
        self.run.join("qemu.log")
    }
}

/// The file of one disk below a machine's directory.
pub(super) fn disk_file(directory: &Path, index: usize, format: DiskFormat) -> PathBuf {
    let extension = match format {
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Raw => "raw",
    };
    directory.join(format!("disk{index}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_socket_fits_under_is_refused() {
        let directories = |data: String| Directories {
            data: data.into(),
            images: "/images".into(),
            memory: "/dev/shm/n".into(),
        };
        assert_eq!(directories(format!("/{}", "d".repeat(48))).check(), Ok(()));
        let refused = directories(format!("/{}", "d".repeat(49))).check().unwrap_err();
        assert!(refused.to_string().contains("at most 49 bytes"), "{refused}");
    }
}
