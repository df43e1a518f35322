//! The coordinators and their tokens.

use novacron_protocol::api::{ClusterStatus, ClusterView, MemberReport, MemberStatus, TokenView};
use novacron_protocol::backup::BackupHead;
use novacron_protocol::size::display_size;

use super::text::{or_dash, or_nothing, table, word};
use super::{Fields, Show};

impl Show for ClusterView {
    fn fields(&self) -> Fields {
        let header = ["ID", "NAME", "ROLE", "MEMBERS AND AGENTS", "API"];
        let members = self.members.iter().map(|member| {
            vec![
                member.id.to_string(),
                member.name.clone(),
                word(&member.role),
                member.peer_address.clone(),
                member.api_address.clone(),
            ]
        });
        vec![
            ("cluster", self.cluster.to_string()),
            ("leader", or_dash(self.leader)),
            ("revision", self.revision.to_string()),
            ("members", table(&header, members).trim_end().to_owned()),
            ("migrations", format!("{} at once per node", self.settings.migrations_per_node)),
        ]
    }
}

impl Show for ClusterStatus {
    fn fields(&self) -> Fields {
        let header = [
            "ID",
            "NAME",
            "ROLE",
            "REACHABLE",
            "BEHIND",
            "LOG",
            "SNAPSHOT",
            "ARCHIVE",
            "DISK FREE",
            "VERSION",
            "FORMATS",
        ];
        let members = table(&header, self.members.iter().map(member_row));
        let problems = self.members.iter().flat_map(|status| {
            let alerts = status.report.iter().flat_map(|report| &report.alerts);
            let problems = status.problem.iter().chain(alerts);
            problems.map(|problem| format!("{}: {problem}", status.member.name))
        });
        vec![
            ("cluster", self.cluster.to_string()),
            ("life", self.incarnation.to_string()),
            ("formats", self.formats.to_string()),
            ("leader", or_dash(self.leader)),
            ("may lose one", if self.tolerates_a_loss { "yes" } else { "no" }.to_owned()),
            ("members", members.trim_end().to_owned()),
            ("problems", problems.collect::<Vec<_>>().join("\n")),
        ]
    }
}

fn member_row(status: &MemberStatus) -> Vec<String> {
    let MemberStatus { member, reachable, lag_entries, report, .. } = status;
    let said = |what: fn(&MemberReport) -> String| or_dash(report.as_ref().map(what));
    vec![
        member.id.to_string(),
        member.name.clone(),
        word(&member.role),
        if *reachable { "yes" } else { "no" }.to_owned(),
        or_dash(*lag_entries),
        said(|report| report.log_last.to_string()),
        said(|report| report.snapshot.to_string()),
        said(|report| match (report.archive_missing, report.archive_wanted) {
            (0, _) => "whole".to_owned(),
            // All others were asked in vain.
            (missing, Some(0)) => format!("{missing} lost"),
            (missing, _) => format!("{missing} missing"),
        }),
        said(|report| report.disk_free_bytes.map_or("-".to_owned(), display_size)),
        said(|report| report.version.clone()),
        said(|report| format!("{} to {}", report.formats_oldest, report.formats_newest)),
    ]
}

impl Show for BackupHead {
    fn fields(&self) -> Fields {
        vec![
            ("cluster", self.cluster.to_string()),
            ("revision", self.revision.to_string()),
            ("at", self.at.to_string()),
            ("machines", self.machines.to_string()),
            ("archived files", self.archived_files.to_string()),
        ]
    }
}

impl Show for TokenView {
    fn fields(&self) -> Fields {
        vec![
            ("token", self.token.clone()),
            ("role", self.role.clone()),
            ("name", or_nothing(self.name.as_ref())),
            ("expires", self.expires_at.to_string()),
            ("coordinators", self.coordinators.join("\n")),
        ]
    }
}
