//! What people see of fixed views, to the letter.

use novacron_protocol::api::{AuditEntry, Event, MigrationView, NodeView, RegionView, VmView};
use novacron_protocol::migration::{Convergence, MemoryPath, MigrationMode};
use novacron_protocol::time::Timestamp;

use super::{Row, Show, fields, progress_line, table};

fn vm() -> VmView {
    serde_json::from_value(serde_json::json!({
        "id": "0b8f5a66-8f4c-4a57-9d6e-000000000001", "name": "web-01", "project": "web", "state": "running", "node": "node-01",
        "generation": 3, "migration_id": null, "memory": 536_870_912, "cpus": 1, "disk": 1_073_741_824, "image": "",
        "disks": [
            {"size_bytes": 1_073_741_824, "image": "", "format": "qcow2"},
            {"size_bytes": 0, "image": "debian", "format": "raw"}
        ],
        "boot": {"kernel": {"kernel": "/vmlinuz", "initrd": "", "append": "console=ttyS0"}},
        "network": {"bridge": {"bridge": "br0"}}, "labels": {"app": "web", "tier": "1"}, "nodeSelector": {},
        "enable_tpm": false, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:01Z",
        "revision": 7, "_links": {}
    }))
    .unwrap()
}

fn migration(status: &str) -> MigrationView {
    let is_over = status != "in_progress";
    serde_json::from_value(serde_json::json!({
        "migration_id": "0b8f5a66-8f4c-4a57-9d6e-000000000002", "vm": "0b8f5a66-8f4c-4a57-9d6e-000000000001",
        "vm_name": "web-01", "mode": "live", "options": {"auto_converge": false}, "status": status, "phase": if is_over { "cleanup" } else { "data_sync" },
        "source": "node-01", "target": "node-02", "progress_percentage": if is_over { 100 } else { 42 },
        "bytes_transferred": 104_857_600, "estimated_completion": "2026-01-01T00:00:05.500Z",
        "metrics": {"transfer_rate_mbps": 812.4}, "total_ms": is_over.then_some(6789), "prepare_ms": is_over.then_some(420),
        "memory_ms": is_over.then_some(6369), "downtime_ms": is_over.then_some(48.125),
        "downtime_parts": is_over.then(|| serde_json::json!({
            "disk_drain_us": 5125, "memory_drain_us": 20000, "target_load_us": 9000, "verify_us": 4000,
            "release_us": 6000, "resume_us": 4000
        })),
        "rounds": 3, "bytes_guest": 536_870_912, "bytes_wire": 104_857_600, "bytes_disk": 1_073_741_824,
        "compression_ratio": 15.36, "pages_zero": 9, "pages_same": 8, "pages_sent": 7, "pages_known": 5,
        "pages_differing": 4, "pages_packed": 2, "pages_raw": 1, "bytes_wire_memory": 62_914_560,
        "bytes_wire_disks": 41_943_040, "bytes_wire_files": 0, "bytes_link": 106_954_752, "verified": is_over,
        "memory_path": is_over.then_some("pages"), "created_at": "2026-01-01T00:00:00Z",
        "ended_at": is_over.then_some("2026-01-01T00:00:07Z"), "revision": 9, "_links": {}
    }))
    .unwrap()
}

fn event() -> Event {
    serde_json::from_value(serde_json::json!({
        "revision": 57, "sequence": 0, "at": "2026-01-01T00:00:00Z", "kind": "vm.state",
        "actor": {"kind": "api-key", "name": "deployer"},
        "object": {"kind": "vm", "id": "0b8f5a66-8f4c-4a57-9d6e-000000000001"},
        "before": {"state": "running"}, "after": {"state": "stopping"}, "audit": 9,
        "vm": "0b8f5a66-8f4c-4a57-9d6e-000000000001", "node": "node-01", "migration": null, "project": "web",
        "request": null, "message": "machine web-01 is stopping on node-01"
    }))
    .unwrap()
}

#[test]
fn an_event_says_who_caused_it() {
    assert_eq!(
        table(Event::HEADER, [event().row()]),
        "REVISION  AT                        KIND      WHO       NODE     MESSAGE\n\
         57        2026-01-01T00:00:00.000Z  vm.state  deployer  node-01  machine web-01 is stopping on node-01\n"
    );
    assert_eq!(
        super::event::line(&event()),
        "      57  2026-01-01T00:00:00.000Z  vm.state              deployer          machine web-01 is stopping on node-01"
    );
}

