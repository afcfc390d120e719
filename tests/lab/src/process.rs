//! Programs in the background, each with its log file, stopped when dropped.

use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A running program.
pub struct Proc {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Proc {
    /// Starts `command` with its output appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.into(), child, log: log.into() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn log_file(&self) -> &Path {
        &self.log
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The exit code, once it has ended.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// SIGKILL: it gets no chance to tidy up.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Any signal by name: "TERM", "STOP", "CONT", "HUP". After "STOP" it does nothing any more.
    pub fn signal(&self, signal: &str) {
        let _ = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while signal == "STOP" && !self.is_stopped() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Threads stop one after another, and one that runs goes on for a moment.
    fn is_stopped(&self) -> bool {
        let stopped = |stat: String| stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'));
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).all(stopped)
    }

    /// SIGTERM, then up to `limit` for it to end by itself; its exit code.
    pub fn terminate(&mut self, limit: Duration) -> Option<i32> {
        // One that has ended gave its number back: somebody else may have it now.
        if let Ok(Some(status)) = self.child.try_wait() {
            return status.code();
        }
        self.signal("TERM");
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        None
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.terminate(Duration::from_secs(5));
    }
}

/// Waits until `condition` holds; an error that names `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !condition() {
        let waited = begun.elapsed();
        if waited > limit {
            bail!("gave up after {} s waiting for {what}", limit.as_secs());
        }
        // To look takes a processor from what is waited for: whoever has waited long looks less often.
        std::thread::sleep((waited / 20).clamp(Duration::from_millis(20), Duration::from_millis(500)));
    }
    Ok(())
}

/// Runs a command to its end; an error with its output unless it succeeded.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// What a process has in memory (proc(5): VmRSS).
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number")
}
