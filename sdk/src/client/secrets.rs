//! Secrets, and the key that they are encrypted with.

use http::Method;
use novacron_protocol::api::{SecretKeysView, SecretRevealed, SecretView, SecretWrite};
use novacron_protocol::secret::SecretText;

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

/// Secrets of a project, or of none.
fn secrets_path(project: Option<&str>) -> Path {
    match project {
        Some(project) => Path::new("projects").segment(project).verb("secrets"),
        None => Path::new("secrets"),
    }
}

/// Secrets.
impl Client {
    /// The secrets of a project, or of none, without their values.
    ///
    /// # Errors
    /// [`Error`].
    pub fn secrets(&self, project: Option<&str>) -> Result<Vec<SecretView>, Error> {
        self.all(&secrets_path(project))
    }

    /// One secret, without its value.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn secret(&self, project: Option<&str>, name: &str) -> Result<SecretView, Error> {
        self.exchange.json(&Request::get(secrets_path(project).segment(name)))
    }

    /// Keeps a value, in place of an earlier one.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `not_found` if there is no such project.
    pub fn secret_put(
        &self,
        project: Option<&str>,
        name: &str,
        value: SecretText,
    ) -> Result<SecretView, Error> {
        let content = Content::json(&SecretWrite { value });
        let path = secrets_path(project).segment(name);
        self.exchange.json(&Request::write(Method::PUT, path, content))
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn secret_delete(&self, project: Option<&str>, name: &str) -> Result<(), Error> {
        let path = secrets_path(project).segment(name);
        self.exchange.done(&Request::write(Method::DELETE, path, Content::None))
    }

    /// The value of a secret; that it was read is in the audit log.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `not_allowed`.
    pub fn secret_reveal(
        &self,
        project: Option<&str>,
        name: &str,
    ) -> Result<SecretRevealed, Error> {
        let path = secrets_path(project).segment(name).verb("reveal");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }

    /// Which key encrypts secrets, and how far its turn is.
    ///
    /// # Errors
    /// [`Error`].
    pub fn secret_keys(&self) -> Result<SecretKeysView, Error> {
        self.exchange.json(&Request::get(Path::new("cluster/secret-keys")))
    }

    /// Begins to encrypt all secrets with a new key.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `conflict` if the key is turning already.
    pub fn secret_key_turn(&self) -> Result<SecretKeysView, Error> {
        let path = Path::new("cluster/secret-keys").verb("turn");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }
}
