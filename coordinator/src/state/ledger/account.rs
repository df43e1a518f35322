//! Accounts: one for each owner and meter. An entry debits one and credits the other by the same quantity, so for each
//! meter all debits are all credits, always.

use novacron_protocol::ids::{NodeName, ProjectName};
use novacron_protocol::usage::Meter;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use crate::state::fleet::Fleet;
use crate::state::table::{Key, ROW_BYTES_MAX};

/// Whose account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A project, which uses.
    Project(ProjectName),
    /// A node, which provides.
    Node(NodeName),
}

/// Which account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountKey {
    /// Whose.
    pub owner: Owner,
    /// Of what.
    pub meter: Meter,
}

/// What was ever posted to an account, in the meter's unit. At most 2⁶⁴ entries of less than 2⁷⁶ each would be more
/// than a `u128` holds, but take longer than the machine lasts that counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Used by a project, or taken back from a node.
    pub debits: u128,
    /// Provided by a node, or taken back from a project.
    pub credits: u128,
}

impl Message for Account {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "account row";
}

impl Key for AccountKey {
    fn encode(&self) -> Vec<u8> {
        let (kind, name) = match &self.owner {
            Owner::Project(name) => (0, name.as_str()),
            Owner::Node(name) => (1, name.as_str()),
        };
        // Names hold no byte 0, so names order as their bytes do.
        [&[kind], name.as_bytes(), &[0, self.meter.number()]].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (name, end) = rest.split_at_checked(rest.len().checked_sub(2)?)?;
        let name = std::str::from_utf8(name).ok()?;
        let owner = match kind {
            0 => Owner::Project(name.parse().ok()?),
            1 => Owner::Node(name.parse().ok()?),
            _ => return None,
        };
        let meter = meter_of_number(*end.get(1)?)?;
        (end[0] == 0).then_some(Self { owner, meter })
    }
}

/// The meter of a number.
pub(super) fn meter_of_number(number: u8) -> Option<Meter> {
    Meter::ALL.into_iter().find(|meter| meter.number() == number)
}

/// Which way an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The project used it.
    Used,
    /// It is taken back.
    TakenBack,
}

impl Fleet {
    /// Debits one account and credits the other.
    pub(super) fn transfer(
        &mut self,
        project: &ProjectName,
        provider: &NodeName,
        meter: Meter,
        quantity: u128,
        direction: Direction,
    ) {
        let project = AccountKey { owner: Owner::Project(project.clone()), meter };
        let provider = AccountKey { owner: Owner::Node(provider.clone()), meter };
        let (debited, credited) = match direction {
            Direction::Used => (project, provider),
            Direction::TakenBack => (provider, project),
        };
        self.change_account(debited, |account| {
            account.debits = account.debits.saturating_add(quantity);
        });
        self.change_account(credited, |account| {
            account.credits = account.credits.saturating_add(quantity);
        });
    }

    fn change_account(&mut self, key: AccountKey, change: impl FnOnce(&mut Account)) {
        let mut account = self.ledger_accounts.get(&key).copied().unwrap_or_default();
        change(&mut account);
        self.ledger_accounts.insert(key, account);
    }

    /// All accounts: those of projects, then those of nodes, by name and meter.
    pub fn accounts(&self) -> impl Iterator<Item = (&AccountKey, &Account)> {
        self.ledger_accounts.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: Owner, meter: Meter) -> AccountKey {
        AccountKey { owner, meter }
    }

    #[test]
    fn keys_come_back_and_order_as_their_bytes() {
        let project = |name: &str| Owner::Project(name.parse().unwrap());
        let node = |name: &str| Owner::Node(name.parse().unwrap());
        let keys = [
            key(project("a"), Meter::VmSeconds),
            key(project("a"), Meter::Migrations),
            key(project("a-b"), Meter::VmSeconds),
            key(project("ab"), Meter::BytesMoved),
            key(node("a"), Meter::VmSeconds),
        ];
        assert!(keys.is_sorted());
        let bytes: Vec<_> = keys.iter().map(Key::encode).collect();
        assert!(bytes.is_sorted());
        let back: Vec<_> = bytes.iter().map(|bytes| AccountKey::decode(bytes).unwrap()).collect();
        assert_eq!(back, keys);
        for bad in [&[][..], &[0], &[2, b'a', 0, 1], &[0, b'a', 1, 1], &[0, b'a', 0, 9]] {
            assert_eq!(AccountKey::decode(bad), None);
        }
    }
}
