//! Thousands who have typed their password and are being asked on their phones: what one of them costs the gateway, and
//! whether it still answers everybody else.
//!
//! `twinlock-radius-gateway` as it is shipped, a real directory, and [`crate::doubles`]. Every request is sent once: a
//! datagram that nobody took is a login that is lost.

use crate::{
    doubles::{self, Doubles, Phones},
    world::folder,
};
use anyhow::{Context, Result, ensure};
use bench::{cpu, page};
use clap::Args;
use hdrhistogram::Histogram;
use lab::{Pki, Proc, RADIUS_SECRET, Slapd, SlapdOptions, free_port, our_program, password_of};
use radius_wire::{Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret, Sent};
use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

/// An octet tells the requests of one socket apart.
const IDENTIFIERS: usize = 256;
/// Let in at once, before anything is measured: connections are open then, and code is in memory.
const WARM_UP: usize = 2 * IDENTIFIERS;
const TICK: Duration = Duration::from_millis(10);
const STATUS_EVERY: Duration = Duration::from_millis(20);
/// The default of `reply_kept_seconds`, and a little.
const REPLIES_KEPT: Duration = Duration::from_secs(33);

#[derive(Debug, Args)]
pub struct Waits {
    /// How many wait at once; one measurement for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [20_000, 50_000])]
    waiting: Vec<usize>,
    /// They come at this rate.
    #[arg(long, default_value_t = 1_500)]
    arrivals: usize,
    /// What everybody takes to approve.
    #[arg(long, default_value_t = 60)]
    approval_seconds: u64,
}

struct Figures {
    waiting: usize,
    resident_kib: Resident,
    cpu_microseconds: f64,
    all_along: Statuses,
    while_all_wait: Statuses,
    accepted: usize,
}

struct Resident {
    before: u64,
    highest: u64,
    after: u64,
}

/// How Status-Server was answered, in microseconds.
struct Statuses {
    took: Histogram<u64>,
    unanswered: u64,
}

pub async fn run(waits: &Waits, page: Option<&Path>) -> Result<()> {
    let mut figures = Vec::new();
    for &count in &waits.waiting {
        let approval = Duration::from_secs(waits.approval_seconds);
        ensure!(
            count / waits.arrivals.max(1) < usize::try_from(waits.approval_seconds)?,
            "{count} do not wait at once: the first is through before the last has come"
        );
        figures.push(measure(count, waits.arrivals, approval).await?);
    }
    page::show(page, "waiting", &table(&figures))
}

async fn measure(count: usize, arrivals: usize, approval: Duration) -> Result<Figures> {
    let dir = folder()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let options = SlapdOptions { bulk_people: count + WARM_UP, ..Default::default() };
    let slapd = Slapd::start(dir.path(), &pki, &options)?;
    let doubles = Doubles::start(&pki, &doubles::Settings::new(&slapd, RADIUS_SECRET)?).await?;
    let gateway = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = start(dir.path(), &doubles, &pki, gateway)?;
    let pid = program.pid();
    let prober = Prober::new(gateway).await?;
    prober.wait_until_served().await.with_context(|| program.log())?;

    let everybody = 1..=count + WARM_UP;
    let mut first = Devices::new(gateway, WARM_UP).await?;
    first.send(everybody.clone().skip(count), arrivals).await?;
    first.wait(Instant::now() + approval).await;
    ensure!(first.accepted() == WARM_UP, "only {} of {WARM_UP} were let in:\n{}", first.accepted(), program.log());
    drop(first);
    sleep(REPLIES_KEPT).await;
    let before = lab::resident_kib(pid).context("the gateway runs")?;
    let cpu_before = cpu::ticks(pid).context("the gateway runs")?;

    doubles.people.take(approval);
    let mut devices = Devices::new(gateway, count).await?;
    let (stop, stopped) = oneshot::channel();
    let probing = tokio::spawn(prober.probe(pid, doubles.people.clone(), count, stopped));
    devices.send(everybody.take(count), arrivals).await?;
    devices.wait(Instant::now() + approval + Duration::from_secs(20)).await;
    let _ = stop.send(());
    let Probed { all_along, while_all_wait, highest_kib } = probing.await??;
    let cpu = cpu::ticks(pid).context("the gateway runs")? - cpu_before;
    sleep(REPLIES_KEPT).await;
    let after = lab::resident_kib(pid).context("the gateway runs")?;
    Ok(Figures {
        waiting: count,
        resident_kib: Resident { before, highest: highest_kib, after },
        cpu_microseconds: (cpu * cpu::TICK_MICROSECONDS) as f64 / count as f64,
        all_along,
        while_all_wait,
        accepted: devices.accepted(),
    })
}

fn start(dir: &Path, doubles: &Doubles, pki: &Pki, gateway: SocketAddr) -> Result<Proc> {
    let config = dir.join("radius-gateway.toml");
    fs::write(&config, doubles::gateway_configuration(doubles, pki, free_port(), gateway.port())?)?;
    let mut command = Command::new(our_program("twinlock-radius-gateway")?);
    command.arg("--config").arg(&config);
    Proc::spawn("twinlock-radius-gateway", command, &dir.join("radius-gateway.log"))
}

