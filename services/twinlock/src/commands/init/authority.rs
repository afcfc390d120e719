//! The private CA of a distributed Twinlock and the certificates it signs. Its key stays in its folder: no part needs it.

use super::{
    cannot,
    files::{Files, PUBLIC, SECRET, SECRET_FOLDER},
};
use crate::failure::{Exit, Failure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

const LIFE_OF_CA: Duration = Duration::days(3650);
const LIFE_OF_CERTIFICATE: Duration = Duration::days(730);

pub struct Authority {
    /// `None`: the key is kept elsewhere, so nothing can be signed.
    issuer: Option<Issuer<'static, KeyPair>>,
    key: PathBuf,
    certificate: String,
}

impl Authority {
    /// The one in `folder`, made when it is not there. A new key beside an old certificate would sign what nobody trusts.
    pub fn open(folder: &Path, files: &mut Files) -> Result<Self, Failure> {
        files.folder(folder, SECRET_FOLDER)?;
        let (path, crt) = (folder.join("ca.key"), folder.join("ca.crt"));
        if crt.exists() && !path.exists() {
            let certificate = std::fs::read_to_string(&crt).map_err(|error| cannot(&crt, error))?;
            return Ok(Self { issuer: None, key: path, certificate });
        }
        let key = key(&path, files)?;
        let params = authority();
        let certificate = files.once(&crt, PUBLIC, || Ok(params.self_signed(&key).map_err(failed)?.pem()))?;
        Ok(Self { issuer: Some(Issuer::new(params, key)), key: path, certificate })
    }

    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// `NAME.crt` and `NAME.key` in the folder, for these host names and addresses, to serve with and to call with.
    pub fn issue(&self, folder: &Path, name: &str, hosts: &[String], files: &mut Files) -> Result<(), Failure> {
        let crt = folder.join(format!("{name}.crt"));
        let issuer = match &self.issuer {
            Some(issuer) => issuer,
            None if crt.exists() => return Ok(()),
            None => {
                let text = format!(
                    "{} has to be signed, but {} is not there: put the CA's key back and run init again",
                    crt.display(),
                    self.key.display()
                );
                return Err(Failure::new(Exit::Conflict, text));
            }
        };
        files.folder(folder, SECRET_FOLDER)?;
        let key = key(&folder.join(format!("{name}.key")), files)?;
        files.once(&crt, PUBLIC, || {
            let mut params = CertificateParams::new(hosts.to_vec()).map_err(|error| {
                Failure::wrong_use(format!("no certificate can be made for {}: {error}", hosts.join(", ")))
            })?;
            params.distinguished_name.push(DnType::CommonName, hosts.first().map_or(name, String::as_str));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.use_authority_key_identifier_extension = true;
            valid_for(&mut params, LIFE_OF_CERTIFICATE);
            Ok(params.signed_by(&key, issuer).map_err(failed)?.pem())
        })?;
        Ok(())
    }

    /// Whom to trust, beside the certificate.
    pub fn introduce(&self, folder: &Path, name: &str, files: &mut Files) -> Result<(), Failure> {
        files.derived(&folder.join(name), PUBLIC, &self.certificate)
    }
}

/// The same at every run, so that certificates that are made later name the same issuer.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Twinlock private CA");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "made by twinlock init");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, LIFE_OF_CA);
    params
}

fn valid_for(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::now_utc();
    // Clocks of machines that are just being set up differ.
    params.not_before = now - Duration::days(1);
    params.not_after = now + life;
}

fn key(path: &Path, files: &mut Files) -> Result<KeyPair, Failure> {
    let pem = files.once(path, SECRET, || Ok(KeyPair::generate().map_err(failed)?.serialize_pem()))?;
    KeyPair::from_pem(&pem)
        .map_err(|error| Failure::wrong_use(format!("{}: not a private key in PEM: {error}", path.display())))
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::no(format!("no certificate can be made: {error}"))
}
