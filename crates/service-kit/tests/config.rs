//! What a person sees when the configuration is wrong, and what wins when a value stands in several places.

use serde::Deserialize;
use service_kit::config::{
    BusSection, BusUrl, ConfigError, GrpcSection, LogSection, ManagementSection, ShutdownSection, Sources, load,
};
use service_kit::secret::{KeyFile, SecretFile};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Config {
    log: LogSection,
    management: ManagementSection,
    shutdown: ShutdownSection,
    bus: BusSection,
    grpc: Option<GrpcSection>,
    radius: Radius,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Radius {
    listen: Vec<std::net::SocketAddr>,
    replies_max: u16,
    enabled: bool,
    mode: Option<Mode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Strict,
    Auto,
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn write(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode set");
        path
    }

    fn sources(&self, toml: &str) -> Sources {
        Sources { file: Some(self.write("service.toml", toml, 0o644)), ..Sources::default() }
    }

    fn error(&self, toml: &str) -> String {
        let error = load::<Config>(&self.sources(toml)).expect_err("the configuration is wrong");
        chain(&error).replace(self.folder.path().to_str().expect("utf-8"), "DIR")
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

#[test]
fn a_wrong_configuration_says_file_line_key_what_was_found_and_what_is_allowed() {
    let place = Place::new();
    place.write("open.key", "canary", 0o644);
    let table = [
        (
            "[management]\nlistn = \"127.0.0.1:1\"\n",
            "DIR/service.toml:2: management.listn: unknown key; allowed: listen; nearest known name: listen",
        ),
        (
            "\n[managment]\nlisten = \"127.0.0.1:1\"\n",
            "DIR/service.toml:2: managment: unknown key; allowed: log, management, shutdown, bus, grpc, radius; nearest known name: management",
        ),
        (
            "[management]\nlisten = \"127.0.0.1:70000\"\n",
            "DIR/service.toml:2: management.listen: found string \"127.0.0.1:70000\"; allowed: an IP address and a port up to 65535, such as 127.0.0.1:9090 or [::]:9090",
        ),
        (
            "[management]\nlisten = 9090\n",
            "DIR/service.toml:2: management.listen: found integer `9090`; allowed: an IP address and a port up to 65535, such as 127.0.0.1:9090 or [::]:9090",
        ),
        (
            "[radius]\nlisten = [\"0.0.0.0:1812\",\n  \"nowhere\"]\n",
            "DIR/service.toml:3: radius.listen.1: found string \"nowhere\"; allowed: an IP address and a port up to 65535, such as 127.0.0.1:9090 or [::]:9090",
        ),
        (
            "[radius]\nreplies_max = 70000\n",
            "DIR/service.toml:2: radius.replies_max: found integer `70000`; allowed: a whole number from 0 to 65535",
        ),
        (
            "[shutdown]\ndrain_timeout_seconds = \"soon\"\n",
            "DIR/service.toml:2: shutdown.drain_timeout_seconds: found string \"soon\"; allowed: a whole number from 0",
        ),
        ("shutdown = 5\n", "DIR/service.toml:1: shutdown: found integer `5`; allowed: a section"),
        ("shutdown = [1, 2]\n", "DIR/service.toml:1: shutdown: found a list; allowed: a section"),
        (
            "[radius]\nmode = \"strikt\"\n",
            "DIR/service.toml:2: radius.mode: found `strikt`; allowed: strict, auto; nearest known name: strict",
        ),
        (
            "[bus]\nurl = \"amqp://x\"\n",
            "DIR/service.toml:2: bus.url: found `amqp://x`; allowed: in-process, or nats://host:port or tls://host:port, comma separated",
        ),
        (
            "[bus]\ncredentials_file = \"DIR/absent.creds\"\n",
            "DIR/service.toml:2: bus.credentials_file: the secret file DIR/absent.creds cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[bus]\nkey_file = \"DIR/open.key\"\n",
            "DIR/service.toml:2: bus.key_file: the secret file DIR/open.key can be read by others (mode 0644); allow its owner only: chmod 0600 DIR/open.key",
        ),
        (
            "[bus]\nca_file = \"DIR/absent.pem\"\n",
            "DIR/service.toml:2: bus.ca_file: the file DIR/absent.pem cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[log]\nlevel = \"inof\"\n",
            "DIR/service.toml:2: log.level: found `inof`; allowed: off, error, warn, info, debug, trace, or module=level, comma separated",
        ),
        (
            "[grpc]\nlisten = \"127.0.0.1:7000\"\n",
            "DIR/service.toml:1: grpc.certificate_file: missing; a value is required",
        ),
        (
            "version = 2\n",
            "DIR/service.toml:1: version: found integer `2`; allowed: a whole number up to 1; a newer file needs a newer program",
        ),
        ("[log]\nlevel = \"info\nx = 1\n", "DIR/service.toml:2: not TOML: invalid basic string, expected `\"`"),
    ];
    let folder = place.folder.path().to_str().expect("utf-8").to_owned();
    for (toml, expected) in table {
        assert_eq!(place.error(&toml.replace("DIR", &folder)), expected, "for {toml}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources { file: Some("/nonexistent/twinlock.toml".into()), ..Sources::default() };
    let error = load::<Config>(&sources).expect_err("there is no such file");
    assert!(matches!(error, ConfigError::File { .. }));
    assert_eq!(
        chain(&error),
        "the configuration file /nonexistent/twinlock.toml cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file_over_the_default() {
    let place = Place::new();
    let file = "version = 1\n[shutdown]\ndrain_delay_seconds = 1\n[radius]\nreplies_max = 1\nlisten = [\"0.0.0.0:1\"]\n[log]\nlevel = \"warn\"\n";
    let mut sources = place.sources(file);
    sources.environment = vec![
        ("TWINLOCK_RADIUS__REPLIES_MAX".into(), "2".into()),
        ("TWINLOCK_RADIUS__LISTEN".into(), "127.0.0.1:1812, [::1]:1812".into()),
        ("TWINLOCK_RADIUS__ENABLED".into(), "true".into()),
        ("TWINLOCK_RADIUS__MODE".into(), "auto".into()),
        ("TWINLOCK_BUS__URL".into(), "nats://a:1,nats://b:2".into()),
        ("TWINLOCK_LOG__LEVEL".into(), "debug".into()),
        ("TWINLOCK_CONFIG".into(), "somewhere".into()),
        ("OTHER_RADIUS__X".into(), "not ours".into()),
    ];
    sources.overrides = vec![("log.level".into(), "trace".into())];
    let config: Config = load(&sources).expect("all of it is right");
    assert_eq!(config.shutdown.drain_timeout_seconds, 60);
    assert_eq!(config.shutdown.drain_delay_seconds, 1);
    assert_eq!(config.radius.replies_max, 2);
    assert!(config.radius.enabled);
    assert!(matches!(config.radius.mode, Some(Mode::Auto)));
    let listen: Vec<String> = config.radius.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:1812", "[::1]:1812"]);
    assert_eq!(config.bus.url, BusUrl::Nats(vec!["nats://a:1".into(), "nats://b:2".into()]));
    assert_eq!(config.log.level.as_str(), "trace");
    assert!(config.grpc.is_none());
}

#[test]
fn an_error_in_the_environment_names_the_variable() {
    let table = [
        (
            "TWINLOCK_SHUTDOWN__DRAIN_TIMEOUT_SECONDS",
            "soon",
            "environment TWINLOCK_SHUTDOWN__DRAIN_TIMEOUT_SECONDS: shutdown.drain_timeout_seconds: found string \"soon\"; allowed: u64",
        ),
        (
            "TWINLOCK_RADIUS__LISTN",
            "1",
            "environment TWINLOCK_RADIUS__LISTN: radius.listn: unknown key; allowed: listen, replies_max, enabled, mode; nearest known name: listen",
        ),
        (
            "TWINLOCK_RADIUS__LISTEN",
            "127.0.0.1:1,127.0.0.1:99999",
            "environment TWINLOCK_RADIUS__LISTEN: radius.listen.1: found string \"127.0.0.1:99999\"; allowed: an IP address and a port up to 65535, such as 127.0.0.1:9090 or [::]:9090",
        ),
        (
            "TWINLOCK_RADIUS__ENABLED",
            "yes",
            "environment TWINLOCK_RADIUS__ENABLED: radius.enabled: found string \"yes\"; allowed: true or false",
        ),
    ];
    for (variable, value, expected) in table {
        let environment = vec![(variable.to_owned(), value.to_owned())];
        let error = load::<Config>(&Sources { environment, ..Sources::default() }).expect_err("the variable is wrong");
        assert_eq!(error.to_string(), expected.replace("allowed: u64", "allowed: a whole number from 0"));
    }
}

#[test]
fn arguments_are_a_file_and_overrides_and_nothing_else() {
    let arguments = ["--config", "/etc/x.toml", "--set", "log.level=debug", "--set=bus.url=in-process"];
    let sources = Sources::from_arguments("x", arguments.iter().map(ToString::to_string)).expect("understood");
    assert_eq!(sources.file.as_deref(), Some(Path::new("/etc/x.toml")));
    assert_eq!(
        sources.overrides,
        [("log.level".to_owned(), "debug".to_owned()), ("bus.url".to_owned(), "in-process".to_owned())]
    );
    for wrong in [&["serve"][..], &["--config"], &["--set", "novalue"], &["--verbose"]] {
        let error = Sources::from_arguments("x", wrong.iter().map(ToString::to_string)).expect_err("not understood");
        assert!(error.to_string().starts_with(wrong[0]), "{error}");
    }
}

#[test]
fn a_secret_is_refused_when_the_group_or_others_can_read_it_and_read_without_its_line_end() {
    let place = Place::new();
    for mode in [0o640, 0o604, 0o620, 0o602] {
        let path = place.write("secret", "canary\n", mode);
        let error = SecretFile::new(path.to_str().expect("utf-8")).expect_err("exposed");
        assert!(error.to_string().contains(&format!("can be read by others (mode {mode:04o})")), "{error}");
    }
    let path = place.write("secret", "canary \n", 0o600);
    let file = SecretFile::new(path.to_str().expect("utf-8")).expect("private");
    assert_eq!(file.read_line().expect("read").expose(), b"canary");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("mode set");
    assert!(file.read().is_err(), "checked again at each reading");
    let outside = SecretFile::new("credential:store.key").expect_err("not under systemd");
    assert!(outside.to_string().contains("CREDENTIALS_DIRECTORY is not set"), "{outside}");
}

#[test]
fn a_key_file_is_made_once_private_and_holds_several_keys() {
    let place = Place::new();
    let path = place.folder.path().join("ring.keys");
    let file = KeyFile::new(path.to_str().expect("utf-8")).expect("may be absent");
    let first = file.read_or_create().expect("made");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(file.read_or_create().expect("read")[0].expose(), first[0].expose());
    assert_eq!(std::fs::read_dir(place.folder.path()).expect("listed").count(), 1, "nothing else is left");

    let one = std::fs::read_to_string(&path).expect("text");
    place.write("ring.keys", &format!("{}\n{one}", data_encoding::BASE64.encode(&[7; 32])), 0o600);
    let two = file.read().expect("two keys");
    assert_eq!((two.len(), two[0].expose()), (2, &[7u8; 32][..]));
    for wrong in ["", "\n", "short\n", &"x".repeat(44), &one.repeat(9)] {
        place.write("ring.keys", wrong, 0o600);
        let error = file.read().err().expect("not keys");
        assert!(error.to_string().contains("one to eight lines of 32 octets in base64"), "{error}");
    }
}
