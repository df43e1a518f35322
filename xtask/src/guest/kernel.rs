//! A Debian cloud kernel, downloaded and unpacked, never installed: this machine's own kernel, boot
//! loader and initrd are left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{packages, process};

/// The package that always depends on the release's present cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
#[derive(Debug)]
pub struct Kernel {
    version: String,
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// Finds the kernel in `directory`, or brings it there.
    pub fn ensure(directory: &Path) -> Result<Self> {
        if !directory.exists() {
            fetch(directory)?;
        }
        Self::find(directory)
    }

    fn find(directory: &Path) -> Result<Self> {
        let boot = directory.join("boot");
        let entries =
            fs::read_dir(&boot).with_context(|| format!("cannot list {}", boot.display()))?;
        let names =
            entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        let version = names
            .filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
            .next()
            .with_context(|| {
                format!("{} has no kernel; remove it and try again", boot.display())
            })?;
        let image = boot.join(format!("vmlinuz-{version}"));
        let modules = ["lib/modules", "usr/lib/modules"]
            .iter()
            .map(|place| directory.join(place).join(&version))
            .find(|place| place.is_dir())
            .with_context(|| format!("{} has no modules for {version}", directory.display()))?;
        Ok(Self { version, image, modules })
    }

    /// The release as `uname -r` would say it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The compressed kernel, as `-kernel` takes it.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The directory of its modules.
    pub fn modules(&self) -> &Path {
        &self.modules
    }
}

/// Brings it to `directory`.
fn fetch(directory: &Path) -> Result<()> {
    let package = match package()? {
        Some(package) => package,
        None => {
            packages::refresh_lists()?;
            package()?.with_context(|| format!("apt does not know {META_PACKAGE}"))?
        }
    };
    packages::unpack(&package, directory)
}

/// The package of the kernel itself, which the meta package depends on.
fn package() -> Result<Option<String>> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the demo guest is made for x86-64 hosts only");
    }
    let depends = process::capture(Command::new("apt-cache").args(["depends", META_PACKAGE]));
    Ok(depends.ok().as_deref().and_then(first_dependency))
}

/// Reads `apt-cache depends`: the first line of the kind `Depends: linux-image-…`.
fn first_dependency(depends: &str) -> Option<String> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::first_dependency;

    #[test]
    fn finds_the_kernel_behind_the_meta_package() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(first_dependency(text).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(first_dependency("linux-image-cloud-amd64\n"), None);
    }
}
