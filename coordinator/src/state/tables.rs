//! The one list of the fleet's tables: the fleet's fields, its rows on disk and in snapshots, and their numbers are
//! made from it.

/// Gives the list to another macro: number on disk, variant of `TableName`, field of `Fleet`, key, row. A number is
/// never used again, since rows on disk and in snapshots begin with it.
macro_rules! for_each_table {
    ($apply:ident) => {
        $apply! {
            /// Machines.
            1 Vms vms (VmId => Vm),
            /// Nodes.
            2 Nodes nodes (NodeName => Node),
            /// Migrations.
            3 Migrations migrations (MigrationId => Migration),
            /// Effects that are not done.
            4 Outbox outbox (EffectId => OutboxRow),
            /// What happened.
            5 Events events (EventKey => EventRow),
            /// Coordinators.
            6 Members members (MemberId => MemberRecord),
            /// Join tokens.
            7 Tokens tokens (TokenId => Token),
            /// Answers to clients' requests.
            8 Requests requests (RequestId => Answered),
            /// Migrations that were asked for together.
            9 Batches batches (BatchId => Batch),
            /// Nodes that are to be drained.
            10 Drains drains (NodeName => Drain),
            /// History that left the tables.
            11 Archives archives (ArchiveName => ArchiveRow),
            /// Who changed what: the newest part.
            12 Audit audit (AuditNumber => AuditRow),
            /// Where hosts stand.
            13 Regions regions (RegionCode => Region),
            /// Machines that stand against a rule of residency.
            14 ResidencyViolations residency_violations (VmId => Violation),
            /// How disks of machines were.
            15 Snapshots snapshots (SnapshotId => Snapshot),
            /// Bridges under one name.
            16 Networks networks (NetworkName => Network),
            /// Machines that are in networks.
            17 Attachments attachments (VmId => Attachment),
            /// How far regions are from each other.
            18 RegionLatencies region_latencies (RegionCode => Latencies),
            /// Whose machines are whose.
            20 Projects projects (ProjectName => Project),
            /// Who may ask for anything.
            21 Principals principals (SubjectName => Principal),
            /// Who may, or may not, do what.
            22 Bindings bindings (BindingId => Binding),
            /// What programs show instead of certificates.
            23 ApiKeys api_keys (ApiKeyId => ApiKey),
            /// What is kept beside machines.
            24 Annotations annotations (AnnotationKey => Annotation),
            /// What is kept encrypted.
            25 Secrets secrets (SecretPlace => Secret),
            /// The keys that it is encrypted with: one row.
            26 SecretKeys secret_keys (Only => SecretKeys),
            /// What somebody has to look at.
            27 Alerts alerts (AlertId => Alert),
            /// How much projects may cost.
            28 Budgets budgets (ProjectName => Budget),
            /// What is remembered of backups: one row.
            29 Backups backups (Only => BackupLog),
            /// The ledger's own numbers: one row.
            30 LedgerBook ledger_book (Only => Book),
            /// Entries of windows that are not sealed.
            31 LedgerBatches ledger_batches (BatchKey => EntryBatch),
            /// What was posted for whom.
            32 LedgerAccounts ledger_accounts (AccountKey => Account),
            /// Headers of sealed windows.
            33 LedgerWindows ledger_windows (Hour => WindowHeader),
            /// Seconds in sealed windows.
            34 LedgerCovered ledger_covered (VmId => Covered),
            /// Machines that are gone and whose usage may still come.
            35 LedgerSubjects ledger_subjects (VmId => Subject),
            /// Entries that were corrected.
            36 LedgerCorrected ledger_corrected (EntryId => Corrected),
            /// What plans cost.
            37 LedgerRates ledger_rates (RateKey => RateCard),
            /// Which plans projects have.
            38 LedgerPlans ledger_plans (ProjectName => PlanHistory),
        }
    };
}

pub(super) use for_each_table;
