//! Writes what is missing and leaves alone what is there, so that `init` can be run again at any time.

use super::cannot;
use crate::{failure::Failure, output::say};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The user that runs a part, and nobody else.
pub const SECRET: u32 = 0o600;
pub const PUBLIC: u32 = 0o644;
pub const SECRET_FOLDER: u32 = 0o700;
pub const PUBLIC_FOLDER: u32 = 0o755;

#[derive(Debug, Default)]
pub struct Files {
    owner: Option<u32>,
    pub written: Vec<PathBuf>,
}

impl Files {
    pub fn of(owner: Option<u32>) -> Self {
        Self { owner, written: Vec::new() }
    }

    pub fn folder(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        if path.is_dir() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.and_then(|()| self.hand_over(path)).map_err(|error| cannot(path, error))
    }

    /// The content of the file: what is there, or what `make` makes.
    pub fn once(
        &mut self,
        path: &Path,
        mode: u32,
        make: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<String, Failure> {
        if path.exists() {
            return fs::read_to_string(path).map_err(|error| cannot(path, error));
        }
        let content = make()?;
        self.write(path, mode, &content).map_err(|error| cannot(path, error))?;
        self.written.push(path.to_owned());
        Ok(content)
    }

    /// A file that follows from others. One with another content may have been edited: it is left, and named.
    pub fn derived(&mut self, path: &Path, mode: u32, content: &str) -> Result<(), Failure> {
        let found = self.once(path, mode, || Ok(content.to_owned()))?;
        if found != content {
            say(&format!("{}: left as it is; delete it to have it written anew", path.display()));
        }
        Ok(())
    }

    /// Beside its place first: nobody ever sees half a file.
    fn write(&self, path: &Path, mode: u32, content: &str) -> std::io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let beside = PathBuf::from(name);
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        self.hand_over(&beside)?;
        fs::rename(&beside, path)
    }

    fn hand_over(&self, path: &Path) -> std::io::Result<()> {
        super::hand_over(path, self.owner)
    }
}
