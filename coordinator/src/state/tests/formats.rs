//! The active version: what is newer is refused, and it goes up when all members understand more.

use std::collections::BTreeSet;

use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::api::Code;
use novacron_protocol::ids::{BindingId, MemberId, RegionCode};
use novacron_protocol::network::NetworkUsers;
use novacron_protocol::project::Quotas;
use novacron_protocol::region::ResidencyRules;
use novacron_protocol::vm::{Network, VmSpec};

use crate::state::backup::BackupLog;
use crate::state::binding::{NewBinding, Right};
use crate::state::formats::{FIRST, FormatVersion, Formats, NEWEST, OLDEST, SECRETS};
use crate::state::member::MemberFacts;
use crate::state::network::NetworkOrder;
use crate::state::principal::AccessOrder;
use crate::state::region::{RegionEdit, RegionOrder};
use crate::state::secret::SecretOrder;
use crate::state::secret::keys::SecretKeyId;
use crate::state::testing::{Scene, member_facts, spec_in};
use crate::state::{Accepted, Body, Fleet, Refusal};

const OLD: Formats = Formats { oldest: FIRST, newest: FIRST };

fn facts(name: &str, formats: Formats) -> MemberFacts {
    MemberFacts { formats, ..member_facts(name) }
}

fn announce() -> Body {
    Body::Secrets(SecretOrder::Announce { key: SecretKeyId([1; 8]) })
}

/// A cluster of two members of the release before.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let (cluster, operator) =
        (novacron_protocol::ids::ClusterId(scene.id()), "admin".parse().unwrap());
    let member = facts("c1", OLD);
    scene.apply(Body::FoundCluster { cluster, member, operator }).unwrap();
    admit(&mut scene, "c2", OLD).unwrap();
    scene
}

fn admit(scene: &mut Scene, name: &str, formats: Formats) -> Result<MemberId, Refusal> {
    match scene.apply(Body::AdmitMember(facts(name, formats)))? {
        Accepted::Member(member) => scene.apply(Body::EnterMember { member }).map(|_| member),
        other => panic!("{other:?}"),
    }
}

fn note(scene: &mut Scene, said: &[(u64, Formats)]) -> Result<Accepted, Refusal> {
    let said = said.iter().map(|(member, formats)| (MemberId(*member), *formats));
    scene.apply(Body::NoteFormats(said.collect()))
}

/// A program that knows none of the permissions of a pattern cannot read the binding, and would end at it.
#[test]
fn permissions_that_are_newer_are_bound_when_all_members_know_them() {
    let mut scene = scene();
    let bind = |scene: &mut Scene, pattern: &str| {
        let binding = NewBinding {
            id: BindingId(scene.id()),
            principal: "admin".parse().unwrap(),
            right: Right::Permissions(pattern.parse().unwrap()),
            scope: Scope::Fleet,
            effect: BindingEffect::Allow,
        };
        scene.apply(Body::Access(AccessOrder::Bind(binding)))
    };
    for newer in ["secret.*", "secret.reveal", "alert.read", "alert.*", "network.*"] {
        assert_eq!(bind(&mut scene, newer).unwrap_err().code(), Code::UpgradeNeeded, "{newer}");
    }
    for known in ["*", "vm.*", "node.read"] {
        bind(&mut scene, known).unwrap();
    }
    note(&mut scene, &[(1, Formats::default()), (2, Formats::default())]).unwrap();
    bind(&mut scene, "secret.*").unwrap();
}

/// What a member of the release before cannot read is not written before.
#[test]
fn backups_are_remembered_from_the_upgrade_on() {
    let mut scene = scene();
    assert_eq!(scene.fleet.backups(), None);
    assert_eq!(scene.apply(Body::TakeBackup).unwrap_err().code(), Code::UpgradeNeeded);
    let since = scene.now;
    note(&mut scene, &[(1, Formats::default()), (2, Formats::default())]).unwrap();
    assert_eq!(scene.fleet.backups(), Some(BackupLog { since, begun_at: None }));
    scene.now = scene.now.plus_ms(5_000);
    assert_eq!(scene.fleet.backups().unwrap().age_ms(scene.now), 5_000);
    scene.apply(Body::TakeBackup).unwrap();
    let begun_at = Some(scene.now);
    assert_eq!(scene.fleet.backups(), Some(BackupLog { since, begun_at }));
    assert_eq!(scene.fleet.backups().unwrap().age_ms(scene.now.plus_ms(7)), 7);
    scene.fleet.check().unwrap();
}

#[test]
fn what_is_newer_is_refused_until_all_members_understand_it() {
    let (new, mut scene) = (Formats::default(), scene());
    assert_eq!(scene.fleet.formats(), FIRST);
    let refused = scene.apply(announce()).unwrap_err();
    let wanted =
        Refusal::UpgradeNeeded { needed: SECRETS, active: FIRST, behind: Some("c1".into()) };
    assert_eq!((refused.code(), &refused), (Code::UpgradeNeeded, &wanted));
    assert!(refused.to_string().ends_with("`c1` is not yet"), "{refused}");
    // One at a time, in any order, and back again.
    note(&mut scene, &[(1, new), (2, OLD)]).unwrap();
    note(&mut scene, &[(1, OLD), (2, new)]).unwrap();
    assert_eq!(scene.fleet.formats(), FIRST);
    // What was said of one is not what it says now.
    assert_eq!(note(&mut scene, &[(1, new)]).unwrap_err().code(), Code::Conflict);
    note(&mut scene, &[(1, new), (2, new)]).unwrap();
    assert_eq!(scene.fleet.formats(), NEWEST);
    scene.apply(announce()).unwrap();
}

