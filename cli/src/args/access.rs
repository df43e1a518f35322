//! `novacron project`, `principal`, `role` and `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use novacron_protocol::access::{AccessRole, BindingEffect};
use novacron_protocol::api::{self, PrincipalKind};
use novacron_protocol::ids::{ApiKeyId, BindingId, RegionCode};
use novacron_protocol::project::Quotas;
use novacron_protocol::region::{Certification, Residency};

use super::values::{
    All, Limit, parse_all, parse_api_key, parse_binding, parse_budget, parse_days, parse_label,
    parse_limit, parse_role, parse_size_limit,
};

/// Projects: whose machines are whose, and how much they may take.
#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Lists projects.
    List,
    /// Shows a project and what it takes.
    Show {
        /// The project.
        project: String,
    },
    /// Makes a project.
    Create(ProjectCreate),
    /// Changes a project; machines above a lowered quota go on.
    Set(ProjectSet),
    /// Says how much a project may cost in a calendar month (UTC) before an alert says so; nothing is stopped.
    Budget {
        /// The project.
        project: String,
        /// Dollars, such as 100 or 99.50, or `none`.
        #[arg(value_parser = parse_budget)]
        amount: Limit,
    },
    /// Has a project make, start and move nothing; what runs goes on.
    Suspend {
        /// The project.
        project: String,
    },
    /// Lets a suspended project go on.
    Resume {
        /// The project.
        project: String,
    },
    /// Deletes a project that has no machines.
    Delete {
        /// The project.
        project: String,
    },
}

/// How much a project may take.
#[derive(Debug, Clone, Copy, Args)]
pub struct QuotaArgs {
    /// Machines, or `none` for no limit.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    pub vms: Option<Limit>,
    /// Virtual CPUs of its machines, or `none`.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    pub cpus: Option<Limit>,
    /// Memory of its machines, or `none`.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit)]
    pub memory: Option<Limit>,
    /// Disks of its machines, or `none`.
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit)]
    pub disk: Option<Limit>,
    /// Migrations that wait or are under way, or `none`.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    pub migrations: Option<Limit>,
    /// Snapshots of its machines, or `none`.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    pub snapshots: Option<Limit>,
}

impl QuotaArgs {
    fn quotas(&self) -> Quotas {
        let of = |limit: Option<Limit>| limit.and_then(|limit| limit.0);
        Quotas {
            vms: of(self.vms),
            cpus: of(self.cpus),
            memory_bytes: of(self.memory),
            disk_bytes: of(self.disk),
            migrations: of(self.migrations),
            snapshots: of(self.snapshots),
        }
    }

    fn change(&self) -> api::QuotaChange {
        let of = |limit: Option<Limit>| limit.map(|limit| limit.0);
        api::QuotaChange {
            vms: of(self.vms),
            cpus: of(self.cpus),
            memory_bytes: of(self.memory),
            disk_bytes: of(self.disk),
            migrations: of(self.migrations),
            snapshots: of(self.snapshots),
        }
    }
}

/// Where machines of a project may stand.
#[derive(Debug, Clone, Args)]
pub struct ResidencyArgs {
    /// Regions in which its machines must stand, such as eu-1,eu-2, or `none` for anywhere.
    #[arg(long, value_name = "REGIONS", value_parser = parse_all::<RegionCode>)]
    pub regions: Option<All<RegionCode>>,
    /// Certifications that a region must have for its machines, such as ISO-27001, or `none`.
    #[arg(long, value_name = "NAMES", value_parser = parse_all::<Certification>)]
    pub certifications: Option<All<Certification>>,
}

impl ResidencyArgs {
    /// What is said, on top of what holds.
    fn over(&self, mut residency: Residency) -> Residency {
        if let Some(All(regions)) = &self.regions {
            residency.regions.clone_from(regions);
        }
        if let Some(All(certifications)) = &self.certifications {
            residency.certifications.clone_from(certifications);
        }
        residency
    }

    /// Whether anything is said.
    pub fn is_said(&self) -> bool {
        self.regions.is_some() || self.certifications.is_some()
    }
}

/// A project to make.
#[derive(Debug, Args)]
pub struct ProjectCreate {
    /// Name: lower-case letters, digits and `-`.
    pub name: String,
    /// What it is called for people.
    #[arg(long, value_name = "TEXT")]
    pub display_name: Option<String>,
    /// How much it may take.
    #[command(flatten)]
    pub quotas: QuotaArgs,
    /// A label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Where its machines may stand.
    #[command(flatten)]
    pub residency: ResidencyArgs,
}

