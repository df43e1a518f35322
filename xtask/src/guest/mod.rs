//! The guest that the demo, the tests and the benches boot: a Debian cloud kernel and an initrd of a
//! few megabytes, under `target/novacron-guest/`. Built once; a stamp of everything that goes into
//! it tells whether it is still right.

mod archive;
mod kernel;
mod modules;
mod workload;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use archive::Archive;
use kernel::Kernel;

/// The kernel arguments that every boot of the guest needs: the console that the agent logs, and
/// what makes an emulated machine boot quickly and its clock steady.
pub const ARGUMENTS: &str =
    "console=ttyS0 quiet no_timer_check tsc=reliable mitigations=off panic=-1";

const BUSYBOX: &str = "/bin/busybox";
const INIT: &[u8] = include_bytes!("init.sh");
/// The drivers the guest uses; what they depend on is found out.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "button", "evdev"];

/// The finished files.
#[derive(Debug)]
pub struct Guest {
    /// What `-kernel` takes.
    pub kernel: PathBuf,
    /// What `-initrd` takes.
    pub initrd: PathBuf,
}

/// Builds the guest, or finds it built.
pub fn ensure(workspace: &Workspace) -> Result<Guest> {
    let directory = workspace.guest_directory();
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let _lock = lock(&directory)?;
    let guest = Guest { kernel: directory.join("vmlinuz"), initrd: directory.join("initrd") };
    let kernel = Kernel::ensure(&directory.join("kernel"))?;
    let stamp = stamp(workspace, &kernel)?;
    let stamp_path = directory.join("stamp");
    if fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp) {
        return Ok(guest);
    }
    println!("Building the guest in {}", directory.display());
    let workload = workload::build(workspace, &directory.join("build"))?;
    replace(&guest.initrd, &initrd(&kernel, &workload)?)?;
    replace(&guest.kernel, &read(kernel.image())?)?;
    replace(&directory.join("arguments"), ARGUMENTS.as_bytes())?;
    // Last: an interrupted build leaves no stamp that would vouch for it.
    replace(&stamp_path, stamp.as_bytes())?;
    Ok(guest)
}

/// Two builds at once, say of a test and of a person, take turns.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn initrd(kernel: &Kernel, workload: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "bin", "modules"] {
        archive.directory(directory);
    }
    // The kernel opens it for the first program, before anything is mounted.
    archive.character_device("dev/console", 5, 1);
    archive.program("init", INIT);
    archive.program("bin/busybox", &read(Path::new(BUSYBOX))?);
    archive.program("workload", &read(workload)?);
    for (order, module) in modules::resolve(kernel.modules(), MODULES)?.iter().enumerate() {
        archive.file(&format!("modules/{order:02}-{}.ko", module.name), &module.content);
    }
    // Not compressed: under emulation, unpacking would take longer than reading.
    Ok(archive.finish())
}

/// A digest of everything that goes into the guest. It guards a cache, not against an adversary.
fn stamp(workspace: &Workspace, kernel: &Kernel) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for directory in ["tests/guest", "xtask/src/guest"] {
        for path in crate::workspace::files_under(&workspace.root().join(directory))? {
            path.hash(&mut hasher);
            read(&path)?.hash(&mut hasher);
        }
    }
    read(Path::new(BUSYBOX))?.hash(&mut hasher);
    read(&workspace.root().join("rust-toolchain.toml"))?.hash(&mut hasher);
    Ok(format!("{} {:016x}\n", kernel.version(), hasher.finish()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file so that nobody ever reads half of it.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}