#[test]
fn a_record_is_a_line_of_its_own() {
    let entry: AuditEntry = serde_json::from_value(serde_json::json!({
        "number": 9, "at": "2026-01-01T00:00:00Z", "revision": 57, "action": "vm.stop",
        "actor": {"kind": "certificate", "name": "anna", "address": "192.0.2.7"},
        "object": {"kind": "vm", "id": "0b8f5a66-8f4c-4a57-9d6e-000000000001"}, "result": {"kind": "done"}
    }))
    .unwrap();
    assert_eq!(
        super::audit::line(&entry),
        "       9  2026-01-01T00:00:00.000Z  anna              192.0.2.7        vm.stop               \
         0b8f5a66-8f4c-4a57-9d6e-000000000001  done"
    );
}

#[test]
fn a_machine_in_a_list() {
    assert_eq!(
        table(VmView::HEADER, [vm().row()]),
        "NAME    PROJECT  STATE    NODE     CPUS  MEMORY   DISK   LABELS\n\
         web-01  web      running  node-01  1     512 MiB  1 GiB  app=web,tier=1\n"
    );
}

#[test]
fn a_machine_alone() {
    assert_eq!(
        fields(&vm().fields()),
        "name     web-01\n\
         id       0b8f5a66-8f4c-4a57-9d6e-000000000001\n\
         project  web\n\
         state    running\n\
         node     node-01\n\
         cpus     1\n\
         memory   512 MiB\n\
         disks    1 GiB qcow2\n         \
         size of the image raw from debian\n\
         boot     /vmlinuz\n         \
         console=ttyS0\n\
         network  bridge br0\n\
         labels   app=web,tier=1\n\
         created  2026-01-01T00:00:00.000Z\n\
         updated  2026-01-01T00:00:01.000Z\n"
    );
}

#[test]
fn a_machine_names_its_network_beside_the_bridge() {
    let mut vm = vm();
    vm.network_name = Some("office".parse().unwrap());
    let shown = fields(&vm.fields());
    assert!(shown.contains("network  office (bridge br0)\n"), "{shown}");
}

#[test]
fn the_record_of_a_migration_accounts_for_its_downtime() {
    let shown = fields(&migration("completed").fields());
    for line in [
        "status        completed\n",
        "total time    6.8 s\n",
        "downtime      48.1 ms\n",
        "of it            5.1 ms last disk blocks\n",
        "                20.0 ms last memory and devices\n",
        "on the wire   100 MiB\n",
        "of that       memory 60 MiB, disks 40 MiB, files 0 B; 102 MiB with what the protocols add\n",
        "pages         7 sent (4 as differences, 2 compressed, 1 as they are), 5 known, 8 the same, 9 zero\n",
        "compression   15.4 : 1\n",
        "verified      memory and disks are equal\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    for line in ["rate", "phase"] {
        assert!(!shown.contains(line), "a {line} is of no use afterwards:\n{shown}");
    }
    let row = table(MigrationView::HEADER, [migration("completed").row()]);
    assert!(row.contains("completed  -      100 %"), "{row}");
}

#[test]
fn a_record_is_silent_about_what_its_mode_does_not_have() {
    let cold = MigrationView {
        mode: MigrationMode::Cold,
        memory_ms: Some(0),
        downtime_ms: None,
        downtime_parts: None,
        rounds: 0,
        bytes_guest: 0,
        compression_ratio: Some(0.0),
        pages_zero: 0,
        pages_same: 0,
        pages_sent: 0,
        pages_known: 0,
        memory_path: Some(MemoryPath::None),
        ..migration("completed")
    };
    let shown = fields(&cold.fields());
    for name in ["memory ", "rounds", "guest memory", "compression", "pages", "memory path"] {
        assert!(!shown.contains(&format!("\n{name}")), "{name:?} is in\n{shown}");
    }
    assert!(shown.contains("verified     disks are equal\n"), "{shown}");
}

