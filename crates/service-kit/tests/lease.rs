//! One leader at a time, and the next one when it goes, on both buses.

mod nats;

use nats::NatsServer;
use service_kit::bus::{Bus, InProcess, MapOptions};
use service_kit::lease::Lease;
use service_kit::{Process, Shutdown};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Long against what a busy machine keeps a renewal or an answer of NATS waiting.
const TTL: Duration = Duration::from_secs(6);

/// Who began and ended a term, in order.
#[derive(Clone, Default)]
struct Terms(Arc<Mutex<Vec<(&'static str, bool)>>>);

impl Terms {
    fn note(&self, who: &'static str, begins: bool) {
        self.0.lock().expect("no panic").push((who, begins));
    }

    fn leaders(&self) -> Vec<&'static str> {
        let mut leading = Vec::new();
        for (who, begins) in self.0.lock().expect("no panic").iter() {
            match begins {
                true => leading.push(*who),
                false => leading.retain(|leader| leader != who),
            }
        }
        leading
    }

    fn most_at_once(&self) -> usize {
        let mut count: usize = 0;
        let notes = self.0.lock().expect("no panic");
        notes
            .iter()
            .map(|(_, begins)| {
                count = if *begins { count + 1 } else { count - 1 };
                count
            })
            .max()
            .unwrap_or(0)
    }

    async fn until(&self, what: &str, wanted: impl Fn(&[&'static str]) -> bool) -> &'static str {
        let limit = Instant::now() + Duration::from_secs(60);
        while !wanted(&self.leaders()) {
            assert!(Instant::now() < limit, "never: {what}; leaders {:?}", self.leaders());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.leaders().first().copied().unwrap_or_default()
    }
}

/// Ends its term when it is dropped.
struct Term(Terms, &'static str);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.note(self.1, false);
    }
}

struct Candidate {
    who: &'static str,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

fn stand(bus: &Arc<dyn Bus>, who: &'static str, terms: &Terms) -> Candidate {
    let process = Process::detached("test");
    let shutdown = process.shutdown().clone();
    let map = bus.map("test_leases", MapOptions { ttl: TTL, ..MapOptions::default() });
    let lease = Lease { map, key: "leader".to_owned(), me: who.to_owned(), ttl: TTL };
    let terms = terms.clone();
    let task = tokio::spawn(lease.run(shutdown.clone(), move |leadership| {
        let terms = terms.clone();
        async move {
            assert!(leadership.token > 0);
            let _term = Term(terms.clone(), who);
            terms.note(who, true);
            std::future::pending::<()>().await;
        }
    }));
    Candidate { who, shutdown, task }
}

fn take(candidates: &mut Vec<Candidate>, who: &str) -> Candidate {
    let place = candidates.iter().position(|candidate| candidate.who == who).expect("stands");
    candidates.remove(place)
}

async fn one_leads_and_the_next_one_follows(bus: Arc<dyn Bus>) {
    let terms = Terms::default();
    let mut candidates: Vec<_> = ["a", "b", "c"].into_iter().map(|who| stand(&bus, who, &terms)).collect();
    let first = terms.until("a first leader", |leaders| leaders.len() == 1).await;
    tokio::time::sleep(TTL * 3 / 2).await;
    assert_eq!(terms.leaders(), [first], "renewed, so nobody else");

    // A drain gives it back: the next one need not wait for the time to live.
    let leaving = take(&mut candidates, first);
    let begun = Instant::now();
    leaving.shutdown.begin();
    let second = terms.until("a second leader", |leaders| leaders.first().is_some_and(|leader| *leader != first)).await;
    assert!(begun.elapsed() < TTL / 2, "took {:?}", begun.elapsed());
    leaving.task.await.expect("ended");

    // A crash does not.
    let crashing = take(&mut candidates, second);
    let begun = Instant::now();
    crashing.task.abort();
    let third = terms.until("a third leader", |leaders| leaders.first().is_some_and(|leader| *leader != second)).await;
    assert!(third != first && begun.elapsed() < TTL * 2, "{third} after {:?}", begun.elapsed());
    assert_eq!(terms.most_at_once(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_process_one_leads_and_the_next_one_follows() {
    one_leads_and_the_next_one_follows(Arc::new(InProcess::new())).await;
}

#[tokio::test]
async fn on_nats_one_leads_and_the_next_one_follows() {
    let (server, process) = (NatsServer::start(), Process::detached("test"));
    one_leads_and_the_next_one_follows(server.connect(&process)).await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_steps_down_before_anybody_can_follow() {
    let (mut server, process) = (NatsServer::start(), Process::detached("test"));
    let (bus, terms) = (server.connect(&process), Terms::default());
    let _candidates: Vec<_> = ["a", "b"].into_iter().map(|who| stand(&bus, who, &terms)).collect();
    terms.until("a leader", |leaders| leaders.len() == 1).await;
    let begun = Instant::now();
    server.kill();
    terms.until("nobody", <[_]>::is_empty).await;
    assert!(begun.elapsed() < TTL, "stepped down after {:?}", begun.elapsed());
    server.start_again();
    terms.until("a leader again", |leaders| leaders.len() == 1).await;
    assert_eq!(terms.most_at_once(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_gives_the_lease_to_another() {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    let terms = Terms::default();
    let process = Process::detached("test");
    for who in ["a", "b"] {
        let map = bus.map("test_leases", MapOptions { ttl: TTL, ..MapOptions::default() });
        let lease = Lease { map, key: "leader".to_owned(), me: who.to_owned(), ttl: TTL };
        let terms = terms.clone();
        tokio::spawn(lease.run(process.shutdown().clone(), move |_| {
            let terms = terms.clone();
            async move {
                let _term = Term(terms.clone(), who);
                terms.note(who, true);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }
    terms.until("a leads", |leaders| leaders == ["a"]).await;
    terms.until("b leads", |leaders| leaders == ["b"]).await;
    assert_eq!(terms.most_at_once(), 1);
}
