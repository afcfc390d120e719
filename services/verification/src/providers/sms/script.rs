//! A text by a program of this host: the number is an argument, the words come on its standard input.
//!
//! The folder is fixed. Who may change the settings chooses among what an administrator of the host put there, and can bring nothing of
//! their own. No shell reads anything, and nothing the program writes is kept: it may hold the code. In a container there is no such
//! host, so nothing is run.

use super::Outgoing;
use crate::providers::ask::{Kind, Refusal};
use domain::settings::{Adapter, Provider};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;

const FOLDER: &str = "/usr/local/lib/twinlock/sms";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Programs that run at once. Who comes then waits, as long as the provider's time lasts.
const AT_ONCE: usize = 16;
/// `EX_TEMPFAIL` of sysexits.h: not now, but perhaps in a moment.
const EXIT_BUSY: i32 = 75;
/// `EX_CONFIG` of sysexits.h; a shell's for what cannot be run and what is not there.
const EXITS_BROKEN: [i32; 3] = [78, 126, 127];
const CONTAINER: &str = "programs are not run in a container";

pub struct ScriptCarrier {
    program: String,
    arguments: Vec<String>,
    folder: PathBuf,
    seats: Semaphore,
}

impl ScriptCarrier {
    pub fn new(provider: &Provider) -> Result<Self, Refusal> {
        Self::on_host(provider, Path::new(FOLDER), in_container())
    }

    fn on_host(provider: &Provider, folder: &Path, container: bool) -> Result<Self, Refusal> {
        let Adapter::Script { program, arguments } = &provider.adapter else {
            return Err(misconfigured("it is no script"));
        };
        if container {
            return Err(misconfigured(CONTAINER));
        }
        let (program, arguments) = (program.clone(), arguments.clone());
        Ok(Self { program, arguments, folder: folder.to_owned(), seats: Semaphore::new(AT_ONCE) })
    }

    /// Dropped before it is done, it takes the program with it, and whatever that started.
    pub async fn send(&self, outgoing: &Outgoing<'_>, id: &str) -> Result<String, Refusal> {
        let _seat = self.seats.acquire().await.map_err(|_| Refusal::new(Kind::Busy, "it is being stopped"))?;
        let program = runnable(&self.folder, &self.program)?;
        let fill = |argument: &String| argument.replace("{phone}", outgoing.to.expose()).replace("{id}", id);
        let mut command = Command::new(&program);
        command
            .args(self.arguments.iter().map(fill))
            .current_dir(&self.folder)
            // Nothing of ours: the process's own environment may name secrets.
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| misconfigured(format!("cannot be run: {}", error.kind())))?;
        let mut group = Group(child.id());
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read it says what it made of that by its exit code.
            let _ = input.write_all(outgoing.text.as_bytes()).await;
        }
        let ended = child.wait().await;
        // Its id may be another's from now on.
        group.0 = None;
        match ended {
            Ok(status) => outcome(status),
            Err(error) => Err(Refusal::new(Kind::Unreachable, format!("cannot be waited for: {}", error.kind()))),
        }
    }
}

/// The processes of one program, killed unless it has ended by itself.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

fn outcome(status: ExitStatus) -> Result<String, Refusal> {
    match status.code() {
        Some(0) => Ok(String::new()),
        Some(EXIT_BUSY) => Err(Refusal::new(Kind::Busy, format!("exit code {EXIT_BUSY}"))),
        Some(code) if EXITS_BROKEN.contains(&code) => Err(misconfigured(format!("exit code {code}"))),
        Some(code) => Err(Refusal::new(Kind::Refused, format!("exit code {code}"))),
        None => Err(Refusal::new(Kind::Unreachable, "it was killed")),
    }
}

/// Where the program lies, if it is one that only its owner can have changed.
fn runnable(folder: &Path, name: &str) -> Result<PathBuf, Refusal> {
    let known = |path: &Path| std::fs::canonicalize(path).and_then(|path| Ok((path.metadata()?, path)));
    let (folder_is, folder) = known(folder).map_err(|_| misconfigured(format!("there is no folder {FOLDER}")))?;
    let (file_is, file) = known(&folder.join(name)).map_err(|_| misconfigured("its program is not in the folder"))?;
    let others_write = |mode: u32| mode & 0o022 != 0;
    match () {
        () if file.parent() != Some(&folder) => Err(misconfigured("its program lies in another folder")),
        () if !file_is.is_file() => Err(misconfigured("its program is no file")),
        () if others_write(folder_is.mode()) => Err(misconfigured("others than its owner can write the folder")),
        () if others_write(file_is.mode()) => Err(misconfigured("others than its owner can write its program")),
        () if file_is.mode() & 0o111 == 0 => Err(misconfigured("its program is not executable")),
        () => Ok(file),
    }
}

/// What Docker, Podman, Kubernetes and systemd-nspawn leave inside, and our own images say.
fn in_container() -> bool {
    let said = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let there = |path: &str| Path::new(path).exists();
    said("container")
        || said("KUBERNETES_SERVICE_HOST")
        || ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"].into_iter().any(there)
}