#[test]
fn a_migration_that_did_not_come_to_its_end_says_how_long_it_took_too() {
    for status in ["failed", "cancelled"] {
        let ended = MigrationView { total_ms: None, ..migration(status) };
        let shown = fields(&ended.fields());
        assert!(shown.contains("total time    7.0 s\n"), "{shown}");
        assert!(table(MigrationView::HEADER, [ended.row()]).contains("7.0 s"));
    }
    let runs = fields(&migration("in_progress").fields());
    assert!(runs.contains("phase         data_sync\n") && !runs.contains("total"), "{runs}");
}

#[test]
fn progress_says_phase_round_bytes_rate_and_when_it_ends() {
    let now = Timestamp::from_unix_ms(1_767_225_602_000);
    assert_eq!(
        progress_line(&migration("in_progress"), now),
        "web-01: 42 %, data_sync, round 3, 100 MiB, 812 Mbit/s, ETA 3.5 s"
    );
    assert_eq!(
        progress_line(&migration("completed"), now),
        "web-01: 100 %, completed in 6.8 s, downtime 48.1 ms"
    );
    let hopeless = MigrationView {
        convergence: Some(Convergence::NotConverging),
        dirty_bytes_per_second: Some(200_000_000),
        estimated_completion: None,
        ..migration("in_progress")
    };
    assert_eq!(
        progress_line(&hopeless, now),
        "web-01: 42 %, data_sync, round 3, 100 MiB, 812 Mbit/s, the guest writes 200.0 MB/s, faster than can be \
         sent: no end in sight"
    );
    let mut failed = migration("failed");
    failed.reason = "the target ran out of disk".into();
    assert!(progress_line(&failed, now).ends_with("failed: the target ran out of disk"));
}

#[test]
fn a_node_shows_what_is_in_use() {
    let node: NodeView = serde_json::from_value(serde_json::json!({
        "name": "node-01", "state": "ready", "scheduling": "active",
        "capacity": {"memory_bytes": 8_589_934_592_u64, "cpus": 8, "disk_bytes": 107_374_182_400_u64},
        "allocated": {"memory_bytes": 536_870_912, "cpus": 1, "disk_bytes": 1_073_741_824}, "machines": 1,
        "labels": {}, "migration_address": "10.0.0.1:7410", "agent_version": "0.1.0", "qemu_version": "10.0.2",
        "accelerator": "tcg", "accelerator_reason": "no /dev/kvm", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "revision": 1, "_links": {}
    }))
    .unwrap();
    assert!(fields(&node.fields()).contains("cpus           1 of 8 in use\n"));
    let mut shared = node.clone();
    shared.allocated.cpus = 9;
    let shown = fields(&shared.fields());
    assert!(shown.contains("9 of 8 in use, which the machines share\n"), "{shown}");
    assert_eq!(
        table(NodeView::HEADER, [node.row()]),
        "NAME     STATE  SCHEDULING  REGION  VMS  CPUS  MEMORY         DISK           ACCEL  QEMU    LABELS\n\
         node-01  ready  active      -       1    1/8   512 MiB/8 GiB  1 GiB/100 GiB  tcg    10.0.2\n"
    );
}

#[test]
fn a_region_says_where_its_machines_may_go() {
    let region = |rules: serde_json::Value| -> RegionView {
        serde_json::from_value(serde_json::json!({
            "region_code": "eu", "region_name": "Frankfurt", "compliance_certifications": ["SOC2", "ISO-27001"],
            "data_residency_rules": rules, "status": "active", "nodes": 2, "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z", "revision": 1, "_links": {}
        }))
        .unwrap()
    };
    let rows = [
        serde_json::json!({}),
        serde_json::json!({"may_leave_to": []}),
        serde_json::json!({"may_leave_to": ["us", "ch"]}),
    ];
    assert_eq!(
        table(RegionView::HEADER, rows.map(|rules| region(rules).row())),
        "CODE  STATUS  NODES  MAY LEAVE TO  CERTIFICATIONS  NAME\n\
         eu    active  2      any           ISO-27001,SOC2  Frankfurt\n\
         eu    active  2      none          ISO-27001,SOC2  Frankfurt\n\
         eu    active  2      ch,us         ISO-27001,SOC2  Frankfurt\n"
    );
}
