//! A private CA for one test run. Certificates are made, never committed.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

/// A certificate and its key, as PEM files.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub struct Pki {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// By the file of the certificate.
    serials: Mutex<HashMap<PathBuf, SerialNumber>>,
}

impl Pki {
    /// Makes a CA and writes `ca.pem` into `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut params = CertificateParams::default();
        // Revocation lists are found by the name of their authority.
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        params.distinguished_name.push(DnType::CommonName, format!("Lab CA {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(dir.join("ca.pem"), issuer.pem())?;
        Ok(Self { dir: dir.into(), issuer, serials: Mutex::default() })
    }

    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate for server and client use with these names (DNS names or addresses); the key is mode 0600.
    pub fn issue(&self, file: &str, names: &[&str]) -> Result<Certificate> {
        self.issue_until(file, names, None)
    }

    /// The same, which is good until then and no longer.
    pub fn issue_until(&self, file: &str, names: &[&str], ends: Option<SystemTime>) -> Result<Certificate> {
        self.write(file, names, ends, |params, key| Ok(params.signed_by(key, &self.issuer)?.pem()))
    }

    /// The same, which nobody but its own key has signed.
    pub fn self_signed(&self, file: &str, names: &[&str]) -> Result<Certificate> {
        self.write(file, names, None, |params, key| Ok(params.self_signed(key)?.pem()))
    }

    fn write(
        &self,
        file: &str,
        names: &[&str],
        ends: Option<SystemTime>,
        sign: impl FnOnce(CertificateParams, &KeyPair) -> Result<String>,
    ) -> Result<Certificate> {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        if let Some(ends) = ends {
            params.not_after = moment(ends)?;
        }
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).context("randomness")?;
        serial[0] = 1; // positive, and as long as it looks
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or(file));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = sign(params, &key)?;
        let files = Certificate {
            certificate: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        self.serials().insert(files.certificate.clone(), SerialNumber::from_slice(&serial));
        fs::write(&files.certificate, certificate)?;
        fs::write(&files.key, key.serialize_pem())?;
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600))?;
        Ok(files)
    }

    /// Writes the list of these as revoked into `revoked.pem`, good until then, and says where that is.
    pub fn revoke(&self, certificates: &[&Certificate], ends: SystemTime) -> Result<PathBuf> {
        let begins = SystemTime::now() - Duration::from_secs(2 * 86_400);
        let serials = self.serials();
        let revoked = certificates.iter().map(|revoked| {
            Ok(RevokedCertParams {
                serial_number: serials.get(&revoked.certificate).context("a certificate of another")?.clone(),
                revocation_time: moment(begins)?,
                reason_code: None,
                invalidity_date: None,
            })
        });
        let list = CertificateRevocationListParams {
            this_update: moment(begins)?,
            next_update: moment(ends)?,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect::<Result<_>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.dir.join("revoked.pem");
        // As a whole, as who renews one does: it may be read at any moment.
        let next = self.dir.join("revoked.next");
        fs::write(&next, list.signed_by(&self.issuer)?.pem()?)?;
        fs::rename(next, &file)?;
        Ok(file)
    }

    fn serials(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, SerialNumber>> {
        self.serials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn moment(time: SystemTime) -> Result<OffsetDateTime> {
    Ok(date_time_ymd(1970, 1, 1) + time.duration_since(SystemTime::UNIX_EPOCH)?)
}
