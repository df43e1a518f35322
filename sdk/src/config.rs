//! Where the coordinators are and who the caller is: from options, then environment, then file.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::ConfigError;

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "NOVACRON_CONFIG";
/// The variable that lists the endpoints, comma-separated.
pub const ENDPOINTS_VARIABLE: &str = "NOVACRON_ENDPOINTS";
/// The variable that names the credential directory.
pub const CREDENTIALS_VARIABLE: &str = "NOVACRON_CREDENTIALS";
/// The variable that names the file with an API key.
pub const API_KEY_FILE_VARIABLE: &str = "NOVACRON_API_KEY_FILE";
/// The configuration file in the home directory, read if nothing names another.
pub const DEFAULT_FILE: &str = ".novacron.yaml";

/// For how long a call looks for a coordinator that answers, unless said: an election takes two to three seconds.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(15);

/// What a client needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// URLs of coordinators, such as `https://10.0.0.1:7443`. The first that answers is used and kept.
    pub endpoints: Vec<String>,
    /// Directory with `ca.pem`, `cert.pem` and `key.pem`; with an API key `ca.pem` is enough.
    pub credentials: PathBuf,
    /// File with an API key, which is shown instead of the certificate.
    pub api_key_file: Option<PathBuf>,
    /// For how long a call goes on trying while no coordinator answers or none has a quorum; at most 5 s while nobody
    /// listens at any endpoint.
    pub patience: Duration,
}

/// What was said explicitly, and so counts before environment and file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The endpoints; none means not said.
    pub endpoints: Vec<String>,
    /// The credential directory.
    pub credentials: Option<PathBuf>,
    /// The file with an API key.
    pub api_key_file: Option<PathBuf>,
}

/// The configuration file. What is relative in it is relative to the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    endpoints: Vec<String>,
    credentials: Option<PathBuf>,
    api_key_file: Option<PathBuf>,
}

impl Config {
    /// A configuration with the default patience.
    pub fn new(endpoints: Vec<String>, credentials: impl Into<PathBuf>) -> Self {
        let credentials = credentials.into();
        Self { endpoints, credentials, api_key_file: None, patience: PATIENCE_DEFAULT }
    }

    /// The configuration of this process: options before environment before file.
    ///
    /// # Errors
    /// [`ConfigError`] if something is missing in all three or the file cannot be used.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::resolve(
            overrides,
            |name| std::env::var_os(name),
            |path| std::fs::read_to_string(path),
        )
    }

    /// The same, told what environment and files hold.
    fn resolve(
        overrides: &Overrides,
        variable: impl Fn(&str) -> Option<OsString>,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let named = overrides.file.clone().or_else(|| variable(CONFIG_VARIABLE).map(PathBuf::from));
        let home = || variable("HOME").map(PathBuf::from).unwrap_or_default().join(DEFAULT_FILE);
        let (path, must_exist) = match named {
            Some(path) => (path, true),
            None => (home(), false),
        };
        let file = File::read(&path, must_exist, read)?;
        let endpoints = [
            overrides.endpoints.clone(),
            variable(ENDPOINTS_VARIABLE).map(split_list).unwrap_or_default(),
            file.endpoints,
        ];
        let first = |said: &Option<PathBuf>, name: &str, written: Option<PathBuf>| {
            let written = || written.map(|written| beside(&path, &written));
            said.clone().or_else(|| variable(name).map(PathBuf::from)).or_else(written)
        };
        let credentials = first(&overrides.credentials, CREDENTIALS_VARIABLE, file.credentials);
        let api_key_file = first(&overrides.api_key_file, API_KEY_FILE_VARIABLE, file.api_key_file);
        let endpoints = endpoints.into_iter().find(|list| !list.is_empty());
        let endpoints = endpoints.ok_or_else(|| ConfigError::NoEndpoints { file: path.clone() })?;
        let credentials = credentials.ok_or(ConfigError::NoCredentials { file: path })?;
        Ok(Self { api_key_file, ..Self::new(endpoints, credentials) })
    }
}

impl File {
    fn read(
        path: &Path,
        must_exist: bool,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        };
        serde_norway::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            problem: explained(&text, &error),
        })
    }
}

/// Where a file is not as it should be, and what would be right.
fn explained(text: &str, error: &serde_norway::Error) -> String {
    let right = right(text);
    match error.location() {
        Some(place) => format!("line {}, column {}: {right}", place.line(), place.column()),
        None => right,
    }
}

