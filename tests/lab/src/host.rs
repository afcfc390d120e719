//! A Linux host of its own on this machine: what `install.sh` unpacked lies over the system's files, and whatever it writes to /etc, /usr,
//! /var and /run stays with it. Its network is the machine's. Takes root.

use crate::{Proc, program, repository, wait_until};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// `$0` is what was unpacked, `$1` a folder. What is written goes to memory.
const MOUNTS: &str = r#"set -e
mount -t tmpfs own "$1"
for part in etc usr var; do
    mkdir "$1/$part" "$1/$part.work"
    mount -t overlay overlay -o "lowerdir=$0/$part:/$part,upperdir=$1/$part,workdir=$1/$part.work" "/$part"
done
mount -t tmpfs run /run
echo ready
exec sleep infinity"#;

pub struct Host {
    /// Holds the mounts while it sleeps.
    keeper: Proc,
    dir: PathBuf,
}

impl Host {
    pub fn start(dir: &Path) -> Result<Self> {
        let dir = dir.join("host");
        fs::create_dir_all(dir.join("own"))?;
        let unpacked = repository().join("target/lab-root");
        ensure!(unpacked.is_dir(), "{} is not there; run tests/lab/install.sh test", unpacked.display());
        let mut command = Command::new(program("unshare")?);
        command.args(["--mount", "--propagation", "private", "sh", "-c", MOUNTS]).arg(unpacked).arg(dir.join("own"));
        let keeper = Proc::spawn("host", command, &dir.join("host.log"))?;
        wait_until("the mounts of a host", Duration::from_secs(60), || keeper.log().contains("ready"))
            .with_context(|| keeper.log())?;
        Ok(Self { keeper, dir })
    }

    /// A file of the host's, as it is found from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.keeper.pid()))
    }

    /// Writes a file of the host's, for root alone.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.path(path);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(&file, text).with_context(|| path.to_owned())?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?)
    }

    pub fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.path(path)).with_context(|| path.to_owned())
    }

    /// A program of the host's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.pid())).arg(program);
        command
    }

    /// The same in the background, with its log.
    pub fn spawn(&self, name: &str, program: &str, arguments: &[&str]) -> Result<Proc> {
        let mut command = self.command(program);
        command.args(arguments);
        Proc::spawn(name, command, &self.dir.join(format!("{name}.log")))
    }
}
