//! Secrets: values that are never printed and the files they come from. A key of the configuration names a file, never the secret;
//! a file that others can read stops the start.

use serde::Deserialize;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes that are wiped when dropped and have neither `Debug` nor `Display`.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// A secret file cannot be used. The operator's to mend; the text is one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    #[error("the secret file {shown} cannot be read", shown = path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the secret file {shown} can be read by others (mode {mode:04o}); allow its owner only: chmod 0600 {shown}", shown = path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the secret file {shown} is {bytes} bytes; at most 65536 are read", shown = path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error(
        "`{name}` names a credential, but CREDENTIALS_DIRECTORY is not set: only systemd's LoadCredential= gives one"
    )]
    NoCredentials { name: String },
    #[error("the secret file {shown} does not hold what is expected: {expected}", shown = path.display())]
    Malformed { path: PathBuf, expected: &'static str },
}

/// A file that holds a secret and must be there when the configuration is read. `credential:NAME` means a file that systemd gave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretFile(PathBuf);

impl SecretFile {
    pub fn new(path: &str) -> Result<Self, SecretError> {
        let path = resolve(path)?;
        check(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The content as it stands, checked again: the file may have been replaced since the start.
    pub fn read(&self) -> Result<Secret, SecretError> {
        read(&self.0)
    }

    /// The content without the line end that editors add.
    pub fn read_line(&self) -> Result<Secret, SecretError> {
        let secret = self.read()?;
        let end = secret.expose().trim_ascii_end().len();
        Ok(Secret::new(secret.expose()[..end].to_vec()))
    }
}

/// A file of keys that the first start makes, readable by its owner only. One key a line: 32 octets in base64. The first seals,
/// all open, so keys are changed by putting a new line on top.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyFile(PathBuf);

/// Keys of 32 octets, the one that seals first. More than this many in a file is a mistake, and each costs a try.
pub const KEYS_MAX: usize = 8;

impl KeyFile {
    pub fn new(path: &str) -> Result<Self, SecretError> {
        let path = resolve(path)?;
        if path.exists() {
            check(&path)?;
        }
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The keys of the file; an absent file is made with one fresh key and mode 0600.
    pub fn read_or_create(&self) -> Result<Vec<Secret>, SecretError> {
        if !self.0.exists() {
            self.create()?;
        }
        self.read()
    }

    /// The keys of the file, which must be there.
    pub fn read(&self) -> Result<Vec<Secret>, SecretError> {
        let malformed =
            || SecretError::Malformed { path: self.0.clone(), expected: "one to eight lines of 32 octets in base64" };
        let content = read(&self.0)?;
        let mut keys = Vec::new();
        for line in
            content.expose().split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
        {
            let key = data_encoding::BASE64.decode(line).map(Secret::new).map_err(|_| malformed())?;
            if key.expose().len() != 32 || keys.len() == KEYS_MAX {
                return Err(malformed());
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(malformed()) } else { Ok(keys) }
    }

    /// Written beside its place, flushed, then linked there: two processes that start together end with one key, and a power cut
    /// never leaves half a file.
    fn create(&self) -> Result<(), SecretError> {
        let failed = |cause| SecretError::Unreadable { path: self.0.clone(), cause };
        let mut key = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *key).expect("the kernel gives random octets");
        let mut line = Zeroizing::new(data_encoding::BASE64.encode(&*key));
        line.push('\n');
        let mut name = [0u8; 8]; // not the process id, which repeats in containers
        getrandom::fill(&mut name).expect("the kernel gives random octets");
        let beside = self.0.with_extension(format!("new-{}", data_encoding::HEXLOWER.encode(&name)));
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        let linked = std::fs::hard_link(&beside, &self.0);
        std::fs::remove_file(&beside).map_err(failed)?;
        match linked {
            Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(cause)),
            _ => {
                let directory =
                    self.0.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
            }
        }
    }
}

/// Reads a secret that is named elsewhere than in the configuration, with the same checks.
pub fn read(path: &Path) -> Result<Secret, SecretError> {
    check(path)?;
    std::fs::read(path).map(Secret::new).map_err(|cause| SecretError::Unreadable { path: path.to_owned(), cause })
}

fn resolve(written: &str) -> Result<PathBuf, SecretError> {
    let Some(name) = written.strip_prefix("credential:") else { return Ok(PathBuf::from(written)) };
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => Ok(Path::new(&directory).join(name)),
        None => Err(SecretError::NoCredentials { name: name.to_owned() }),
    }
}

fn check(path: &Path) -> Result<(), SecretError> {
    let unreadable = |cause| SecretError::Unreadable { path: path.to_owned(), cause };
    let found = std::fs::File::open(path).and_then(|file| file.metadata()).map_err(unreadable)?;
    if !found.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    if found.len() > 65_536 {
        return Err(SecretError::TooLarge { path: path.to_owned(), bytes: found.len() });
    }
    // Kubernetes and systemd give files that belong to root and reach us through the group (or an ACL, which shows as group
    // bits): where we are not the owner the group is how we read at all.
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    let exposed = if ours { 0o077 } else { 0o007 };
    match found.mode() & 0o7777 {
        mode if mode & exposed != 0 => Err(SecretError::Exposed { path: path.to_owned(), mode }),
        _ => Ok(()),
    }
}

impl TryFrom<String> for SecretFile {
    type Error = String;
    fn try_from(path: String) -> Result<Self, String> {
        Self::new(&path).map_err(|error| crate::chain(&error))
    }
}

impl TryFrom<String> for KeyFile {
    type Error = String;
    fn try_from(path: String) -> Result<Self, String> {
        Self::new(&path).map_err(|error| crate::chain(&error))
    }
}
