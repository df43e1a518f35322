//! Alerts as the API shows them.

use novacron_protocol::alert::AlertObject;
use novacron_protocol::api::{AlertDeed, AlertView};

use super::resource::links;
use crate::state::alert::{Alert, Deed, Stage};

/// An alert as the API shows it.
pub fn alert_view(alert: &Alert) -> AlertView {
    let (acknowledgement, resolution) = match &alert.stage {
        Stage::Firing => (None, None),
        Stage::Acknowledged(deed) => (Some(deed), None),
        Stage::Resolved { resolution, acknowledgement } => {
            (acknowledgement.as_ref(), Some(resolution))
        }
    };
    AlertView {
        id: alert.id,
        key: alert.key.to_string(),
        kind: alert.key.kind.to_string(),
        object: alert.key.object.to_string(),
        severity: alert.severity,
        state: alert.stage.state(),
        summary: alert.summary.clone(),
        project: alert.project.clone(),
        region: alert.region.clone(),
        raised_by: by(alert.raised_by.as_ref()),
        since: alert.since,
        last_raised_at: alert.last_raised_at,
        raises: alert.raises,
        acknowledged: acknowledgement.map(deed_view),
        resolved: resolution.map(deed_view),
        previous: alert.previous,
        revision: alert.revision,
        links: links(&[
            ("self", format!("/alerts/{}", alert.id)),
            ("object", object_path(&alert.key.object)),
        ]),
    }
}

fn deed_view(deed: &Deed) -> AlertDeed {
    AlertDeed { by: by(deed.by.as_ref()), at: deed.at, note: deed.note.clone() }
}

fn by(name: Option<&novacron_transport::SubjectName>) -> String {
    name.map_or("cluster", |name| name.as_str()).to_owned()
}

fn object_path(object: &AlertObject) -> String {
    match object {
        AlertObject::Cluster | AlertObject::Member(_) => "/cluster".to_owned(),
        AlertObject::Region(region) => format!("/regions/{region}"),
        AlertObject::Node(node) => format!("/nodes/{node}"),
        AlertObject::Project(project) => format!("/projects/{project}"),
        AlertObject::Vm(vm) => format!("/vms/{vm}"),
        AlertObject::Migration(migration) => format!("/migrations/{migration}"),
    }
}