/// Requests of many people, each under its own identifier and port.
struct Devices {
    ports: Vec<Arc<DevicePort>>,
    secret: Secret,
    expected: usize,
    counts: Arc<Counts>,
    /// One for each port. They end with it.
    _readers: JoinSet<()>,
}

struct DevicePort {
    socket: UdpSocket,
    /// By identifier, what has no answer yet.
    open: Mutex<Vec<Option<Sent>>>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    /// A Reject, or what no device believes.
    other: AtomicUsize,
}

impl Devices {
    async fn new(gateway: SocketAddr, expected: usize) -> Result<Self> {
        let (mut ports, mut readers, counts) = (Vec::new(), JoinSet::new(), Arc::new(Counts::default()));
        for _ in 0..expected.div_ceil(IDENTIFIERS) {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.connect(gateway).await?;
            let port = Arc::new(DevicePort { socket, open: Mutex::new(vec![None; IDENTIFIERS]) });
            readers.spawn(read(port.clone(), secret()?, counts.clone()));
            ports.push(port);
        }
        Ok(Self { ports, secret: secret()?, expected, counts, _readers: readers })
    }

    /// One request for each person, at a steady rate.
    async fn send(&mut self, people: impl Iterator<Item = usize>, per_second: usize) -> Result<()> {
        let begin = Instant::now();
        for (number, person) in people.enumerate() {
            let due = begin + Duration::from_secs(1).mul_f64(number as f64 / per_second as f64);
            if due > Instant::now() + TICK {
                sleep_until(due.into()).await;
            }
            let port = &self.ports[number / IDENTIFIERS];
            let identifier = u8::try_from(number % IDENTIFIERS)?;
            let name = format!("bulk{person:05}");
            let request = Request {
                code: RequestCode::AccessRequest,
                identifier,
                authenticator: random()?,
                attributes: &[
                    Attribute { kind: AttributeType::USER_NAME, value: name.as_bytes() },
                    Attribute { kind: AttributeType::CALLING_STATION_ID, value: name.as_bytes() },
                ],
                password: Some(&password_of(&name)),
            };
            port.open()[usize::from(identifier)] = Some(request.sent());
            port.socket.send(&request.write(&self.secret)?).await?;
        }
        Ok(())
    }

    /// Until all are answered, or nobody believes any more that they will be.
    async fn wait(&self, limit: Instant) {
        let answered = || self.accepted() + self.counts.other.load(Ordering::Relaxed);
        while answered() < self.expected && Instant::now() < limit {
            sleep(TICK).await;
        }
    }

    fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }
}

impl DevicePort {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<Option<Sent>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(port: Arc<DevicePort>, secret: Secret, counts: Arc<Counts>) {
    let mut buffer = [0; 4096];
    while let Ok(length) = port.socket.recv(&mut buffer).await {
        let sent = buffer.get(1).and_then(|identifier| port.open()[usize::from(*identifier)].take());
        let code = sent.and_then(|sent| answer(&buffer[..length], &sent, &secret));
        let count = if code == Some(Code::AccessAccept) { &counts.accepted } else { &counts.other };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a genuine reply to a request says.
fn answer(octets: &[u8], sent: &Sent, secret: &Secret) -> Option<Code> {
    let packet = Packet::parse(octets, Port::AuthenticationReplies).ok()?;
    radius_wire::verify_reply(&packet, sent, secret, Rule::Yes).ok()?;
    Some(packet.code())
}

fn secret() -> Result<Secret> {
    Secret::new(RADIUS_SECRET).context("it is not empty")
}

fn random() -> Result<[u8; 16]> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)?;
    Ok(octets)
}

/// Asks again and again whether the gateway is there.
struct Prober {
    socket: UdpSocket,
    secret: Secret,
}

struct Probed {
    all_along: Statuses,
    while_all_wait: Statuses,
    highest_kib: u64,
}

struct Question {
    sent: Sent,
    due: Instant,
    /// Everybody was being asked when it was sent.
    all_wait: bool,
}

impl Prober {
    async fn new(gateway: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(gateway).await?;
        Ok(Self { socket, secret: secret()? })
    }

