//! Fails when a crate reaches for something its layer must not know (docs/architecture.md), or has tests that nobody runs.
use architecture::files;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What each crate of ours may import of ours. Who is not listed may import nothing of ours.
const OURS: &[(&str, &[&str])] = &[
    ("crates/domain", &[]),
    ("crates/catalogue", &["crates/domain"]),
    ("crates/policy", &["crates/domain"]),
    ("crates/otp", &["crates/domain"]),
    ("crates/ldap-wire", &[]),
    ("crates/ntlm", &[]),
    // Its messages are written in the same ASN.1 as LDAP's.
    ("crates/kerberos", &["crates/ldap-wire"]),
    ("crates/radius-wire", &[]),
    // The LDAP codec serves both ends: the gateway answers with it, the directory client asks with it.
    ("crates/directory", &["crates/domain", "crates/kerberos", "crates/ldap-wire", "crates/ntlm"]),
    ("crates/service-kit", &[]),
    ("proto", &["crates/domain"]),
    // What stands between both gateways and verification where a network does.
    ("crates/waiting-calls", &["crates/service-kit", "proto"]),
    // What both gateways do before a bind: they ask the store whether there may be one.
    ("crates/lockout-guard", &["crates/domain", "crates/service-kit", "proto"]),
    ("crates/login-queue", &[]),
    // What both gateways do while verification is down: they ask the directory, and write to the store.
    ("crates/fail-open", &["crates/directory", "crates/domain", "crates/ldap-wire", "crates/service-kit", "proto"]),
];
/// No I/O, no tasks, no clock, no log.
const PURE: &[&str] = &[
    "crates/catalogue",
    "crates/domain",
    "crates/policy",
    "crates/otp",
    "crates/kerberos",
    "crates/ldap-wire",
    "crates/ntlm",
    "crates/radius-wire",
];
const NOT_IN_PURE: &[&str] = &["tokio", "tonic", "prost", "tracing", "log", "async-nats", "reqwest"];
const DATABASE: &[&str] = &["sqlx", "rusqlite", "tokio-postgres"];

#[test]
fn imports_point_down() {
    let metadata = metadata();
    let root = Path::new(metadata["workspace_root"].as_str().expect("cargo metadata has this field"));
    let mut services = 0;
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().expect("cargo metadata has this field") {
        let manifest = Path::new(package["manifest_path"].as_str().expect("cargo metadata has this field"));
        let importer = folder(root, manifest.parent().expect("cargo metadata has this field"));
        services += usize::from(importer.starts_with("services/"));
        for import in package["dependencies"]
            .as_array()
            .expect("cargo metadata has this field")
            .iter()
            .filter(|d| d["kind"].is_null())
        {
            let name = import["name"].as_str().expect("cargo metadata has this field");
            let reason = match import["path"].as_str() {
                Some(path) => ours(&importer, &folder(root, Path::new(path))),
                None => foreign(&importer, name),
            };
            broken.extend(reason.map(|reason| format!("{importer} imports {name}: {reason}")));
        }
    }
    assert!(services > 0, "found no service: the path filter is wrong");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn what_is_built_without_tests_has_none() {
    let metadata = metadata();
    let (mut without, mut forgotten) = (0, Vec::new());
    for package in metadata["packages"].as_array().expect("cargo metadata has this field") {
        let targets = package["targets"].as_array().expect("cargo metadata has this field").iter();
        let sources = targets.map(|target| {
            let source = PathBuf::from(target["src_path"].as_str().expect("cargo metadata has this field"));
            (source, target["kind"][0] == "lib", target["test"] == true)
        });
        let sources: Vec<_> = sources.filter(|(source, _, _)| source.iter().any(|part| part == "src")).collect();
        for (source, is_lib, is_tested) in &sources {
            if *is_tested {
                continue;
            }
            without += 1;
            let mut read = vec![source.clone()];
            if *is_lib {
                files(source.parent().expect("a folder"), "rs", &mut read);
                read.retain(|file| file == source || sources.iter().all(|(other, _, _)| other != file));
            }
            let has_tests = |file: &PathBuf| {
                let text = fs::read_to_string(file).expect("a source");
                // A program has its tests in its own file or in a module of its own.
                text.contains("#[test]") || text.contains("::test") || !is_lib && text.contains("\nmod ")
            };
            forgotten.extend(read.into_iter().filter(has_tests));
        }
    }
    assert!(without > 0, "found no target without tests: the filter is wrong");
    assert!(forgotten.is_empty(), "`test = false`, but there are or may be tests: {forgotten:?}");
}

fn ours(importer: &str, imported: &str) -> Option<&'static str> {
    let allowed = OURS.iter().find(|(name, _)| *name == importer).map_or(&[][..], |(_, list)| list);
    match (importer, imported) {
        (importer, _) if importer.starts_with("tests/") => None,
        (_, imported) if imported.starts_with("tests/") => Some("nothing imports tests"),
        ("services/twinlock", _) => None,
        (importer, imported) if importer.starts_with("services/") => {
            imported.starts_with("services/").then_some("a service never imports a service")
        }
        _ => (!allowed.contains(&imported)).then_some("not below its layer"),
    }
}

fn foreign(importer: &str, name: &str) -> Option<&'static str> {
    if PURE.contains(&importer) && NOT_IN_PURE.contains(&name) {
        return Some("a pure crate does no I/O, runs no task and does not log");
    }
    let may = importer == "services/user-store" || importer.starts_with("tests/");
    (DATABASE.contains(&name) && !may).then_some("only user-store has a database")
}

fn folder(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("inside the workspace").to_string_lossy().into_owned()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1"]).output();
    serde_json::from_slice(&output.expect("cargo metadata runs").stdout).expect("cargo metadata prints JSON")
}
