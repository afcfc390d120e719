//! Process configuration: default < one TOML file < environment < command line, strict, with the origin of each value kept so that an
//! error says file, line, key, what was found, what is allowed and the nearest known name. Sections that every process has live here;
//! a service embeds them as fields of its own struct.

mod sections;
mod tree;

pub(crate) use sections::suite_name;
pub use sections::{
    BusSection, BusUrl, CipherSuite, GrpcSection, InputFile, LogFormat, LogLevel, LogSection, ManagementSection,
    ShutdownSection, TelemetrySection, TlsSection, TlsVersion,
};

use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// What `load` reads, in rising order of rank: file, environment, overrides. `from_process` is what a program uses.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, which must be there. `None`: defaults and what follows.
    pub file: Option<PathBuf>,
    /// Names and values; only `TWINLOCK_<SECTION>__<KEY>` is looked at.
    pub environment: Vec<(String, String)>,
    /// `section.key` and value, from the command line.
    pub overrides: Vec<(String, String)>,
}

/// The configuration cannot be used: the operator's to mend, exit code 78. All that is wrong is said in one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("the configuration file {} cannot be read", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{}:{line}: not TOML: {found}", path.display())]
    Syntax { path: PathBuf, line: usize, found: String },
    /// A key is unknown, missing or has a value that is not allowed.
    #[error("{origin}: {key}: {problem}")]
    Key { origin: Origin, key: String, problem: String },
    #[error("{argument}: not understood; allowed: --config FILE, --set section.key=value")]
    Argument { argument: String },
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is missing, and no file was given.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    Environment {
        variable: String,
    },
    CommandLine,
}

/// Reads the configuration of a process.
pub fn load<T: DeserializeOwned>(sources: &Sources) -> Result<T, ConfigError> {
    tree::load(sources)
}

impl Sources {
    /// The sources of this process: `--config FILE` (else `TWINLOCK_CONFIG`, else `/etc/twinlock/<name>.toml` where that exists),
    /// the environment, and every `--set section.key=value`.
    pub fn from_process(name: &str) -> Result<Self, ConfigError> {
        Self::from_arguments(name, std::env::args().skip(1))
    }

    /// The same from arguments that a command line of its own has left over.
    pub fn from_arguments(name: &str, arguments: impl Iterator<Item = String>) -> Result<Self, ConfigError> {
        let mut sources = Self { environment: std::env::vars_os().filter_map(utf8).collect(), ..Self::default() };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let (option, value) = match argument.split_once('=') {
                Some((option, value)) if argument.starts_with("--") => (option.to_owned(), Some(value.to_owned())),
                _ => (argument.clone(), arguments.next()),
            };
            match (option.as_str(), value) {
                ("--config", Some(file)) => sources.file = Some(file.into()),
                ("--set", Some(pair)) if pair.contains('=') => {
                    let (key, value) = pair.split_once('=').expect("just seen");
                    sources.overrides.push((key.to_owned(), value.to_owned()));
                }
                _ => return Err(ConfigError::Argument { argument }),
            }
        }
        if sources.file.is_none() {
            let named = std::env::var_os("TWINLOCK_CONFIG").map(PathBuf::from);
            let usual = PathBuf::from(format!("/etc/twinlock/{name}.toml"));
            sources.file = named.or_else(|| usual.exists().then_some(usual));
        }
        Ok(sources)
    }
}

fn utf8((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => out.write_str("configuration"),
            Self::File { path, line } => write!(out, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(out, "environment {variable}"),
            Self::CommandLine => out.write_str("command line"),
        }
    }
}
