//! Servers that take long to make are made once and copied at each start.

use crate::{process::run, repository};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The folder below `target` that every start copies. If there is none that was made of the same `parts` (version, data, source), it is
/// made anew: `make` is given an empty folder, and says which one below it is the template.
pub(crate) fn template(name: &str, parts: &[&[u8]], make: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<PathBuf> {
    let key = data_encoding::HEXLOWER.encode(&Sha256::digest(parts.concat())[..8]);
    let folder = repository().join("target").join(name);
    let template = folder.join(&key);
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?; // one process makes it, the others wait
    if !template.exists() {
        for old in fs::read_dir(&folder)?.flatten().filter(|old| old.path().is_dir()) {
            fs::remove_dir_all(old.path())?;
        }
        // Sockets need a short path.
        let making = tempfile::tempdir()?;
        let made = make(making.path())?;
        run(Command::new("cp").args(["-a", "--sparse=always"]).arg(made).arg(folder.join("new")))?;
        fs::rename(folder.join("new"), &template)?;
    }
    Ok(template)
}