fn misconfigured(detail: impl Into<String>) -> Refusal {
    Refusal::new(Kind::Misconfigured, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::PhoneNumber;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    const TEXT: &str = "Your code is 314159.\n$(touch here) `touch here` 'it''s';";

    /// A folder with a program in it.
    fn folder_with(script: &str) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "send", script, 0o755);
        folder
    }

    fn write(folder: &Path, name: &str, script: &str, mode: u32) {
        let file = folder.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("its mode");
    }

    fn provider(arguments: &[&str]) -> Provider {
        serde_json::from_value(serde_json::json!({
            "name": "modem", "channel": "sms",
            "adapter": { "kind": "script", "program": "send", "arguments": arguments },
        }))
        .expect("a provider")
    }

    async fn send(folder: &Path, arguments: &[&str]) -> Result<String, Refusal> {
        let to = PhoneNumber::new("+4915123456789").expect("a number");
        let life = Duration::from_secs(60);
        let outgoing = Outgoing { to: &to, text: TEXT, life, reference: 0, callback: "" };
        ScriptCarrier::on_host(&provider(arguments), folder, false)?.send(&outgoing, "7f3a").await
    }

    fn refused(kind: Kind, detail: &str) -> Result<String, Refusal> {
        Err(Refusal::new(kind, detail))
    }

    #[tokio::test]
    async fn the_number_is_an_argument_the_text_is_read_and_no_shell_sees_either() {
        let folder = folder_with("printf '%s\\n' \"$@\" > arguments; cat > text; env > environment");
        let sent = send(folder.path(), &["--to={phone}", "$(touch here); x", "", "{id}"]).await;
        assert_eq!(sent, Ok(String::new()));
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written by the program");
        assert_eq!(read("arguments"), "--to=+4915123456789\n$(touch here); x\n\n7f3a\n");
        assert_eq!(read("text"), TEXT);
        assert!(!folder.path().join("here").exists());
        // CARGO_MANIFEST_DIR and the like are ours.
        let environment = read("environment");
        let names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert!(names.iter().all(|name| ["PATH", "LANG", "PWD", "SHLVL", "OLDPWD", "_"].contains(name)), "{names:?}");
    }

    #[tokio::test]
    async fn what_became_of_it_is_its_exit_code_and_nothing_it_wrote() {
        for (script, expected) in [
            ("cat; cat >&2; exit 0", Ok(String::new())),
            ("exec 0<&-; exit 0", Ok(String::new())),
            ("cat; cat >&2; echo 314159; exit 3", refused(Kind::Refused, "exit code 3")),
            ("exit 75", refused(Kind::Busy, "exit code 75")),
            ("exit 78", refused(Kind::Misconfigured, "exit code 78")),
            ("no-such-program", refused(Kind::Misconfigured, "exit code 127")),
            ("kill -9 $$", refused(Kind::Unreachable, "it was killed")),
            ("sleep 0.2; exit 0", Ok(String::new())),
        ] {
            assert_eq!(send(folder_with(script).path(), &["{phone}"]).await, expected, "{script}");
        }
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_what_it_started() {
        let folder = folder_with("sleep 300 & echo $! $$ > ids.new; mv ids.new ids; wait");
        let begun = Instant::now();
        let hung = tokio::time::timeout(Duration::from_secs(2), send(folder.path(), &["{phone}"])).await;
        assert!(hung.is_err() && begun.elapsed() < Duration::from_secs(4), "{hung:?}");
        let ids = fs::read_to_string(folder.path().join("ids")).expect("it ran");
        let lives = |id: &str| {
            // One that is dead and not yet waited for is no process any more.
            fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        assert_eq!(ids.split_whitespace().count(), 2, "{ids}");
        for id in ids.split_whitespace() {
            let end = Instant::now() + Duration::from_secs(5);
            while lives(id) {
                assert!(Instant::now() < end, "{id} of {ids} still runs");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn only_a_program_of_the_folder_that_nobody_else_can_change_is_run() {
        let misconfigured = |detail: &str| refused(Kind::Misconfigured, detail);
        let ran = "touch ran";
        let folder = folder_with(ran);
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
        let file = folder.path().join("send");
        mode(&file, 0o775);
        let tried = send(folder.path(), &[]).await;
        assert_eq!(tried, misconfigured("others than its owner can write its program"));
        mode(&file, 0o644);
        assert_eq!(send(folder.path(), &[]).await, misconfigured("its program is not executable"));
        mode(&file, 0o755);
        mode(folder.path(), 0o777);
        assert_eq!(send(folder.path(), &[]).await, misconfigured("others than its owner can write the folder"));
        mode(folder.path(), 0o700);
        fs::remove_file(&file).expect("removed");
        assert_eq!(send(folder.path(), &[]).await, misconfigured("its program is not in the folder"));
        let elsewhere = folder_with(ran);
        symlink(elsewhere.path().join("send"), &file).expect("a link");
        assert_eq!(send(folder.path(), &[]).await, misconfigured("its program lies in another folder"));
        fs::remove_file(&file).expect("removed");
        fs::create_dir(&file).expect("a folder");
        assert_eq!(send(folder.path(), &[]).await, misconfigured("its program is no file"));
        assert!(![folder.path(), elsewhere.path()].into_iter().any(|folder| folder.join("ran").exists()));
        let contained = ScriptCarrier::on_host(&provider(&[]), folder_with(ran).path(), true);
        assert_eq!(contained.err(), Some(Refusal::new(Kind::Misconfigured, CONTAINER)));
    }
}
