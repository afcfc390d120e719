//! Drives an operation in an open or a closed loop and measures it.
//!
//! In an open loop the latency of an operation counts from when it was due, not from when it could begin: a server that
//! stalls is seen to stall (no coordinated omission).

use crate::cpu;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub shape: Shape,
    pub duration: Duration,
    /// End after so many operations, should the time not be over before.
    pub operations_max: Option<u64>,
    pub server_pid: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Closed { workers: usize },
    Open { per_second: u32 },
}

/// At most so many operations at once in an open loop; what is due beyond counts as not begun.
const IN_FLIGHT_MAX: usize = 60_000;

/// How one operation ended: `"accept"`, `"reject"`, `"timeout"` ...
pub type Ending = &'static str;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub what: &'static str,
    pub shape: String,
    seconds: f64,
    pub operations: u64,
    pub per_second: f64,
    pub endings: BTreeMap<Ending, u64>,
    pub not_begun: u64,
    pub milliseconds: Percentiles,
    /// CPU time of the server for each operation, where its process id was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_microseconds: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    p90: f64,
    pub p99: f64,
    p999: f64,
    max: f64,
}

pub async fn drive<O, F>(what: &'static str, load: Load, operation: O) -> Report
where
    O: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Ending> + Send,
{
    drive_each(what, load, operation, |_| {}).await
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// When it was due, from the begin of the load.
    pub due: Duration,
    pub latency: Duration,
    pub ending: Ending,
}

/// The same, and tells of each when it has ended.
pub async fn drive_each<O, F>(what: &'static str, load: Load, operation: O, mut each: impl FnMut(Done)) -> Report
where
    O: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Ending> + Send,
{
    let operation = Arc::new(operation);
    let cpu_before = load.server_pid.and_then(cpu::ticks);
    let begin = Instant::now();
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Duration, Ending)>();
    let driver = tokio::spawn(async move {
        match load.shape {
            Shape::Closed { workers } => {
                let limit = load.operations_max.unwrap_or(u64::MAX);
                closed(workers, begin + load.duration, limit, operation, sender).await
            }
            Shape::Open { per_second } => open(per_second, begin, load.duration, operation, sender).await,
        }
    });
    let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid");
    let mut endings: BTreeMap<Ending, u64> = BTreeMap::new();
    while let Some((due, latency, ending)) = receiver.recv().await {
        each(Done { due: due.saturating_duration_since(begin), latency, ending });
        histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        *endings.entry(ending).or_default() += 1;
    }
    let not_begun = driver.await.unwrap_or_default();
    let seconds = begin.elapsed().as_secs_f64();
    let operations = histogram.len();
    let milliseconds = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    let cpu = cpu_before.zip(load.server_pid.and_then(cpu::ticks));
    Report {
        what,
        shape: match load.shape {
            Shape::Closed { workers } => format!("closed, {workers} at once"),
            Shape::Open { per_second } => format!("open, {per_second} a second"),
        },
        seconds,
        operations,
        per_second: operations as f64 / seconds,
        endings,
        not_begun,
        milliseconds: Percentiles {
            p50: milliseconds(0.5),
            p90: milliseconds(0.9),
            p99: milliseconds(0.99),
            p999: milliseconds(0.999),
            max: histogram.max() as f64 / 1000.0,
        },
        server_cpu_microseconds: cpu
            .map(|(before, after)| ((after - before) * cpu::TICK_MICROSECONDS) as f64 / operations.max(1) as f64),
    }
}

async fn closed<O, F>(
    workers: usize,
    end: Instant,
    limit: u64,
    operation: Arc<O>,
    sender: mpsc::UnboundedSender<(Instant, Duration, Ending)>,
) -> u64
where
    O: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Ending> + Send,
{
    let mut tasks = JoinSet::new();
    let begun = Arc::new(AtomicU64::new(0));
    for _ in 0..workers {
        let (operation, sender, begun) = (operation.clone(), sender.clone(), begun.clone());
        tasks.spawn(async move {
            while Instant::now() < end && begun.fetch_add(1, Ordering::Relaxed) < limit {
                let begin = Instant::now();
                let ending = operation().await;
                let _ = sender.send((begin, begin.elapsed(), ending));
            }
        });
    }
    drop(sender);
    while tasks.join_next().await.is_some() {}
    0
}

async fn open<O, F>(
    per_second: u32,
    begin: Instant,
    duration: Duration,
    operation: Arc<O>,
    sender: mpsc::UnboundedSender<(Instant, Duration, Ending)>,
) -> u64
where
    O: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Ending> + Send,
{
    let count = u64::from(per_second) * duration.as_secs();
    let interval = Duration::from_secs(1) / per_second.max(1);
    let mut tasks = JoinSet::new();
    let mut not_begun = 0;
    for number in 0..count {
        let due = begin + interval * u32::try_from(number).unwrap_or(u32::MAX);
        sleep_until(due.into()).await;
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= IN_FLIGHT_MAX {
            not_begun += 1;
            continue;
        }
        let (operation, sender) = (operation.clone(), sender.clone());
        tasks.spawn(async move {
            let ending = operation().await;
            let _ = sender.send((due, due.elapsed(), ending));
        });
    }
    drop(sender);
    while tasks.join_next().await.is_some() {}
    not_begun
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_loop_counts_the_wait_for_a_stalled_server() {
        // 50 a second for 1 s against a server that answers nothing for its first 600 ms: many must have waited long.
        let stalled_until = Instant::now() + Duration::from_millis(600);
        let load = Load {
            shape: Shape::Open { per_second: 50 },
            duration: Duration::from_secs(1),
            operations_max: None,
            server_pid: None,
        };
        let report = drive("test", load, move || async move {
            sleep_until(stalled_until.into()).await;
            "accept"
        })
        .await;
        assert_eq!(report.operations, 50);
        assert!(report.milliseconds.p50 > 50.0, "{:?}", report.milliseconds);
    }

    #[tokio::test]
    async fn a_closed_loop_counts_every_ending() {
        let load = Load {
            shape: Shape::Closed { workers: 2 },
            duration: Duration::from_millis(200),
            operations_max: None,
            server_pid: Some(std::process::id()),
        };
        let report = drive("test", load, || async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            "reject"
        })
        .await;
        assert_eq!(report.endings.get("reject"), Some(&report.operations));
        assert!(report.operations >= 10 && report.server_cpu_microseconds.is_some());
    }
}
