//! L-13 from end to end: a client that goes away while a phone rings has logged nobody in, whatever the phone then says. And S-22:
//! whoever is logged in, and may not be any more, is sent away.
//!
//! ```text
//! application ──bind──> gateway ──> slapd, which says yes
//!       └── leaves          └────> verification ──> phone: approves too late
//! ```

use anyhow::{Context, Result, bail, ensure};
use e2e::{Distributed, OneMachine, Pocket, code_of, last_attempt, socket_address};
use lab::{COMPANY_BASE, CommandLine, Proc, Slapd, SlapdOptions, password_of, program, wait_until};
use ldap_wire::{BindRequest, Framer, Limits, MessageId, Op, Password, Peer, bind};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

const WIKI: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const ANN: &str = "ann.archer";
/// Until a phone shows what it is asked, which looks every three seconds, or a session what it found.
const SHOWN: Duration = Duration::from_secs(20);
/// L-12: one second, and what the audit takes.
const NOTICED: Duration = Duration::from_secs(5);

const SETTINGS: &str = r#"
[[client]]
name = "wiki"
protocol = "ldap"
sources = ["127.0.0.7/32"]
target = "acme"
tls = "danger_optional"
wait_seconds = 50
remember = { kind = "user_source_password", idle_seconds = 300, life_seconds = 600 }

[[client]]
name = "shell"
protocol = "ldap"
sources = ["127.0.0.8/32"]
target = "acme"
tls = "danger_optional"
not_enrolled = "pass"
"#;
const SHELL: &str = "127.0.0.8";