    /// It answers when it has its settings and has reached verification.
    async fn wait_until_served(&self) -> Result<()> {
        for number in 0..=u8::MAX {
            if self.ask(number, Duration::from_millis(100)).await? {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("the gateway never answered")
    }

    /// Until told to stop. Every question is sent when it is due, and the time of its answer counts from then.
    async fn probe(
        self,
        pid: u32,
        people: Arc<Phones>,
        count: usize,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<Probed> {
        let mut probed = Probed { all_along: Statuses::new()?, while_all_wait: Statuses::new()?, highest_kib: 0 };
        let mut open: Vec<Option<Question>> = Vec::from_iter((0..IDENTIFIERS).map(|_| None));
        let (mut due, mut identifier, mut buffer) = (Instant::now(), 0_u8, [0; 4096]);
        loop {
            // Cancel safety: all three only wait.
            tokio::select! {
                _ = &mut stopped => break,
                () = sleep_until(due.into()) => {
                    let place = &mut open[usize::from(identifier)];
                    if let Some(question) = place.take() {
                        probed.count(&question, None);
                    }
                    let all_wait = people.asked() == count;
                    *place = Some(Question { sent: self.send(identifier).await?, due, all_wait });
                    probed.highest_kib = probed.highest_kib.max(lab::resident_kib(pid).unwrap_or_default());
                    (due, identifier) = (due + STATUS_EVERY, identifier.wrapping_add(1));
                }
                length = self.socket.recv(&mut buffer) => {
                    let octets = &buffer[..length?];
                    let Some(place) = octets.get(1).map(|identifier| &mut open[usize::from(*identifier)]) else { continue };
                    let genuine = |question: &mut Question| answer(octets, &question.sent, &self.secret).is_some();
                    if let Some(question) = place.take_if(genuine) {
                        probed.count(&question, Some(question.due.elapsed()));
                    }
                }
            }
        }
        // The last ones may be on their way.
        let late = |question: &Question| question.due.elapsed() > Duration::from_secs(1);
        open.iter().flatten().filter(|question| late(question)).for_each(|question| probed.count(question, None));
        ensure!(probed.while_all_wait.asked() > 0, "{count} never waited at once");
        Ok(probed)
    }

    async fn ask(&self, identifier: u8, limit: Duration) -> Result<bool> {
        let sent = self.send(identifier).await?;
        let heard = async {
            let mut buffer = [0; 4096];
            loop {
                match self.socket.recv(&mut buffer).await {
                    Ok(length) if answer(&buffer[..length], &sent, &self.secret).is_some() => return,
                    // Nobody listens there yet.
                    Err(_) => sleep(TICK).await,
                    Ok(_) => {}
                }
            }
        };
        Ok(timeout(limit, heard).await.is_ok())
    }

    async fn send(&self, identifier: u8) -> Result<Sent> {
        let authenticator = random()?;
        let request =
            Request { code: RequestCode::StatusServer, identifier, authenticator, attributes: &[], password: None };
        // What the kernel says here is of the datagram before: nobody listened yet.
        let _ = self.socket.send(&request.write(&self.secret)?).await;
        Ok(request.sent())
    }
}

impl Probed {
    fn count(&mut self, question: &Question, took: Option<Duration>) {
        self.all_along.count(took);
        if question.all_wait {
            self.while_all_wait.count(took);
        }
    }
}

impl Statuses {
    fn new() -> Result<Self> {
        Ok(Self { took: Histogram::new_with_bounds(1, 60_000_000, 3)?, unanswered: 0 })
    }

    fn asked(&self) -> u64 {
        self.took.len() + self.unanswered
    }

    fn count(&mut self, took: Option<Duration>) {
        match took {
            Some(took) => self.took.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            None => self.unanswered += 1,
        }
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
        let quantile = |quantile| milliseconds(self.took.value_at_quantile(quantile));
        write!(
            formatter,
            "{:.2} / {:.2} / {:.2} ({} of {} answered)",
            quantile(0.5),
            quantile(0.99),
            milliseconds(self.took.max()),
            self.took.len(),
            self.asked(),
        )
    }
}

fn table(all: &[Figures]) -> String {
    let mebi = |kibi: u64| format!("{:.1}", kibi as f64 / 1024.0);
    let each = |figures: &Figures| {
        let Resident { before, highest, .. } = figures.resident_kib;
        format!("{:.2}", highest.saturating_sub(before) as f64 / figures.waiting as f64)
    };
    type Value<'a> = &'a dyn Fn(&Figures) -> String;
    let rows: [(&str, &str, Value<'_>); 8] = [
        ("resident before, MiB", "", &|figures| mebi(figures.resident_kib.before)),
        ("resident at the peak, MiB", "", &|figures| mebi(figures.resident_kib.highest)),
        ("resident after, MiB", "", &|figures| mebi(figures.resident_kib.after)),
        ("memory per waiting login, KiB", "P-08: ≤ 4, stretch ≤ 2", &each),
        ("Status-Server all along, p50 / p99 / max, ms", "", &|figures| figures.all_along.to_string()),
        ("Status-Server while all wait, p50 / p99 / max, ms", "P-08: ≤ 10", &|figures| {
            figures.while_all_wait.to_string()
        }),
        ("CPU per login, µs", "", &|figures| format!("{:.0}", figures.cpu_microseconds)),
        ("Access-Accept", "all", &|figures| format!("{} of {}", figures.accepted, figures.waiting)),
    ];
    let mut text = String::from("| waiting at once |");
    for figures in all {
        let _ = write!(text, " {} |", figures.waiting);
    }
    let _ = writeln!(text, " goal |\n|---|{}---|", "---|".repeat(all.len()));
    for (name, goal, value) in rows {
        let _ = write!(text, "| {name} |");
        for figures in all {
            let _ = write!(text, " {} |", value(figures));
        }
        let _ = writeln!(text, " {goal} |");
    }
    text
}
