//! A file system of its own that can be full, in memory. Mounting takes root.

use crate::process::run;
use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// Unmounted when dropped.
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// At `dir`, which is made.
    pub fn mount(dir: &Path, mebibytes: u32) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let size = format!("size={mebibytes}m,mode=755");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir))?;
        Ok(Self { dir: dir.into() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves not one octet; again, where somebody gave some back.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filler())?;
        for block in [vec![0; 1 << 20], vec![0; 1]] {
            let end = loop {
                if let Err(error) = file.write_all(&block) {
                    break error;
                }
            };
            ensure!(end.kind() == io::ErrorKind::StorageFull, "{end} in the place of a full disk");
        }
        Ok(())
    }

    /// Gives back what `fill` took.
    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).with_context(|| self.filler().display().to_string())
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.dir).status();
    }
}