/// What would be right in the place of this text.
fn right(text: &str) -> String {
    use serde_norway::Value;
    const BOTH: &str = "`endpoints: [https://HOST:7443]` and `credentials: DIRECTORY`";
    let settings = match serde_norway::from_str(text) {
        Ok(Value::Mapping(settings)) => settings,
        Ok(_) => return format!("write {BOTH}"),
        Err(_) => return format!("this is not YAML; write {BOTH}"),
    };
    let is_known = |key: &&str| ["endpoints", "credentials", "api_key_file"].contains(key);
    match settings.keys().find(|key| !key.as_str().as_ref().is_some_and(is_known)) {
        Some(key) => {
            format!("there is no setting `{}`; write {BOTH}", key.as_str().unwrap_or_default())
        }
        None if settings.get("credentials").is_some_and(|value| !value.is_string()) => {
            "`credentials` is a directory with ca.pem, cert.pem and key.pem".to_owned()
        }
        None => "`endpoints` is a list of URLs, such as [https://10.0.0.1:7443]".to_owned(),
    }
}

fn split_list(value: OsString) -> Vec<String> {
    let text = value.to_string_lossy();
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn beside(file: &Path, directory: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "endpoints: [https://file:7443]\ncredentials: operator\n";

    fn resolve(
        overrides: &Overrides,
        variables: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Config, ConfigError> {
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Config::resolve(
            overrides,
            |name| find(variables, name).map(OsString::from),
            |path| find(files, path.to_str().unwrap()).ok_or(io::ErrorKind::NotFound.into()),
        )
    }

    #[test]
    fn options_count_before_environment_before_file() {
        let variables = [
            ("NOVACRON_CONFIG", "/c/conf.yaml"),
            ("NOVACRON_ENDPOINTS", "https://a:1, https://b:2"),
        ];
        let files = [("/c/conf.yaml", FILE), ("/home/me/.novacron.yaml", FILE)];
        let from_file = resolve(&Overrides::default(), &[("HOME", "/home/me")], &files).unwrap();
        assert_eq!(from_file.endpoints, ["https://file:7443"]);
        assert_eq!(from_file.credentials, Path::new("/home/me/operator"));

        let from_environment = resolve(&Overrides::default(), &variables, &files).unwrap();
        assert_eq!(from_environment.endpoints, ["https://a:1", "https://b:2"]);
        assert_eq!(from_environment.credentials, Path::new("/c/operator"));

        let said = Overrides {
            endpoints: vec!["https://said:1".into()],
            credentials: Some("/said".into()),
            ..Overrides::default()
        };
        let from_options = resolve(&said, &variables, &files).unwrap();
        assert_eq!(from_options.endpoints, ["https://said:1"]);
        assert_eq!(from_options.credentials, Path::new("/said"));
    }

    #[test]
    fn an_api_key_is_in_a_file_that_is_named_like_all_else() {
        let files =
            [("/c/conf.yaml", "endpoints: [https://f:1]\ncredentials: ca\napi_key_file: key\n")];
        let named = |more: &[(&str, &str)], said: Option<&str>| {
            let variables = [&[("NOVACRON_CONFIG", "/c/conf.yaml")], more].concat();
            let api_key_file = said.map(PathBuf::from);
            let overrides = Overrides { api_key_file, ..Overrides::default() };
            resolve(&overrides, &variables, &files).unwrap().api_key_file
        };
        let variable = [("NOVACRON_API_KEY_FILE", "/from/variable")];
        assert_eq!(named(&[], None), Some("/c/key".into()));
        assert_eq!(named(&variable, None), Some("/from/variable".into()));
        assert_eq!(named(&variable, Some("/said")), Some("/said".into()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let named = Overrides { file: Some("/none.yaml".into()), ..Overrides::default() };
        assert!(matches!(resolve(&named, &[], &[]), Err(ConfigError::Unreadable { .. })));
        let nothing = resolve(&Overrides::default(), &[("HOME", "/h")], &[]).unwrap_err();
        assert!(nothing.to_string().contains("/h/.novacron.yaml"), "{nothing}");
        let misspelt = [("/h/.novacron.yaml", "endpoint: []\n")];
        let malformed = resolve(&Overrides::default(), &[("HOME", "/h")], &misspelt).unwrap_err();
        assert!(malformed.to_string().contains("endpoint"), "{malformed}");
    }
}
