//! A wrong configuration: the start is refused, with one sentence that says where, which key, what was found and what is
//! allowed. Every sentence is read here as whoever typed the mistake reads it.

use anyhow::{Context, Result, ensure};
use e2e::{OneMachine, story};
use lab::{Part, Pki, Proc, free_port, our_program, run, wait_until};
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// Of `serve`: the configuration cannot be used; starting again will not help.
const REFUSED: i32 = 78;
/// Of `check`: there are errors. Of `serve`: it cannot run here and now.
const NO: i32 = 1;
const UNREACHABLE: i32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_of_the_process() -> Result<()> {
    let home = Home::new()?;
    story!(&home;
        what_init_writes_is_good,
        a_wrong_key_or_value_is_named_with_file_and_line,
        environment_and_command_line_are_named_as_its_place,
        a_file_that_is_not_there_is_named,
        every_part_refuses_an_unknown_key,
        a_port_in_use_is_one_sentence,
        a_wrong_key_file_is_one_sentence,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_settings_document() -> Result<()> {
    let mut world = OneMachine::start(0, "", "", &[])?;
    story!(&mut world;
        clients_that_overlap_are_refused_and_the_old_settings_stay,
        a_wrong_key_or_value_of_the_settings_is_named_with_its_line,
        a_forbidden_port_stops_the_start_in_one_sentence,
        an_unreachable_directory_is_one_sentence,
    )
}

async fn what_init_writes_is_good(home: &Home) -> Result<()> {
    let check = home.check(&home.config, &[])?;
    ensure!(check.code == 0, "{}", check.sentence);
    Ok(())
}

/// What is put for what in a good file, and what is said then: the text that stands in the line named, the key, the words.
type Mistake<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [&'a str]);

async fn a_wrong_key_or_value_is_named_with_file_and_line(home: &Home) -> Result<()> {
    let radius = line_of(&home.text, "listen = [\"127.0.0.1:")?;
    let ldap_key = line_of(&home.text, "key_file = ")?;
    let public_url = line_of(&home.text, "public_url = ")?;
    const PORT: &str = "allowed: an IP address and a port up to 65535, such as 127.0.0.1:9090";
    #[rustfmt::skip]
    let mistakes: &[Mistake<'_>] = &[
        ("[radius]", "[radius]\nlisten_on = 5", "listen_on", "radius.listen_on",
            &["unknown key", "allowed: listen, accounting_listen, ", "nearest known name: listen"]),
        ("[radius]", "[radiuss]", "[radiuss]", "radiuss", &["unknown key", "allowed: log, telemetry, ", "nearest known name: radius"]),
        (radius, "listen = [\"127.0.0.1:65536\"]", "65536", "radius.listen.0", &["found string \"127.0.0.1:65536\"", PORT]),
        (radius, "listen = [\"127.0.0.1:radius\"]", ":radius", "radius.listen.0", &["found string \"127.0.0.1:radius\"", PORT]),
        (radius, "listen = [\"127.0.0.1\"]", "[\"127.0.0.1\"]", "radius.listen.0", &["found string \"127.0.0.1\"", PORT]),
        (radius, "listen = 1812", "= 1812", "radius.listen", &["found integer `1812`", "allowed: a list"]),
        (radius, "listen = 1812]", "= 1812]", "", &["not TOML"]),
        ("[radius]", "[radius]\nreject_delay_ms = \"soon\"", "soon", "radius.reject_delay_ms",
            &["found string \"soon\"", "allowed: a whole number"]),
        ("[radius]", "[radius]\nreject_delay_ms = 499", "499", "radius.reject_delay_ms", &["found 499", "allowed are 500 to 5000"]),
        ("[portal]", "[portal]\ndanger_plain_http = \"yes\"", "yes", "portal.danger_plain_http",
            &["found string \"yes\"", "allowed: a boolean"]),
        ("[radius]", "[log]\nformat = \"xml\"\n[radius]", "xml", "log.format", &["found `xml`", "allowed: json, pretty"]),
        ("[radius]", "[bus]\nurl = \"amqp://bus\"\n[radius]", "amqp", "bus.url", &["found `amqp://bus`", "allowed: in-process, or nats://"]),
        ("[radius]", "[tls]\nciphers = [\"TLS_RSA_WITH_AES_256_CBC_SHA\"]\n[radius]", "CBC", "tls.ciphers.0",
            &["found `TLS_RSA_WITH_AES_256_CBC_SHA`", "allowed: TLS_AES_256_GCM_SHA384, ", ", TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]),
        ("[radius]", "[tls]\nminimum_version = \"1.1\"\n[radius]", "1.1", "tls.minimum_version", &["found `1.1`", "allowed: 1.2, 1.3"]),
        ("version = 1", "version = 2", "version", "version", &["found integer `2`", "allowed: a whole number up to 1"]),
        (ldap_key, "", "[ldap]", "ldap", &["ldap.certificate_file and ldap.key_file belong together", "one of them is missing"]),
        (public_url, "public_url = \"http://localhost\"", "[portal]", "portal",
            &["portal.public_url: found http://localhost", "allowed is https"]),
    ];
    for (good, bad, line, key, words) in mistakes {
        let text = home.text.replacen(good, bad, 1);
        ensure!(text != home.text, "there is no {good}");
        home.refuses(&text, line, key, words)?;
    }
    Ok(())
}

async fn environment_and_command_line_are_named_as_its_place(home: &Home) -> Result<()> {
    let file = home.config.display().to_string();
    let variable = ("TWINLOCK_LDAP__CONECTIONS_MAX", "5");
    let ended = home.serve(&["--config", &file], &[variable])?;
    ended.is(REFUSED, &[
        "environment TWINLOCK_LDAP__CONECTIONS_MAX: ldap.conections_max: unknown key; allowed: listen, tls_listen, ",
        "nearest known name: connections_max",
    ])?;
    let ended = home.serve(&["--config", &file, "--set", "shutdown.drain_timeout_seconds=soon"], &[])?;
    ended.is(
        REFUSED,
        &["command line: shutdown.drain_timeout_seconds: found string \"soon\"; allowed: a whole number from 0"],
    )
}

async fn a_file_that_is_not_there_is_named(home: &Home) -> Result<()> {
    let nowhere = home.dir.path().join("nowhere");
    let missing = nowhere.display().to_string();
    let sentence = format!("the configuration file {missing} cannot be read: No such file or directory");
    home.serve(&["--config", &missing], &[])?.is(REFUSED, &[&sentence])?;
    home.check(&nowhere, &[])?.is(NO, &[&sentence])?;

    let certificate = line_of(&home.text, "certificate_file = ")?;
    let key = line_of(&home.text, "key_file = ")?;
    let found = [format!("{missing} cannot be read"), "No such file or directory".into()];
    let words: Vec<&str> = found.iter().map(String::as_str).collect();
    let text = home.text.replacen(certificate, &format!("certificate_file = \"{missing}\""), 1);
    home.refuses(&text, &missing, "ldap.certificate_file", &words)?;
    let text = home.text.replacen(key, &format!("key_file = \"{missing}\""), 1);
    home.refuses(&text, &missing, "ldap.key_file", &words)?;
    let folder = home.dir.path().display().to_string();
    let text = home.text.replacen(certificate, &format!("certificate_file = \"{folder}\""), 1);
    home.refuses(&text, "certificate_file", "ldap.certificate_file", &[&folder, "it is not a file"])
}

async fn every_part_refuses_an_unknown_key(home: &Home) -> Result<()> {
    let file = home.dir.path().join("part.toml");
    fs::write(&file, "version = 1\nmaximum_logins = 3\n")?;
    let place = format!("{}:2: maximum_logins: unknown key; allowed: log, telemetry, ", file.display());
    for part in Part::ALL {
        let mut command = Command::new(our_program(&format!("twinlock-{}", part.name()))?);
        command.arg("--config").arg(&file);
        end(command, home.dir.path())?.is(REFUSED, &[&place]).with_context(|| part.name())?;
    }
    Ok(())
}

async fn a_port_in_use_is_one_sentence(home: &Home) -> Result<()> {
    let taken = free_port();
    let _tcp = TcpListener::bind(("127.0.0.1", taken))?;
    let address = format!("127.0.0.1:{taken}");
    // Those of LDAP and RADIUS are open only while there is a client, and here is none (FL-01, FR-01).
    for (key, port) in [("management.listen", "management port"), ("portal.listen", "portal's port")] {
        let sentence = format!("{port} {address} cannot be opened: Address already in use");
        // Nobody who could be waited for has come in: it ends at once.
        let set = [format!("{key}={address}"), "shutdown.drain_delay_seconds=3600".into()];
        home.serve_with(&set)?.is(NO, &[&sentence]).context(key)?;
    }
    Ok(())
}

async fn a_wrong_key_file_is_one_sentence(home: &Home) -> Result<()> {
    // Started once, so that the store holds what its key has sealed.
    let key = home.dir.path().join("home/data/master.key");
    ensure!(home.serve_with(&["portal.listen=192.0.2.1:443".into()])?.code == NO);
    let right = fs::read(&key)?;
    let shown = key.display().to_string();

    let foreign = run(Command::new("openssl").args(["rand", "-base64", "32"]))?.stdout;
    fs::write(&key, foreign)?;
    let wrong =
        format!("the master key file {shown} does not hold the key this store was sealed with; restore the right file");
    home.serve_with(&[])?.is(NO, &[&wrong])?;
    fs::write(&key, "hello\n")?;
    let malformed =
        format!("the secret file {shown} does not hold what is expected: one to eight lines of 32 octets in base64");
    home.serve_with(&[])?.is(NO, &[&malformed])?;
    fs::remove_file(&key)?;
    let missing = format!(
        "the master key file {shown} is missing, but the store holds data sealed with it; restore the file from your backup"
    );
    home.serve_with(&[])?.is(NO, &[&missing])?;
    ensure!(!key.exists(), "a new key was made for old data");

    fs::write(&key, right)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let others =
        format!("the secret file {shown} can be read by others (mode 0644); allow its owner only: chmod 0600 {shown}");
    home.refuses(&home.text, "master_key_file", "store.master_key_file", &[&others])?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;

    // The key of another certificate.
    let other = Pki::new(&home.dir.path().join("pki"))?.issue("other", &["localhost"])?;
    for section in ["ldap", "portal"] {
        let set = format!("{section}.key_file={}", other.key.display());
        let words = format!("and key {} do not belong together", other.key.display());
        home.serve_with(&[set])?.is(NO, &[&words]).context(section)?;
    }
    Ok(())
}

async fn clients_that_overlap_are_refused_and_the_old_settings_stay(world: &mut OneMachine) -> Result<()> {
    // R-71, B-96
    let before = world.command_line().run(&["settings", "export"])?;
    let client = |name: &str, network: &str| {
        format!("\n[[client]]\nname = \"{name}\"\nprotocol = \"ldap\"\nsources = [\"{network}\"]\ntarget = \"acme\"\n")
    };
    let equal = before.clone() + &client("wiki", "10.1.0.0/16") + &client("gitlab", "10.1.0.0/16");
    settings_refused(
        world,
        &equal,
        &[
            "client.gitlab.sources: 10.1.0.0/16 is also a source of client wiki; a network belongs to one client of a protocol",
        ],
    )?;
    ensure!(world.command_line().run(&["settings", "export"])? == before, "a refused document has changed something");

    // One inside another is usual, and said.
    let inside = before.clone() + &client("wiki", "10.1.0.0/16") + &client("gitlab", "10.1.2.0/24");
    let warning = "client.gitlab.sources: 10.1.2.0/24 overlaps 10.1.0.0/16 of client wiki; the longer prefix wins";
    let file = document(world, &inside)?;
    let output = world.command_line().output(&["check", "--settings", &file], "")?;
    ensure!(
        output.status.code() == Some(0) && text(&output.stdout).contains(&format!("warning: {warning}")),
        "{output:?}"
    );
    let output = world.command_line().output(&["check", "--strict", "--settings", &file], "")?;
    ensure!(output.status.code() == Some(NO), "{output:?}");
    let output = world.command_line().output(&["settings", "apply", "--dry-run", &file], "")?;
    ensure!(output.status.code() == Some(0) && text(&output.stderr).contains(warning), "{output:?}");
    Ok(())
}

async fn a_wrong_key_or_value_of_the_settings_is_named_with_its_line(world: &mut OneMachine) -> Result<()> {
    let good = world.command_line().run(&["settings", "export"])?
        + "\n[[client]]\nname = \"wiki\"\nprotocol = \"ldap\"\nsources = [\"10.1.0.0/16\"]\ntarget = \"acme\"\n";
    world.command_line().run(&["check", "--settings", &document(world, &good)?])?;
    for (right, wrong, words) in [
        (
            "sources = [\"10.1.0.0/16\"]",
            "sourcess = [\"10.1.0.0/16\"]",
            &["sourcess: unknown field", "expected one of `name`"][..],
        ),
        ("[\"10.1.0.0/16\"]", "[\"10.1.0.0/33\"]", &["sources: found \"10.1.0.0/33\"; allowed are networks such as"]),
        ("[\"10.1.0.0/16\"]", "5", &["sources: invalid type: integer `5`, expected a sequence"]),
        (
            "name = \"wiki\"\nprotocol = \"ldap\"",
            "name = \"wiki\"\nprotocol = \"http\"",
            &["protocol: unknown variant `http`, expected one of `radius`, `ldap`, `api`"],
        ),
        (
            "[\"10.1.0.0/16\"]\ntarget = \"acme\"",
            "[\"10.1.0.0/16\"]\ntarget = \"acne\"",
            &["client.wiki.target: found \"acne\"; the directories are acme"],
        ),
        ("[\"10.1.0.0/16\"]", "[]", &["client.wiki.sources: is empty; list the networks"]),
        (
            "[\"10.1.0.0/16\"]",
            "[\"10.1.0.0/16\"]\nwait_seconds = 5",
            &["client.wiki.wait_seconds: found 5; allowed are 10 to 110"],
        ),
    ] {
        let bad = good.replace(right, wrong);
        ensure!(bad != good, "there is no {right}");
        let words: Vec<String> = if words[0].starts_with("client.") {
            words.iter().map(|word| (*word).to_owned()).collect()
        } else {
            let line = bad.lines().zip(good.lines()).take_while(|(bad, good)| bad == good).count() + 1;
            words
                .iter()
                .enumerate()
                .map(|(at, word)| if at == 0 { format!("line {line}: {word}") } else { (*word).to_owned() })
                .collect()
        };
        settings_refused(world, &bad, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

async fn a_forbidden_port_stops_the_start_in_one_sentence(world: &mut OneMachine) -> Result<()> {
    // FL-02: there is an LDAP client, so the ports are to be opened; whoever starts it here may not open what is root's.
    world.twinlock.stop();
    for key in ["ldap.listen", "ldap.tls_listen"] {
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-net_bind_service").arg(our_program("twinlock")?);
        command.arg("--config").arg(&world.twinlock.command_line.config).arg("serve");
        command.args(["--set", &format!("{key}=127.0.0.1:99")]);
        let sentence = format!("{key}: the LDAP port 127.0.0.1:99 cannot be opened: Permission denied");
        end(command, world.dir.path())?.is(NO, &[&sentence]).context(key)?;
    }
    world.twinlock.restart()
}

async fn an_unreachable_directory_is_one_sentence(world: &mut OneMachine) -> Result<()> {
    let found = world.command_line().output(&["check", "--connect", "-o", "table"], "")?;
    let url = world.slapd.ldap_url();
    ensure!(
        found.status.code() == Some(0) && text(&found.stdout).contains(&format!("directory acme: {url}: ok")),
        "{found:?}"
    );

    world.slapd.stop();
    let found = world.command_line().output(&["check", "--connect", "-o", "table"], "")?;
    let said = text(&found.stdout);
    ensure!(found.status.code() == Some(UNREACHABLE), "{found:?}");
    ensure!(said.lines().count() == 1 && said.starts_with(&format!("directory acme: {url}: FAILED: ")), "{said}");
    ensure!(said.contains("refused"), "{said}");
    ensure!(text(&found.stderr).trim() == "twinlock: 1 directory servers cannot be used", "{found:?}");

    // Nobody there to ask.
    let socket = world.twinlock.home().join("run/admin.sock");
    world.twinlock.process().context("it runs")?.terminate(Duration::from_secs(30));
    let found = world.command_line().output(&["check", "--connect"], "")?;
    ensure!(found.status.code() == Some(UNREACHABLE), "{found:?}");
    ensure!(
        text(&found.stderr).starts_with(&format!(
            "twinlock: admin cannot be reached: nobody answers at the socket {}",
            socket.display()
        )),
        "{found:?}"
    );
    Ok(())
}

/// An initialised Twinlock that does not run, on ports that are free.
struct Home {
    dir: TempDir,
    config: PathBuf,
    /// Of the configuration.
    text: String,
}

impl Home {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let home = dir.path().join("home");
        run(Command::new(our_program("twinlock")?).args(["init", "--listen", "127.0.0.1", "--dir"]).arg(&home))?;
        let config = home.join("twinlock.toml");
        let mut text = fs::read_to_string(&config)?;
        for usual in ["1812", "389", "636", "9090", "8443"] {
            text = text.replace(&format!("127.0.0.1:{usual}\""), &format!("127.0.0.1:{}\"", free_port()));
        }
        fs::write(&config, &text)?;
        Ok(Self { dir, config, text })
    }

    /// `serve` and `check` both refuse this file; the sentence begins with its place: file, line and key.
    fn refuses(&self, text: &str, line: &str, key: &str, words: &[&str]) -> Result<()> {
        let file = self.dir.path().join("home/bad.toml");
        fs::write(&file, text)?;
        let number =
            1 + text.lines().position(|it| it.contains(line)).with_context(|| format!("no line with {line}"))?;
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        let place = format!("{}:{number}: {key}", file.display());
        let words: Vec<&str> = [place.as_str()].into_iter().chain(words.iter().copied()).collect();
        let served = self.serve(&["--config", &file.to_string_lossy()], &[])?;
        served.is(REFUSED, &words)?;
        ensure!(served.sentence.starts_with(&place), "{} does not begin with its place", served.sentence);
        let checked = self.check(&file, &[])?;
        checked.is(NO, &words)?;
        ensure!(checked.sentence == served.sentence, "{} and {}", checked.sentence, served.sentence);
        Ok(())
    }

    fn serve(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Ended> {
        let mut command = Command::new(our_program("twinlock")?);
        command.arg("serve").args(arguments).envs(environment.iter().copied());
        end(command, self.dir.path())
    }

    /// Of the good file with these values set.
    fn serve_with(&self, set: &[String]) -> Result<Ended> {
        let file = self.config.to_string_lossy();
        let mut arguments = vec!["--config", &*file];
        arguments.extend(set.iter().flat_map(|value| ["--set", value]));
        self.serve(&arguments, &[])
    }

    fn check(&self, file: &Path, arguments: &[&str]) -> Result<Ended> {
        let mut command = Command::new(our_program("twinlock")?);
        command.arg("check").arg("--config").arg(file).args(arguments);
        end(command, self.dir.path())
    }
}

/// How a program ended, and what it said to people about it.
struct Ended {
    code: i32,
    sentence: String,
}

impl Ended {
    fn is(&self, code: i32, words: &[&str]) -> Result<()> {
        ensure!(self.code == code, "exit code {} instead of {code}: {}", self.code, self.sentence);
        ensure!(self.sentence.lines().count() == 1, "not one line: {}", self.sentence);
        for word in words {
            ensure!(self.sentence.contains(word), "{:?} is missing in: {}", word, self.sentence);
        }
        Ok(())
    }
}

/// Runs it to its end. The log lines are no sentences.
fn end(command: Command, dir: &Path) -> Result<Ended> {
    let log = dir.join("ended.log");
    let _ = fs::remove_file(&log);
    let mut process = Proc::spawn("twinlock", command, &log)?;
    let mut code = None;
    wait_until("a refused start", Duration::from_secs(60), || {
        code = process.exit_code();
        code.is_some()
    })
    .with_context(|| process.log())?;
    let said = process.log();
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let sentence = said.join("\n");
    let sentence = sentence.strip_prefix("twinlock: ").unwrap_or(&sentence).to_owned();
    Ok(Ended { code: code.context("ended by a signal")?, sentence })
}

/// `check` and `apply` both say these words about the document, in one line that begins with its file.
fn settings_refused(world: &OneMachine, settings: &str, words: &[&str]) -> Result<()> {
    let file = document(world, settings)?;
    for arguments in [&["check", "--settings", &file][..], &["settings", "apply", &file]] {
        let output = world.command_line().output(arguments, "")?;
        ensure!(output.status.code() == Some(NO), "{arguments:?}: {output:?}");
        let said = text(&output.stdout) + &text(&output.stderr);
        let line = said.lines().find(|line| line.contains(words[0]));
        let line = line.with_context(|| format!("{arguments:?}: {:?} is missing in {said}", words[0]))?;
        ensure!(line.trim_start_matches("twinlock: ").starts_with(&format!("{file}: ")), "{line}");
        for word in words {
            ensure!(line.contains(word), "{arguments:?}: {word:?} is missing in {line}");
        }
    }
    Ok(())
}

fn document(world: &OneMachine, settings: &str) -> Result<String> {
    let file = world.dir.path().join("wrong.toml");
    fs::write(&file, settings)?;
    Ok(file.display().to_string())
}

/// The first line that begins so.
fn line_of<'a>(text: &'a str, begin: &str) -> Result<&'a str> {
    text.lines().find(|line| line.starts_with(begin)).with_context(|| format!("no {begin}"))
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
