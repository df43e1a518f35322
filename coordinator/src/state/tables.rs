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
        }
    };
}

pub(super) use for_each_table;
