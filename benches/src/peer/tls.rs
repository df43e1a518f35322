//! Certificates for a pair of QEMUs, in the files that `tls-creds-x509` looks for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::network::Host;

/// The name in the target's certificate.
pub const SERVER_NAME: &str = "target.novacron.test";
const CLIENT_NAME: &str = "source.novacron.test";

/// Makes an authority and a certificate for each side, in a directory for each.
pub fn create(directory: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    for host in Host::ALL {
        let (name, role, usage) = match host {
            Host::Source => (CLIENT_NAME, "client", ExtendedKeyUsagePurpose::ClientAuth),
            Host::Target => (SERVER_NAME, "server", ExtendedKeyUsagePurpose::ServerAuth),
        };
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        let directory = credentials(directory, host);
        fs::create_dir_all(&directory).context("cannot make a directory for certificates")?;
        for (file, content) in [
            ("ca-cert.pem".to_owned(), authority.pem()),
            (format!("{role}-cert.pem"), certificate.pem()),
            (format!("{role}-key.pem"), key.serialize_pem()),
        ] {
            fs::write(directory.join(file), content).context("cannot write a certificate")?;
        }
    }
    Ok(())
}

/// Where the certificates of a side are.
pub fn credentials(directory: &Path, host: Host) -> PathBuf {
    directory.join(format!("{}-tls", host.name()))
}
