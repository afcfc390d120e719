//! A mail server by others (PyPI aiosmtpd): STARTTLS and a login are demanded, and what comes is kept.

use super::Mood;
use crate::{Certificate, Proc, free_port, program, repository};
use anyhow::Context;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A mail as the server read it.
#[derive(Debug, Clone)]
pub struct ReceivedMail(pub serde_json::Value);

impl ReceivedMail {
    /// `from`, `subject`, `text`, `html`, `message_id`, `auto_submitted`, `reply_to`
    pub fn field(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    pub fn to(&self) -> &str {
        self.0["to"][0].as_str().unwrap_or_default()
    }

    pub fn is_private(&self) -> bool {
        self.0["tls"] == true && self.0["authenticated"] == true
    }
}

pub struct SmtpSink {
    port: u16,
    dir: PathBuf,
    _process: Proc,
}

impl SmtpSink {
    pub const USER: &'static str = "twinlock";

    /// `certificate` is one for `localhost`.
    pub fn start(dir: &Path, certificate: &Certificate, password: &str) -> anyhow::Result<Self> {
        let port = free_port();
        let mut command = Command::new(program("python")?);
        command.arg(repository().join("tests/lab/data/smtp_sink.py")).arg(dir).arg(port.to_string());
        command.arg(&certificate.certificate).arg(&certificate.key).args([Self::USER, password]);
        let process = Proc::spawn("smtp sink", command, &dir.join("smtp_sink.log"))?;
        crate::wait_until("the mail server", Duration::from_secs(60), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .with_context(|| process.log())?;
        Ok(Self { port, dir: dir.into(), _process: process })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set_mood(&self, mood: Mood) {
        let word = match mood {
            // SMTP has no way to say yes twice.
            Mood::Accept | Mood::Double => "accept".to_owned(),
            Mood::Delay(ms) => format!("delay {ms}"),
            Mood::Drop => "drop".into(),
            Mood::Refuse => "refuse".into(),
            Mood::Lie => "lie".into(),
        };
        std::fs::write(self.dir.join("mood"), word).expect("the folder is there");
    }

    pub fn received(&self) -> Vec<ReceivedMail> {
        let log = std::fs::read_to_string(self.dir.join("mails")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok().map(ReceivedMail)).collect()
    }
}