impl ProjectCreate {
    /// The API's request.
    pub fn request(&self) -> api::ProjectCreate {
        api::ProjectCreate {
            name: self.name.clone(),
            display_name: self.display_name.clone().unwrap_or_default(),
            quotas: self.quotas.quotas(),
            labels: self.labels.iter().cloned().collect(),
            residency: self.residency.over(Residency::default()),
        }
    }
}

/// What to change of a project.
#[derive(Debug, Args)]
pub struct ProjectSet {
    /// The project.
    pub project: String,
    /// What it is called for people.
    #[arg(long, value_name = "TEXT")]
    pub display_name: Option<String>,
    /// How much it may take.
    #[command(flatten)]
    pub quotas: QuotaArgs,
    /// A label, instead of all that it has; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Where its machines may stand.
    #[command(flatten)]
    pub residency: ResidencyArgs,
}

impl ProjectSet {
    /// The API's request; `residency` is what holds now, if anything of it shall change.
    pub fn request(&self, residency: Option<Residency>) -> api::ProjectChange {
        api::ProjectChange {
            display_name: self.display_name.clone(),
            state: None,
            quotas: self.quotas.change(),
            labels: (!self.labels.is_empty()).then(|| self.labels.iter().cloned().collect()),
            residency: residency.map(|residency| self.residency.over(residency)),
        }
    }
}

/// Principals: operators and service accounts.
#[derive(Debug, Subcommand)]
pub enum PrincipalCommand {
    /// Lists principals.
    List,
    /// Shows a principal.
    Show {
        /// The principal.
        principal: String,
    },
    /// Makes a principal, which may do nothing until `novacron role bind`.
    Create {
        /// Its name; of an operator also the name in its certificate.
        name: String,
        /// What it is.
        #[arg(long, value_enum, default_value_t = Kind::Service)]
        kind: Kind,
        /// What it is called for people.
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
    },
    /// Takes all rights from a principal until `enable`.
    Disable {
        /// The principal.
        principal: String,
    },
    /// Gives a disabled principal its rights back.
    Enable {
        /// The principal.
        principal: String,
    },
    /// Deletes a principal, its bindings and its API keys.
    Delete {
        /// The principal.
        principal: String,
    },
}

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A person with a client certificate.
    Operator,
    /// A program with API keys.
    Service,
}

impl From<Kind> for PrincipalKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Operator => Self::Operator,
            Kind::Service => Self::Service,
        }
    }
}

/// Who may, or may not, do what.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Lists who may, or may not, do what.
    List {
        /// Only what this principal holds.
        #[arg(long)]
        principal: Option<String>,
    },
    /// Gives a principal a role or permissions, on the whole fleet or on one project.
    Bind(Bind),
    /// Denies a principal a role or permissions, whatever else it holds.
    Deny(Bind),
    /// Takes back what `bind` or `deny` said.
    Unbind {
        /// Its id, as `role list` shows it.
        #[arg(value_parser = parse_binding)]
        binding: BindingId,
    },
    /// Shows the roles and the permissions that they are made of.
    Words,
}

/// A binding.
#[derive(Debug, Args)]
pub struct Bind {
    /// The principal.
    pub principal: String,
    /// The role: viewer, operator, admin, auditor or billing.
    #[arg(long, value_parser = parse_role, required_unless_present = "permission", conflicts_with = "permission")]
    pub role: Option<AccessRole>,
    /// Permissions, such as vm.migrate or vm.*.
    #[arg(long)]
    pub permission: Option<String>,
    /// The project [default: the whole fleet].
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

impl Bind {
    /// The API's request.
    pub fn request(&self, effect: BindingEffect) -> api::BindingCreate {
        api::BindingCreate {
            principal: self.principal.clone(),
            role: self.role,
            permission: self.permission.clone(),
            project: self.project.clone(),
            effect,
        }
    }
}

/// API keys: what programs show instead of a certificate.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Lists API keys, without their secrets.
    List {
        /// Only those of this principal.
        #[arg(long)]
        principal: Option<String>,
    },
    /// Makes an API key. It is shown once.
    Create(KeyCreate),
    /// Makes an API key worth nothing.
    Revoke {
        /// Its id, as `key list` shows it.
        #[arg(value_parser = parse_api_key)]
        key: ApiKeyId,
    },
}

/// An API key to make.
#[derive(Debug, Args)]
pub struct KeyCreate {
    /// The principal that it speaks for.
    pub principal: String,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub name: String,
    /// Days until it expires, 1 to 366.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = parse_days)]
    pub days: u64,
    /// Write the key into this file, which must not exist, instead of showing it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl KeyCreate {
    /// The API's request.
    pub fn request(&self) -> api::ApiKeyCreate {
        api::ApiKeyCreate {
            principal: self.principal.clone(),
            name: self.name.clone(),
            ttl_seconds: Some(self.days * 86_400),
        }
    }
}
