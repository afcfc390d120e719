//! The wall clock of one program, set while it runs (libfaketime). Clocks that never step are left alone.

use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Programs that are started with its environment read their wall clock from it.
pub struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// Right until it is set.
    pub fn new(dir: &Path) -> Result<Self> {
        let folders = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
        let library = folders
            .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.is_file())
            .context("libfaketime is not installed; run tests/lab/install.sh test")?;
        let clock = Self { file: dir.join("wall-clock"), library };
        clock.set(0)?;
        Ok(clock)
    }

    /// So many seconds from the right time.
    pub fn set(&self, offset_seconds: i64) -> Result<()> {
        // Read as it is at any time: put in place whole.
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{offset_seconds:+}s\n"))?;
        Ok(fs::rename(next, &self.file)?)
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}