/// Where it is asked, and where it is approved.
struct Product<'a> {
    command_line: &'a CommandLine,
    slapd: &'a Slapd,
    ldap_url: String,
    portal_url: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_left_is_not_let_in_by_an_approval_on_one_machine() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &[])?;
    machine.settings(SETTINGS).await?;
    let (ldap_url, portal_url) = (machine.twinlock.ldap_url(), machine.twinlock.portal_url());
    leaves(Product { command_line: machine.command_line(), slapd: &machine.slapd, ldap_url, portal_url }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_left_is_not_let_in_by_an_approval_on_many_machines() -> Result<()> {
    let distributed = Distributed::start(0, SETTINGS, "")?;
    // The phone talks to another node than the application.
    let (ldap_url, portal_url) = (distributed.cluster.ldap_url(1), distributed.cluster.portal_url(2));
    let command_line = distributed.command_line();
    leaves(Product { command_line, slapd: &distributed.slapd, ldap_url, portal_url }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_blocked_loses_the_session_on_one_machine() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &[])?;
    machine.settings(SETTINGS).await?;
    blocked_and_disabled(machine.command_line(), &machine.twinlock.ldap_url(), machine.dir.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_blocked_loses_the_session_on_many_machines() -> Result<()> {
    let distributed = Distributed::start(0, SETTINGS, "")?;
    blocked_and_disabled(distributed.command_line(), &distributed.cluster.ldap_url(2), distributed.dir.path())
}

fn blocked_and_disabled(command_line: &CommandLine, url: &str, dir: &Path) -> Result<()> {
    // S-22, FV-25
    let mut ann = Session::open(url, "ann.archer", dir)?;
    let mut ben = Session::open(url, "ben.hale", dir)?;
    let mut clara = Session::open(url, "clara.osborn", dir)?;
    command_line.run(&["user", "block", "ann.archer", "--reason", "phone stolen", "--yes"])?;
    ann.ends()?;
    command_line.run(&["user", "disable", "ben.hale", "--reason", "left"])?;
    ben.ends()?;
    ensure!(clara.0.is_running(), "nobody has said anything of this one: {}", clara.0.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_the_directory_disables_loses_the_session_with_the_run_that_finds_it() -> Result<()> {
    // S-22, FS-26: to the connection to the directory nothing has happened
    let options = SlapdOptions { database_lines: "moduleload ppolicy.la".into(), ..SlapdOptions::default() };
    let machine = OneMachine::start_over(&options, "", "", &[])?;
    machine.settings(SETTINGS).await?;
    let (url, dir) = (machine.twinlock.ldap_url(), machine.dir.path());
    let mut ann = Session::open(&url, ANN, dir)?;
    let mut ben = Session::open(&url, "ben.hale", dir)?;
    let dn = format!("uid={ANN},ou=engineering,ou=people,{COMPANY_BASE}");
    let forever = "replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z";
    machine.slapd.modify(&format!("dn: {dn}\nchangetype: modify\n{forever}\n"))?;
    ensure!(ann.0.is_running(), "{}", ann.0.log());
    machine.command_line().run(&["sync", "now"])?;
    ann.ends()?;
    ensure!(ben.0.is_running(), "nobody has said anything of this one: {}", ben.0.log());
    Ok(())
}

/// A search that does not end by itself, with the person's own rights.
struct Session(Proc);

impl Session {
    fn open(url: &str, uid: &str, dir: &Path) -> Result<Self> {
        // What it prints is read while it runs.
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(program("ldapsearch")?);
        command.env("LDAPSOCKET_BIND_ADDRESSES", SHELL);
        command.args(["-x", "-H", url, "-D", uid, "-w", &password_of(uid), "-b", COMPANY_BASE, "-E", "!sync=rp"]);
        command.args([&format!("(uid={uid})"), "cn"]);
        let session = Self(Proc::spawn("ldapsearch", command, &dir.join(format!("{uid}.session")))?);
        wait_until("the entry", SHOWN, || session.0.log().contains("\ncn: ")).with_context(|| session.0.log())?;
        Ok(session)
    }

    fn ends(&mut self) -> Result<()> {
        wait_until("the session to end", SHOWN, || !self.0.is_running()).with_context(|| self.0.log())
    }
}

#[derive(Debug, Clone, Copy)]
enum Leaves {
    Fin,
    Reset,
    Unbind,
}

async fn leaves(product: Product<'_>) -> Result<()> {
    service_kit::tls::install_provider();
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?;
    let mut pocket = Pocket::connect(product.command_line, &product.portal_url, &http, ANN).await?;
    // Each is asked anew: nothing is remembered of the one before.
    for how in [Leaves::Fin, Leaves::Reset] {
        product.nobody_comes_in(&mut pocket, how, 0).await.with_context(|| format!("{how:?}"))?;
    }
    // Whoever stays is let in, and remembered.
    let mut wire = Wire::connect(&product.ldap_url).await?;
    wire.send_bind(ANN, &password_of(ANN)).await?;
    let shown = pocket.shown(SHOWN).await?;
    ensure!(pocket.approve(&shown).await?, "the approval of whoever waits");
    ensure!(wire.code().await? == 0);
    ensure!(last_attempt(product.command_line, ANN)? == ("user_approved".to_owned(), "push".to_owned()));
    ensure!(product.allowed()? == 1 && product.remembered()? == 1);
    product.command_line.run(&["remember", "clear", ANN, "--yes"])?;
    product.nobody_comes_in(&mut pocket, Leaves::Unbind, 1).await.context("Unbind")?;
    ensure!(pocket.prompts == 4, "{} prompts", pocket.prompts);
    Ok(())
}

impl Product<'_> {
    /// A client leaves while the phone shows its question, and the phone approves then. `allowed` were let in before.
    async fn nobody_comes_in(&self, pocket: &mut Pocket, how: Leaves, allowed: usize) -> Result<()> {
        let before = self.ended()?;
        let (mut wire, binds) = (Wire::connect(&self.ldap_url).await?, self.slapd.binds(ANN));
        wire.send_bind(ANN, &password_of(ANN)).await?;
        let shown = pocket.shown(SHOWN).await?;
        ensure!(self.slapd.binds(ANN) == binds + 1, "the directory has said yes");
        wire.leave(how).await?;
        self.notices(before).await?;
        ensure!(!pocket.approve(&shown).await?, "the approval counted");
        ensure!(self.allowed()? == allowed, "an Allow");
        ensure!(self.ended()? == before + 1, "more than one event of the attempt");
        ensure!(self.remembered()? == 0, "something is remembered");
        Ok(())
    }

    /// Attempts that have ended.
    fn ended(&self) -> Result<usize> {
        Ok(self.command_line.audit()?.iter().filter(|event| event["kind"] == "authentication").count())
    }

    /// Those that were let in.
    fn allowed(&self) -> Result<usize> {
        let lets_in = |reason: &str| ["user_approved", "remembered"].contains(&reason);
        let events = self.command_line.audit()?;
        Ok(events.iter().filter(|event| event["reason"].as_str().is_some_and(lets_in)).count())
    }

    fn remembered(&self) -> Result<usize> {
        let remembered = self.command_line.json(&["remember", "list"])?;
        Ok(remembered["items"].as_array().context("a list")?.len())
    }

    /// The attempt that waited has ended, and the audit says why.
    async fn notices(&self, before: usize) -> Result<()> {
        let end = Instant::now() + NOTICED;
        while self.ended()? == before {
            ensure!(Instant::now() < end, "nobody notices that the client has left");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (reason, _) = last_attempt(self.command_line, ANN)?;
        // Verification, whose prompt nobody waits for, and the gateway both say it; the first one counts.
        ensure!(["user_cancelled", "no_answer"].contains(&&*reason), "{reason}");
        Ok(())
    }
}

/// An application that can be torn away from its connection.
struct Wire(TcpStream);

impl Wire {
    async fn connect(url: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((WIKI, 0)))?;
        Ok(Self(socket.connect(socket_address(url)?).await?))
    }

    async fn send_bind(&mut self, name: &str, password: &str) -> Result<()> {
        let request = BindRequest::simple(name.as_bytes().to_vec(), Password::new(password));
        let id = MessageId::new(1).context("an id")?;
        Ok(self.0.write_all(&request.encode(id, &[])).await?)
    }

    async fn leave(mut self, how: Leaves) -> Result<()> {
        match how {
            Leaves::Fin => {}
            Leaves::Reset => self.0.set_zero_linger()?,
            Leaves::Unbind => {
                self.0.write_all(&bind::unbind_request(MessageId::new(2).context("an id")?)).await?;
                // It is the gateway that closes, and without a word.
                let read = tokio::time::timeout(NOTICED, self.0.read(&mut [0; 64])).await.context("it stays open")?;
                ensure!(read.unwrap_or(0) == 0, "an answer to an Unbind");
            }
        }
        Ok(())
    }

    /// Of the answer to the bind.
    async fn code(mut self) -> Result<u32> {
        let (framer, mut received) = (Framer::new(Peer::Server, Limits::UPSTREAM), bytes::BytesMut::new());
        loop {
            if let Some(message) = framer.next_message(&mut received)? {
                ensure!(message.op() == Op::BindResponse, "{message:?}");
                return code_of(&message);
            }
            if tokio::time::timeout(SHOWN, self.0.read_buf(&mut received)).await?? == 0 {
                bail!("closed without an answer");
            }
        }
    }
}
