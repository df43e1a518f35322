//! Hosts that no file of the project may name: where packages come from is the machine's business.

use anyhow::Result;

use crate::packages;

/// Public registries, in two pieces each so that this file keeps the rule.
const REGISTRIES: &[&str] = &[
    concat!("deb.debian", ".org"),
    concat!("security.debian", ".org"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("static.rust-lang", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("files.pythonhosted", ".org"),
];

/// The public ones, and those that this machine's apt is told to use.
pub fn hosts() -> Result<Vec<String>> {
    let mut hosts: Vec<String> = REGISTRIES.iter().map(|&host| host.to_owned()).collect();
    let configured = packages::mirror_uris()?;
    hosts.extend(configured.iter().filter_map(|uri| host(uri)));
    hosts.sort();
    hosts.dedup();
    Ok(hosts)
}

fn host(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn reads_the_host_of_a_uri() {
        assert_eq!(host("http://mirror.example:8080/debian").as_deref(), Some("mirror.example"));
        assert_eq!(host("file:/srv/debian"), None);
        assert_eq!(host("file:///srv/debian"), None);
    }
}
