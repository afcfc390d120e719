//! The processors: one for the server that is measured, another for all that loads it.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    process::{Command, id},
};

/// Two processors of those this process may use. It may use all of them again when dropped.
pub struct Cores {
    server: String,
    rest: String,
    all: String,
}

impl Cores {
    /// `None` on a machine with one.
    pub fn two() -> Result<Option<Self>> {
        let status = fs::read_to_string("/proc/self/status")?;
        let all = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let all = all.context("the system says which processors there are")?.trim();
        let numbers = listed(all).with_context(|| format!("a list of processors is {all:?}"))?;
        let [server, rest, ..] = numbers.as_slice() else { return Ok(None) };
        Ok(Some(Self { server: server.to_string(), rest: rest.to_string(), all: all.to_owned() }))
    }

    /// What is begun meanwhile has the server's processor, and knows that it has no other: a pool of threads is as large as that asks for.
    pub fn begin<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        pin(id(), &self.server)?;
        let begun = start();
        pin(id(), &self.all)?;
        begun
    }

    pub fn pin_server(&self, pid: u32) -> Result<()> {
        pin(pid, &self.server)
    }

    /// Directories, and the load generator itself.
    pub fn pin_others(&self, pids: &[u32]) -> Result<()> {
        pids.iter().chain([&id()]).try_for_each(|pid| pin(*pid, &self.rest))
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        let _ = pin(id(), &self.all);
    }
}

/// Every thread of a process; those it begins later inherit it.
fn pin(pid: u32, cores: &str) -> Result<()> {
    let output = Command::new("taskset").args(["-acp", cores, &pid.to_string()]).output().context("taskset")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `0-2,5`
fn listed(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_read_as_the_kernel_writes_it() {
        assert_eq!(listed("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(listed("3"), Some(vec![3]));
        assert_eq!(listed(""), None);
    }
}