/// A log of the release before says of a bridge by its name what it said then.
#[test]
fn until_then_there_are_no_networks_and_bridges_are_as_they_were() {
    let (new, mut scene) = (Formats::default(), scene());
    let project = scene.make_project("bank", Quotas::default());
    let tenant = scene.operator("tenant");
    let (right, scope) = (Right::Role(AccessRole::Operator), Scope::Project(project.clone()));
    scene.bind(&tenant, right, scope, BindingEffect::Allow).unwrap();
    let by_name = |scene: &mut Scene, name: &str| {
        let network = Network::Bridge { bridge: "br0".to_owned() };
        let spec = VmSpec { network, ..spec_in(&project, name) };
        scene.create_body(spec, None, true)
    };
    let make = || {
        Body::Networks(NetworkOrder::Create {
            network: "office".parse().unwrap(),
            description: String::new(),
            bridge: "br0".to_owned(),
            users: NetworkUsers::All,
            regions: BTreeSet::new(),
        })
    };
    let inside = scene.create_in_body(spec_in(&project, "inside"), "office", None);
    for body in [make(), inside.clone()] {
        assert_eq!(scene.apply(body).unwrap_err().code(), Code::UpgradeNeeded);
    }
    let body = by_name(&mut scene, "before");
    scene.ask(&tenant, body).unwrap();
    note(&mut scene, &[(1, new), (2, new)]).unwrap();
    let body = by_name(&mut scene, "after");
    assert_eq!(scene.ask(&tenant, body).unwrap_err().code(), Code::NotAllowed);
    for body in [make(), inside] {
        scene.apply(body).unwrap();
    }
}

#[test]
fn until_then_nobody_says_how_far_regions_are() {
    let (new, mut scene) = (Formats::default(), scene());
    let codes = ["eu", "us"].map(|code| code.parse::<RegionCode>().unwrap());
    for region in codes.clone() {
        let (name, certifications) = (String::new(), BTreeSet::new());
        let rules = ResidencyRules::default();
        let create = RegionOrder::Create { region, name, certifications, rules };
        scene.apply(Body::Regions(create)).unwrap();
    }
    let [region, other] = codes;
    let (edit, latencies_ms) = (RegionEdit::default(), [(other, 7)].into());
    let order = RegionOrder::ChangeWithLatencies { region, edit, latencies_ms };
    let refused = scene.apply(Body::Regions(order.clone())).unwrap_err();
    assert_eq!(refused.code(), Code::UpgradeNeeded);
    note(&mut scene, &[(1, new), (2, new)]).unwrap();
    scene.apply(Body::Regions(order)).unwrap();
}

#[test]
fn who_is_too_old_or_too_new_is_not_let_in_and_told_what_to_do() {
    let (new, mut scene) = (Formats::default(), scene());
    let far = Formats { oldest: FormatVersion(NEWEST.0 + 1), newest: FormatVersion(NEWEST.0 + 2) };
    let refused = admit(&mut scene, "c3", far).unwrap_err();
    assert!(refused.to_string().contains("a release in between"), "{refused}");
    let member = match scene.apply(Body::AdmitMember(facts("c4", OLD))) {
        Ok(Accepted::Member(member)) => member,
        other => panic!("{other:?}"),
    };
    note(&mut scene, &[(1, new), (2, new)]).unwrap();
    // Admitted before, but not taking part yet.
    let refused = scene.apply(Body::EnterMember { member }).unwrap_err();
    assert_eq!(refused.code(), Code::UpgradeNeeded);
    assert!(refused.to_string().contains("that its other members have"), "{refused}");
    assert!(admit(&mut scene, "c5", OLD).is_err());
    admit(&mut scene, "c6", new).unwrap();
}

#[test]
fn a_snapshot_says_the_version_that_it_needs() {
    let mut scene = scene();
    let version = |fleet: &Fleet| fleet.to_snapshot().unwrap()[8..12].to_vec();
    assert_eq!(version(&scene.fleet), u32::from(FIRST.0).to_le_bytes());
    note(&mut scene, &[(1, Formats::default()), (2, Formats::default())]).unwrap();
    let mut bytes = scene.fleet.to_snapshot().unwrap();
    assert_eq!(version(&scene.fleet), u32::from(NEWEST.0).to_le_bytes());
    assert_eq!(Fleet::from_snapshot(&bytes).unwrap().formats(), NEWEST);
    for unknown in [OLDEST.0 - 1, NEWEST.0 + 1] {
        bytes[8..12].copy_from_slice(&u32::from(unknown).to_le_bytes());
        let refused = Fleet::from_snapshot(&bytes).unwrap_err().to_string();
        assert!(refused.contains(&format!("version {unknown} ")), "{refused}");
    }
}

#[test]
fn a_command_has_the_version_that_it_needs() {
    use novacron_protocol::wire::codec;
    let mut scene = Scene::new();
    scene.found();
    scene.apply(announce()).unwrap();
    let versions = scene.log.iter().map(|(_, command)| codec::encode(command).unwrap()[0]);
    assert_eq!(versions.collect::<Vec<_>>(), [FIRST.0 as u8, SECRETS.0 as u8]);
}
