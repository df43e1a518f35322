//! What has to be on the machine, and how one sees that it is.

use crate::process;

/// The oldest major version of QEMU whose stream the agents are made for.
pub const QEMU_MAJOR_MIN: u32 = 10;
/// The package with `qemu-system-x86_64`.
pub const QEMU_PACKAGE: &str = "qemu-system-x86";

/// One package, and the reason for it.
#[derive(Debug)]
pub struct Need {
    /// Name in Debian.
    pub package: &'static str,
    /// What it is for, in a few words.
    pub why: &'static str,
    probe: Probe,
}

#[derive(Debug)]
enum Probe {
    /// A program of QEMU that reports at least [`QEMU_MAJOR_MIN`].
    Qemu(&'static str),
    /// A program that runs with these arguments.
    Runs(&'static str, &'static [&'static str]),
    /// A package whose program may also come, in another flavour, from another package.
    Installed,
}

/// What hosts and their guests need, in the order in which it is named to the person.
pub const FOR_HOSTS: &[Need] = &[
    Need {
        package: QEMU_PACKAGE,
        why: "QEMU 10 or newer runs the guests",
        probe: Probe::Qemu("qemu-system-x86_64"),
    },
    Need {
        package: "qemu-utils",
        why: "qemu-img makes the guests' disks",
        probe: Probe::Qemu("qemu-img"),
    },
    Need {
        package: "swtpm",
        why: "the TPM of guests that ask for one",
        probe: Probe::Runs("swtpm", &["--version"]),
    },
    Need {
        package: "busybox-static",
        why: "the user land of the demo guest",
        probe: Probe::Installed,
    },
    Need {
        package: "xz-utils",
        why: "unpacks the demo guest's kernel",
        probe: Probe::Runs("xz", &["--version"]),
    },
    Need {
        package: "iproute2",
        why: "network namespaces and shaped links between the hosts of `novacron dev`",
        probe: Probe::Runs("ip", &["-V"]),
    },
];

/// What only tests need.
pub const FOR_TESTS: &[Need] = &[Need {
    package: "python3-venv",
    why: "the programs in Python that judge the API",
    probe: Probe::Runs("python3", &["-c", "import venv, ensurepip; print('both')"]),
}];

impl Need {
    /// Whether the machine has it now.
    pub fn is_met(&self) -> bool {
        match self.probe {
            Probe::Qemu(program) => process::probe(program, &["--version"])
                .and_then(|text| qemu_major(&text))
                .is_some_and(|major| major >= QEMU_MAJOR_MIN),
            Probe::Runs(program, arguments) => process::probe(program, arguments).is_some(),
            Probe::Installed => {
                process::probe("dpkg-query", &["-W", "-f", "${db:Status-Status}", self.package])
                    .is_some_and(|status| status == "installed")
            }
        }
    }
}

/// The major version in the first line that QEMU's programs print for `--version`.
fn qemu_major(text: &str) -> Option<u32> {
    let (_, version) = text.lines().next()?.split_once(" version ")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::qemu_major;

    #[test]
    fn reads_the_version_lines_of_qemu() {
        let system =
            "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright";
        assert_eq!(qemu_major(system), Some(10));
        assert_eq!(qemu_major("qemu-img version 7.2.22 (Debian 1:7.2+dfsg-7)"), Some(7));
        assert_eq!(qemu_major("something else"), None);
        assert_eq!(qemu_major(""), None);
    }
}
