//! Projects, principals, what they may do, and their API keys.

use http::Method;
use novacron_protocol::api::{
    ApiKeyCreate, ApiKeyMade, ApiKeyView, BindingCreate, BindingView, PrincipalChange,
    PrincipalCreate, PrincipalView, ProjectChange, ProjectCreate, ProjectView, WhoamiView,
};
use novacron_protocol::ids::{ApiKeyId, BindingId};

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

fn project_path(project: &str) -> Path {
    Path::inventory("projects").segment(project)
}

fn principal_path(principal: &str) -> Path {
    Path::new("principals").segment(principal)
}

/// Who asks.
impl Client {
    /// Who this client is to the fleet, and what it may do.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_authenticated` if it is nobody.
    pub fn whoami(&self) -> Result<WhoamiView, Error> {
        self.exchange.json(&Request::get(Path::new("whoami")))
    }
}

/// Projects.
impl Client {
    /// The projects that this client sees.
    ///
    /// # Errors
    /// [`Error`].
    pub fn projects(&self) -> Result<Vec<ProjectView>, Error> {
        self.all(&Path::inventory("projects"))
    }

    /// One project, with what it takes.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn project(&self, project: &str) -> Result<ProjectView, Error> {
        self.read(project_path(project))
    }

    /// Makes a project.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `name_taken`.
    pub fn project_create(&self, create: &ProjectCreate) -> Result<ProjectView, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::new("projects"), content))
    }

    /// Changes a project.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `invalid_request` with the field.
    pub fn project_change(
        &self,
        project: &str,
        change: &ProjectChange,
    ) -> Result<ProjectView, Error> {
        let path = project_path(project).verb("settings");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(change)))
    }

    /// Deletes a project that has no machines.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn project_delete(&self, project: &str) -> Result<(), Error> {
        self.exchange.done(&Request::write(Method::DELETE, project_path(project), Content::None))
    }
}

/// Principals.
impl Client {
    /// All principals.
    ///
    /// # Errors
    /// [`Error`].
    pub fn principals(&self) -> Result<Vec<PrincipalView>, Error> {
        self.all(&Path::new("principals"))
    }

    /// One principal.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn principal(&self, principal: &str) -> Result<PrincipalView, Error> {
        self.exchange.json(&Request::get(principal_path(principal)))
    }

    /// Makes a principal, which may do nothing yet.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `name_taken`.
    pub fn principal_create(&self, create: &PrincipalCreate) -> Result<PrincipalView, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::new("principals"), content))
    }

    /// Changes a principal.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if nobody would be left who may decide who may do what.
    pub fn principal_change(
        &self,
        principal: &str,
        change: &PrincipalChange,
    ) -> Result<PrincipalView, Error> {
        let path = principal_path(principal).verb("settings");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(change)))
    }

    /// Deletes a principal, its bindings and its API keys.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn principal_delete(&self, principal: &str) -> Result<(), Error> {
        let path = principal_path(principal);
        self.exchange.done(&Request::write(Method::DELETE, path, Content::None))
    }
}

/// Bindings and API keys.
impl Client {
    /// Who may, or may not, do what: of one principal, or of all.
    ///
    /// # Errors
    /// [`Error`].
    pub fn bindings(&self, principal: Option<&str>) -> Result<Vec<BindingView>, Error> {
        self.all(&Path::new("bindings").query_if("principal", principal))
    }

    /// Says what a principal may, or may not, do.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `not_found`, `conflict`.
    pub fn bind(&self, create: &BindingCreate) -> Result<BindingView, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::new("bindings"), content))
    }

    /// Takes a binding back.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn unbind(&self, binding: BindingId) -> Result<(), Error> {
        let path = Path::new("bindings").segment(binding);
        self.exchange.done(&Request::write(Method::DELETE, path, Content::None))
    }

    /// API keys of one principal, or of all; without their secrets.
    ///
    /// # Errors
    /// [`Error`].
    pub fn api_keys(&self, principal: Option<&str>) -> Result<Vec<ApiKeyView>, Error> {
        self.all(&Path::new("api-keys").query_if("principal", principal))
    }

    /// Makes an API key. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `not_found`.
    pub fn api_key_create(&self, create: &ApiKeyCreate) -> Result<ApiKeyMade, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::new("api-keys"), content))
    }

    /// Makes an API key worth nothing.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn api_key_revoke(&self, key: ApiKeyId) -> Result<(), Error> {
        let path = Path::new("api-keys").segment(key);
        self.exchange.done(&Request::write(Method::DELETE, path, Content::None))
    }
}
