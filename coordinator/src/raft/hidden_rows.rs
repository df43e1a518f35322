//! Rows of the tables where this member's files are encrypted. Their keys have names of projects, machines and secrets in
//! them, so a row is hidden whole: under a number, key and value encrypted together. The tables are always written and
//! read whole, so nothing is looked up by key.
//!
//! One key is for one writing of all rows. The applied position is number 0, and how many rows there are is authenticated
//! with it: none can be left out.

use std::sync::Arc;

use novacron_storage::cipher::{Cipher, FileKey, KeyId, LockProblem, SALT_BYTES, TAG_BYTES};

use super::tables::KeptError;

const CONTEXT: &[u8] = b"tables";

/// Id and salt, before the applied position.
const HEAD_BYTES: usize = 8 + SALT_BYTES;

/// Before the key of a row: its length.
const LENGTH_BYTES: usize = 4;

const POSITION: u64 = 0;

/// Hides the rows of one writing.
#[derive(Debug)]
pub(super) struct Hiding {
    head: [u8; HEAD_BYTES],
    key: Arc<dyn FileKey>,
    rows: u64,
}

impl Hiding {
    pub(super) fn begin(cipher: &dyn Cipher) -> Result<Self, KeptError> {
        let id = cipher.keys().first().copied().ok_or(KeptError::NoKey)?;
        let salt = cipher.draw_salt().map_err(KeptError::Encrypt)?;
        let key = cipher.file_key(id, &salt, CONTEXT).ok_or(KeptError::NoKey)?;
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&id.0);
        head[8..].copy_from_slice(&salt);
        Ok(Self { head, key, rows: 0 })
    }

    /// The key and value under which a row of a table is kept.
    pub(super) fn row(
        &mut self,
        table: u8,
        key: &[u8],
        value: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), KeptError> {
        self.rows += 1;
        let length = (key.len() as u32).to_le_bytes();
        let hidden = self.seal(self.rows, &[table], [&length[..], key, value].concat())?;
        // In the order in which they came.
        Ok((self.rows.to_be_bytes().to_vec(), hidden))
    }

    /// The applied position, once all rows are hidden.
    pub(super) fn finish(self, position: &[u8]) -> Result<Vec<u8>, KeptError> {
        let hidden = self.seal(POSITION, &self.rows.to_le_bytes(), position.to_vec())?;
        Ok([&self.head[..], &hidden].concat())
    }

    fn seal(
        &self,
        number: u64,
        authenticated: &[u8],
        mut content: Vec<u8>,
    ) -> Result<Vec<u8>, KeptError> {
        let tag = self.key.seal(number, authenticated, &mut content).map_err(KeptError::Encrypt)?;
        content.extend_from_slice(&tag);
        Ok(content)
    }
}

/// Shows the rows of one writing again.
#[derive(Debug)]
pub(super) struct Showing {
    key: Arc<dyn FileKey>,
    position: Vec<u8>,
    rows: u64,
}

impl Showing {
    /// From what [`Hiding::finish`] gave.
    pub(super) fn begin(cipher: &dyn Cipher, applied: &[u8]) -> Result<Self, KeptError> {
        let (head, position) =
            applied.split_first_chunk::<HEAD_BYTES>().ok_or(KeptError::Changed)?;
        let needed = KeyId(std::array::from_fn(|at| head[at]));
        let salt = std::array::from_fn(|at| head[8 + at]);
        let other = || LockProblem::OtherKey { needed, given: cipher.keys() };
        let key = cipher.file_key(needed, &salt, CONTEXT).ok_or_else(other)?;
        Ok(Self { key, position: position.to_vec(), rows: 0 })
    }

    /// The key and value of a row.
    pub(super) fn row(
        &mut self,
        table: u8,
        number: &[u8],
        hidden: Vec<u8>,
    ) -> Result<(Vec<u8>, Vec<u8>), KeptError> {
        let number = u64::from_be_bytes(number.try_into().map_err(|_| KeptError::Changed)?);
        self.rows += 1;
        let content = self.open(number, &[table], hidden)?;
        let (length, content) =
            content.split_first_chunk::<LENGTH_BYTES>().ok_or(KeptError::Changed)?;
        let (key, value) = content
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or(KeptError::Changed)?;
        Ok((key.to_vec(), value.to_vec()))
    }

    /// The applied position, once all rows were shown.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, KeptError> {
        let position = std::mem::take(&mut self.position);
        self.open(POSITION, &self.rows.to_le_bytes(), position)
    }

    fn open(
        &self,
        number: u64,
        authenticated: &[u8],
        mut hidden: Vec<u8>,
    ) -> Result<Vec<u8>, KeptError> {
        self.key.open(number, authenticated, &mut hidden).ok_or(KeptError::Changed)?;
        hidden.truncate(hidden.len() - TAG_BYTES);
        Ok(hidden)
    }
}

#[cfg(test)]
mod tests {
    use novacron_vault::VaultKey;

    use super::*;
    use crate::at_rest::StorageCipher;

    type Rows = Vec<(u8, Vec<u8>, Vec<u8>)>;

    fn cipher(number: u8) -> StorageCipher {
        StorageCipher::new(vec![VaultKey::from_bytes([number; 32])]).unwrap()
    }

    fn hidden() -> (Vec<u8>, Rows) {
        let mut hiding = Hiding::begin(&cipher(1)).unwrap();
        let mut rows = Vec::new();
        for (table, key, value) in
            [(1, &b"web"[..], &b"running"[..]), (1, b"", b""), (2, b"web", b"x")]
        {
            let (key, value) = hiding.row(table, key, value).unwrap();
            rows.push((table, key, value));
        }
        (hiding.finish(b"position").unwrap(), rows)
    }

    fn shown(applied: &[u8], rows: Rows) -> Result<(Vec<u8>, Rows), KeptError> {
        let mut showing = Showing::begin(&cipher(1), applied)?;
        let mut found = Vec::new();
        for (table, key, value) in rows {
            let (key, value) = showing.row(table, &key, value)?;
            found.push((table, key, value));
        }
        Ok((showing.finish()?, found))
    }

    #[test]
    fn rows_come_back_whole_and_in_their_tables_only() {
        let (applied, rows) = hidden();
        let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|at| at == part);
        assert!(rows.iter().all(|(_, key, value)| !holds(key, b"web") && !holds(value, b"web")));
        let (position, found) = shown(&applied, rows.clone()).unwrap();
        assert_eq!(position, b"position");
        assert_eq!(found[0], (1, b"web".to_vec(), b"running".to_vec()));
        assert_eq!(found[1], (1, Vec::new(), Vec::new()));
        let changed =
            |rows: Rows| assert!(matches!(shown(&applied, rows), Err(KeptError::Changed)));
        changed(rows[1..].to_vec());
        changed([rows.clone(), rows[..1].to_vec()].concat());
        let spoiled = |spoil: &dyn Fn(&mut Rows)| {
            let mut rows = rows.clone();
            spoil(&mut rows);
            changed(rows);
        };
        spoiled(&|rows| rows[0].0 = 2);
        spoiled(&|rows| {
            let key = rows[0].1.clone();
            rows[0].1 = std::mem::replace(&mut rows[1].1, key);
        });
        spoiled(&|rows| rows[2].2[0] ^= 1);
        let other = Showing::begin(&cipher(2), &applied);
        assert!(matches!(other, Err(KeptError::Locked(LockProblem::OtherKey { .. }))));
        assert!(matches!(Showing::begin(&cipher(1), b"position"), Err(KeptError::Changed)));
        // Equal rows look different the next time.
        assert_ne!(hidden().1, rows);
    }
}
