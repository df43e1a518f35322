use super::*;
use crate::vm::files::FileHash;
use crate::vm::record::Disk;
use novacron_protocol::vm::{Boot, DiskFormat, DiskSpec, Labels};

fn vm() -> VmId {
    "6f1c1f2e-0000-4000-8000-000000000001".parse().unwrap()
}

fn spec(network: Network, enable_tpm: bool) -> VmSpec {
    let disk =
        DiskSpec { size_bytes: 1 << 30, image: String::new(), format: DiskFormat::default() };
    VmSpec {
        name: "web-01".parse().unwrap(),
        project: novacron_protocol::ids::ProjectName::default(),
        memory_bytes: 512 << 20,
        cpus: 2,
        disks: vec![disk],
        boot: Boot::Disk,
        network,
        labels: Labels::new(),
        node_selector: Labels::new(),
        enable_tpm,
    }
}

fn hardware() -> Hardware {
    let size_bytes = 1 << 30;
    Hardware {
        machine_type: "pc-q35-10.0".to_owned(),
        boot: BootFiles::Kernel {
            kernel: FileHash([0xab; 32]),
            initrd: Some(FileHash([0xcd; 32])),
            append: "console=ttyS0 quiet".to_owned(),
        },
        disks: vec![
            Disk { size_bytes, format: DiskFormat::Qcow2 },
            Disk { size_bytes, format: DiskFormat::Raw },
        ],
    }
}

fn line(spec: &VmSpec, tap: Option<&str>, accelerator: Accelerator, purpose: Purpose) -> String {
    let directories = MachineDirectories {
        durable: "/data/vms/1".into(),
        run: "/da,ta/run/1".into(),
        memory: "/dev/shm/n/1".into(),
    };
    let plan = Plan {
        vm: vm(),
        spec,
        hardware: &hardware(),
        processor: &Processor::new(accelerator),
        directories: &directories,
        files: &FileStore::new("/data/files".into()),
        tap,
        purpose,
    };
    let mut text = String::new();
    for word in arguments(&plan) {
        text.push_str(if word.starts_with('-') && !text.is_empty() { "\n" } else { "" });
        text.push_str(if word.starts_with('-') { "" } else { " " });
        text.push_str(&word);
    }
    text
}

/// What changes here is a machine that cannot move between this version and the one before.
#[test]
fn golden() {
    let spec = spec(Network::User, false);
    let line = line(&spec, None, Accelerator::Tcg, Purpose::Run);
    assert_eq!(line, include_str!("golden.txt").trim_end(), "\n{line}\n");
}

#[test]
fn a_target_differs_in_what_this_end_only_needs() {
    let spec = spec(Network::User, false);
    let source = line(&spec, None, Accelerator::Tcg, Purpose::Run);
    let target = line(&spec, None, Accelerator::Tcg, Purpose::Receive);
    let only_in = |a: &str, b: &str| -> Vec<String> {
        a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    assert_eq!(
        only_in(&source, &target),
        [r#"-object {"id":"pc.ram","qom-type":"memory-backend-ram","size":536870912}"#]
    );
    assert_eq!(
        only_in(&target, &source),
        [
            r#"-object {"id":"pc.ram","mem-path":"/dev/shm/n/1","qom-type":"memory-backend-file","share":true,"size":536870912}"#,
            "-S",
            "-incoming defer",
        ]
    );
    let holder = line(&spec, None, Accelerator::Tcg, Purpose::HoldDisks);
    assert_eq!(only_in(&holder, &source), ["-S"]);
}

#[test]
fn bridge_tpm_and_kvm_have_their_words() {
    let network = Network::Bridge { bridge: "br0".to_owned() };
    let line = line(&spec(network, true), Some("nova1"), Accelerator::Kvm, Purpose::Run);
    for expected in [
        r#"-netdev {"downscript":"no","id":"net0","ifname":"nova1","script":"no","type":"tap"}"#,
        "-chardev socket,id=tpm0,path=/da,,ta/run/1/t.sock",
        "-tpmdev emulator,id=tpm0,chardev=tpm0",
        r#"-device {"driver":"tpm-crb","tpmdev":"tpm0"}"#,
        "-cpu host",
    ] {
        assert!(line.lines().any(|line| line == expected), "{expected} is not in\n{line}");
    }
    assert!(line.contains("accel=kvm"));
}

#[test]
fn no_network_is_no_card() {
    let line = line(&spec(Network::None, false), None, Accelerator::Tcg, Purpose::Run);
    assert!(!line.contains("-netdev") && !line.contains("virtio-net"));
}
