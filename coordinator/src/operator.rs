//! How a person or program becomes an operator: with a token, once. Needs no configuration, so it can be run where
//! operators work.

use std::path::Path;

use novacron_transport::enrolment::enrol;
use novacron_transport::{Role, SubjectName};

use crate::founding::{FoundingError, Invitation};

/// Spends the token and writes an operator's credentials to `out`.
///
/// # Errors
/// [`FoundingError`]; if it is [`FoundingError::Operator`] after the enrolment, the token is spent.
pub async fn join(
    name: &SubjectName,
    invitation: &Invitation,
    out: &Path,
) -> Result<(), FoundingError> {
    let text = invitation.coordinator.clone();
    let address = crate::peers::links::resolve(&text)
        .await
        .map_err(|error| FoundingError::Address(Box::new(error)))?;
    let enrolled = enrol(address, &invitation.token, Role::Operator, name, &[])
        .await
        .map_err(|source| FoundingError::Enrol { address: text, source })?;
    let directory = out.display().to_string();
    enrolled.credentials.save(out).map_err(|source| FoundingError::Operator { directory, source })
}
