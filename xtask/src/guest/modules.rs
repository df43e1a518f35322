//! Kernel modules and the order to load them in.
//!
//! `modules.dep` is written by `depmod` when a kernel is installed, which ours is not; so the
//! dependencies are read from where `depmod` reads them, the modules' own `depends=` entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// One module, as the kernel loads it.
#[derive(Debug)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The object file, not compressed.
    pub content: Vec<u8>,
}

/// The modules named and all they depend on, each after what it needs. What this kernel has built
/// in is left out: releases differ in that.
pub fn resolve(directory: &Path, names: &[&str]) -> Result<Vec<Module>> {
    let files = index(directory)?;
    let built_in = built_in(directory)?;
    let mut loaded = Vec::new();
    for name in names.iter().filter(|name| !built_in.contains(**name)) {
        load(&files, name, &mut Vec::new(), &mut loaded)?;
    }
    Ok(loaded)
}

/// The names in `modules.builtin`: one path of a would-be module a line.
fn built_in(directory: &Path) -> Result<BTreeSet<String>> {
    let path = directory.join("modules.builtin");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().map(|line| module_name(Path::new(line))).collect())
}

/// The module's name: its file's without endings, with underscores.
fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

/// Every module file under the directory, by the name of the module.
fn index(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for path in workspace::files_under(directory)? {
        let is_module = [".ko", ".ko.xz"].iter().any(|end| path.to_string_lossy().ends_with(end));
        if is_module {
            files.insert(module_name(&path), path);
        }
    }
    Ok(files)
}

fn load(
    files: &BTreeMap<String, PathBuf>,
    name: &str,
    above: &mut Vec<String>,
    loaded: &mut Vec<Module>,
) -> Result<()> {
    if loaded.iter().any(|module| module.name == name) {
        return Ok(());
    }
    if above.iter().any(|other| other == name) {
        bail!("kernel module {name} depends on itself");
    }
    let path = files.get(name).with_context(|| format!("this kernel has no module {name}"))?;
    let content = content(path)?;
    above.push(name.to_owned());
    for dependency in dependencies(&content) {
        load(files, &dependency, above, loaded)?;
    }
    above.pop();
    loaded.push(Module { name: name.to_owned(), content });
    Ok(())
}

fn content(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        return process::capture_bytes(
            Command::new("xz").args(["--decompress", "--stdout"]).arg(path),
        );
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Finds the entry `depends=a,b` of the section `.modinfo`: a string between two zero bytes.
fn dependencies(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = content.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = content[start + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_one_way() {
        assert_eq!(module_name(Path::new("kernel/drivers/virtio/virtio-rng.ko.xz")), "virtio_rng");
        assert_eq!(module_name(Path::new("evdev.ko")), "evdev");
    }

    #[test]
    fn reads_the_dependencies_of_a_module() {
        let object = b"\x7fELF....license=GPL\0depends=virtio_ring,virtio-pci\0retpoline=Y\0";
        assert_eq!(dependencies(object), ["virtio_ring", "virtio_pci"]);
        assert!(dependencies(b"\0depends=\0name=evdev\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }
}
