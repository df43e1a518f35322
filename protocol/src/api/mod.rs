//! The JSON that the world sees under `/api/v1`. One file per resource.
//!
//! Names of fields are a public contract. Bytes are bytes, moments are RFC 3339, and a resource carries `_links`.

mod alert;
mod annotation;
mod audit;
mod batch;
mod event;
mod findings;
mod member;
mod metric;
mod migration;
mod network;
mod node;
mod overview;
mod principal;
mod problem;
mod project;
mod region;
mod secret;
mod snapshot;
mod token;
mod usage;
mod validation;
mod vm;

pub use alert::{
    AlertDeed, AlertNote, AlertRaise, AlertState, AlertStateFilter, AlertTotals, AlertView,
    BudgetChange,
};
pub use annotation::{AnnotationView, AnnotationWrite};
pub use audit::{AuditActor, AuditEntry, AuditObject, AuditResult, AuditTimes, AuditVerdict};
pub use batch::{BatchCounts, BatchCreate, BatchItemStatus, BatchItemView, BatchStatus, BatchView};
pub use event::{Event, EventActor, EventKind, EventPage};
pub use findings::{FINDINGS_MAX, FieldCode, Findings, Validate, WrongField};
pub use member::{
    ClusterSettings, ClusterStatus, ClusterView, MemberReport, MemberRole, MemberStatus,
    MemberView, SettingsChange,
};
pub use metric::{
    METRIC_POINTS_MAX, MetricHistory, MetricList, MetricPoint, MetricSeries, MetricView,
};
pub use migration::{MigrationMetrics, MigrationView};
pub use network::{NetworkChange, NetworkChoice, NetworkCreate, NetworkView};
pub use node::{DrainMachineStatus, DrainMachineView, DrainView, NodeDrain, NodeUndrain, NodeView};
pub use overview::{
    Attention, AttentionKind, MachineTotals, MigrationTotals, MonthCost, NodeTotals, Overview,
    QuotaUse, RegionTotals, Saving, SavingRule, Severity,
};
pub use principal::{
    ApiKeyCreate, ApiKeyMade, ApiKeyView, BindingCreate, BindingView, CredentialKind,
    PrincipalChange, PrincipalCreate, PrincipalKind, PrincipalState, PrincipalView,
    ProjectPermissions, WhoamiView,
};
pub use problem::{Code, MEDIA_TYPE as PROBLEM_MEDIA_TYPE, Problem};
pub use project::{ProjectChange, ProjectCreate, ProjectView, QuotaChange};
pub use region::{
    NodeRegionChange, RegionChange, RegionCreate, RegionRoute, RegionView, ResidencyViolationView,
    RouteChoice,
};
pub use secret::{KeyTurn, SecretKeysView, SecretRevealed, SecretView, SecretWrite};
pub use snapshot::{SnapshotCreate, SnapshotState, SnapshotView};
pub use token::{TokenCreate, TokenView};
pub use usage::{
    Allocation, CorrectionPost, CorrectionView, EntryKind, EntryPlace, EntryView, Invoice,
    InvoiceLine, InvoiceStatus, LedgerVerdict, PlanChange, PriceView, PricesView, ProjectTotal,
    RateCardView, RatesView, USAGE_POINTS_MAX, UsagePoint, UsagePost, UsagePosted, UsageRow,
    UsageSeries, UsageStep, Whole, WindowFile, WindowSum, WindowView,
};
pub use vm::{VmCreate, VmDisk, VmMigrate, VmStop, VmView};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Links of a resource: relation to path.
pub type Links = BTreeMap<String, String>;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
    /// The revision of the fleet at which the list was read: watch from here and nothing is missed.
    pub revision: u64,
}
