//! A private authority and the certificates it signs, as files.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use service_kit::config::{GrpcSection, InputFile};
use service_kit::secret::SecretFile;
use service_kit::tls::Identity;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn ca(&self) -> InputFile {
        InputFile::new(self.path("ca.pem")).expect("there")
    }

    /// Signs a certificate for a name and writes it, with its key, as `<file>.pem` and `<file>.key`.
    pub fn issue(&self, file: &str, name: &str) -> Identity {
        self.issue_with(file, CertificateParams::new(vec![name.to_owned()]).expect("a name"))
    }

    pub fn issue_with(&self, file: &str, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        write(&self.path(&format!("{file}.pem")), &certificate.pem());
        write(&self.path(&format!("{file}.key")), &key.serialize_pem());
        Identity {
            certificate: InputFile::new(self.path(&format!("{file}.pem"))).expect("there"),
            key: SecretFile::new(self.path(&format!("{file}.key")).to_str().expect("utf-8")).expect("private"),
        }
    }

    /// The section of a part that listens on a free port.
    #[allow(dead_code, reason = "not every test program speaks gRPC")]
    pub fn section(&self, part: &str) -> GrpcSection {
        let identity = self.issue(part, &format!("{part}.twinlock.internal"));
        GrpcSection {
            listen: "127.0.0.1:0".parse().expect("an address"),
            certificate_file: identity.certificate,
            key_file: identity.key,
            ca_file: self.ca(),
        }
    }
}

/// As renewal does it: a new file takes the place of the old one.
pub fn write(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).expect("made");
    file.write_all(content.as_bytes()).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}
