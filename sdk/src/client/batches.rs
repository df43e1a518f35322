//! Batches of migrations.

use http::Method;
use novacron_protocol::api::{BatchCreate, BatchView};
use novacron_protocol::ids::BatchId;

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

fn batches() -> Path {
    Path::new("migrations").verb("batch")
}

/// Batches.
impl Client {
    /// Moves many machines; the answer comes when that is accepted. See [`Client::batch_wait`].
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `invalid_request` with the field, also where no machine is meant.
    pub fn batch_create(&self, create: &BatchCreate) -> Result<BatchView, Error> {
        self.exchange.json(&Request::write(Method::POST, batches(), Content::json(create)))
    }

    /// All batches that are remembered, without their machines.
    ///
    /// # Errors
    /// [`Error`].
    pub fn batches(&self) -> Result<Vec<BatchView>, Error> {
        self.all(&batches())
    }

    /// One batch with its machines.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn batch(&self, batch: BatchId) -> Result<BatchView, Error> {
        self.exchange.json(&Request::get(batches().segment(batch)))
    }

    /// Gives up what of a batch has not moved; the answer comes when that is accepted.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it has ended.
    pub fn batch_cancel(&self, batch: BatchId) -> Result<BatchView, Error> {
        let path = batches().segment(batch).verb("cancel");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }
}
