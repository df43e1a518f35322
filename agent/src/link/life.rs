//! Which life of its cluster an agent follows: the latest that a coordinator spoke of.
//!
//! A cluster that was restored from a backup is the same cluster, with the same certificates. Its coordinators of the
//! time before may still run somewhere; an agent that has met the new ones takes no orders from the old ones any more,
//! also after it was restarted.

use std::sync::atomic::{AtomicU64, Ordering};

use novacron_protocol::ids::Incarnation;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use crate::records::{RecordName, Records, RecordsError};

/// The life, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct LifeRecord(Incarnation);

impl Message for LifeRecord {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 64;
    const NAME: &'static str = "life of the cluster";
}

/// Why a coordinator is not followed.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowed {
    /// It is of an earlier life.
    #[error(
        "it is of life {found} of the cluster, and this agent has met coordinators of life {newest}"
    )]
    Earlier {
        /// Its life.
        found: Incarnation,
        /// The latest that is known.
        newest: Incarnation,
    },
    /// Its life cannot be noted.
    #[error("the life of the cluster cannot be noted")]
    Records(#[from] RecordsError),
}

/// The life that this agent follows; 0 before it met a coordinator.
#[derive(Debug)]
pub struct Life {
    records: Records,
    newest: AtomicU64,
}

impl Life {
    /// The life that an earlier run followed.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn load(records: Records) -> Result<Self, RecordsError> {
        let found = records.get::<LifeRecord>(RecordName::Life).await?;
        let newest = AtomicU64::new(found.map_or(0, |found| found.0.0));
        Ok(Self { records, newest })
    }

    /// The latest life that is known.
    pub fn newest(&self) -> Incarnation {
        Incarnation(self.newest.load(Ordering::Relaxed))
    }

    /// Follows a coordinator of this life, if it is not an earlier one; durable on return.
    ///
    /// # Errors
    /// [`NotFollowed`].
    pub async fn follow(&self, found: Incarnation) -> Result<(), NotFollowed> {
        let newest = self.newest();
        if found < newest {
            return Err(NotFollowed::Earlier { found, newest });
        }
        if found > newest {
            self.records.put(RecordName::Life, &LifeRecord(found)).await?;
            self.newest.store(found.0, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_earlier_life_is_not_followed_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(directory.path()).unwrap();
        let life = Life::load(records.clone()).await.unwrap();
        assert_eq!(life.newest(), Incarnation(0));
        for found in [1, 1, 7] {
            life.follow(Incarnation(found)).await.unwrap();
        }
        let life = Life::load(records.clone()).await.unwrap();
        assert_eq!(life.newest(), Incarnation(7));
        let refused = life.follow(Incarnation(1)).await.unwrap_err();
        assert!(matches!(refused, NotFollowed::Earlier { .. }), "{refused}");
        life.follow(Incarnation(7)).await.unwrap();
        assert_eq!(records.names().await.unwrap(), [RecordName::Life]);
    }
}
