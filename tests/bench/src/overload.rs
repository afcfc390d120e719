//! Twice as many logins as there is capacity for, and what becomes of them; then half as many, and when all is well again (T-10).
//!
//! ```text
//! closed loop: the capacity -> open loop: half of it -> twice of it, as long as wanted -> half of it
//! ```
//! Beside it somebody asks Status-Server ten times a second, and the memory of the server is read.

use crate::ldap;
use crate::load::{Done, Ending, Load, Report, Shape, drive_each};
use crate::people::{Login, People};
use crate::ports::{Patience, Ports, code_of};
use crate::radius;
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use radius_wire::{Code, RequestCode};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

/// The server that is loaded.
#[derive(Debug, Clone)]
pub struct Server {
    pub pid: u32,
    pub radius: SocketAddr,
    pub radius_secret: String,
    pub ldap: SocketAddr,
    /// Of a search behind each bind.
    pub ldap_base: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// PAP, password and code in one field.
    Radius,
    /// A new connection, a bind with password and code, a search.
    Ldap,
}

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Logins at once while the capacity is measured.
    pub workers: usize,
    /// For the capacity, and for half of it before.
    pub calm: Duration,
    /// Less long where codes are used up before.
    pub overload: Duration,
    /// Half of the capacity behind it.
    pub after: Duration,
}

pub struct Outcome {
    /// Logins a second, in a closed loop.
    pub capacity: f64,
    pub before: Phase,
    pub during: Phase,
    pub after: Phase,
    pub statuses: Statuses,
    pub resident: Resident,
}

/// How logins at one rate ended.
pub struct Phase {
    pub per_second: u32,
    pub seconds: f64,
    pub endings: BTreeMap<Ending, u64>,
    /// In milliseconds, of those that were let in.
    pub accepted: Histogram<u64>,
    /// By the second in which they were due.
    logins: BTreeMap<u64, Second>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Second {
    due: u64,
    accepted: u64,
    /// Answered as they should be.
    right: u64,
    /// Of those let in.
    longest: Duration,
}

/// Status-Server during the overload.
#[derive(Debug, Default)]
pub struct Statuses {
    pub asked: u64,
    pub answered: u64,
    pub longest: Duration,
}

/// In KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resident {
    pub before: u64,
    /// Of the first and of the second half of the overload.
    pub peaks: [u64; 2],
    pub after: u64,
}

/// How a right password with a right code ends.
pub const ACCEPT: Ending = "accept";
/// How a wrong password ends that is answered.
pub const REFUSED: Ending = "wrong, and refused";
/// How none may end.
pub const WRONGLY: Ending = "wrong, and let in";
/// So many have the wrong password: one of.
const WRONG: u64 = 20;

/// As long as somebody who is let in at once may wait.
const LONG: Duration = Duration::from_secs(1);

impl Phase {
    fn new(per_second: u32) -> Self {
        let accepted = Histogram::new_with_bounds(1, 600_000, 3).expect("the bounds are valid");
        Self { per_second, seconds: 0.0, endings: BTreeMap::new(), accepted, logins: BTreeMap::new() }
    }

    fn note(&mut self, done: &Done) {
        *self.endings.entry(done.ending).or_default() += 1;
        if done.ending == radius::NO_CODE {
            return;
        }
        let second = self.logins.entry(done.due.as_secs()).or_default();
        second.due += 1;
        second.right += u64::from([ACCEPT, REFUSED].contains(&done.ending));
        if done.ending == ACCEPT {
            second.accepted += 1;
            second.longest = second.longest.max(done.latency);
            self.accepted.saturating_record(u64::try_from(done.latency.as_millis()).unwrap_or(u64::MAX));
        }
    }

    fn end(&mut self, report: &Report, planned: Duration) {
        self.seconds = planned.as_secs_f64();
        if report.not_begun > 0 {
            self.endings.insert("not begun", report.not_begun);
        }
    }

    /// Those that had a code.
    pub fn logins(&self) -> u64 {
        self.endings.values().sum::<u64>() - self.ended(radius::NO_CODE)
    }

    pub fn ended(&self, ending: Ending) -> u64 {
        self.endings.get(ending).copied().unwrap_or_default()
    }

    /// Let in, a second.
    pub fn goodput(&self) -> f64 {
        self.ended(ACCEPT) as f64 / self.seconds
    }

    pub fn quantile_ms(&self, quantile: f64) -> u64 {
        self.accepted.value_at_quantile(quantile)
    }

    /// From when on everybody is let in, and at once.
    pub fn well_from(&self) -> Duration {
        let ill = |second: &Second| second.right < second.due || second.longest > LONG;
        let last = self.logins.iter().rev().find(|(_, second)| ill(second));
        Duration::from_secs(last.map_or(0, |(number, _)| number + 1))
    }

    /// The fewest let in of those that were due in so many seconds on end, as a rate: whether it breaks down in between. Those due
    /// first meet a server that is idle.
    pub fn worst_goodput(&self, seconds: u64) -> f64 {
        let last = self.logins.keys().next_back().copied().unwrap_or_default() + 1;
        let of = |from: u64| self.logins.range(from..from + seconds).map(|(_, second)| second.accepted).sum::<u64>();
        let worst = (0..=last.saturating_sub(seconds)).map(of).min().unwrap_or_default();
        worst as f64 / seconds.min(last).max(1) as f64
    }
}

pub async fn run(server: &Server, people: Arc<People>, by: By, plan: Plan) -> Result<Outcome> {
    let closed = Shape::Closed { workers: plan.workers };
    let warm = Duration::from_secs(2);
    phase(server, &people, by, closed, warm).await?;
    let whole = phase(server, &people, by, closed, plan.calm).await?;
    ensure!(whole.ended(radius::NO_CODE) == 0, "{} are too few people", people.count());
    let capacity = whole.ended(ACCEPT) as f64 / plan.calm.as_secs_f64();
    ensure!(capacity >= 4.0, "nobody is let in: {:?}", whole.endings);
    let rate = |part: f64| Shape::Open { per_second: (capacity * part) as u32 };
    let before = phase(server, &people, by, rate(0.5), plan.calm).await?;
    let mut resident = Resident { before: lab::resident_kib(server.pid)?, ..Resident::default() };
    let overload = plan.overload.min(codes_last(people.count(), capacity * 2.0));
    let watched = watch(server, overload).await?;
    let during = phase(server, &people, by, rate(2.0), overload).await?;
    let after = phase(server, &people, by, rate(0.5), plan.after).await?;
    let (statuses, peaks) = watched.await??;
    (resident.peaks, resident.after) = (peaks, lab::resident_kib(server.pid)?);
    Ok(Outcome { capacity, before, during, after, statuses, resident })
}

/// How long there are codes for so many logins a second, when hardly any was used: two for everybody, and one more every half minute.
fn codes_last(people: usize, per_second: f64) -> Duration {
    let people = people as f64;
    let lacking = per_second - people / 30.0;
    if lacking > 0.0 { Duration::from_secs((people * 1.5 / lacking) as u64) } else { Duration::MAX }
}

/// Every so often somebody with the wrong password.
async fn some_wrong<F: Future<Output = Ending>>(
    number: &AtomicU64,
    people: &People,
    login: impl FnOnce(Login) -> F,
) -> Ending {
    let Some(mut who) = people.login() else { return radius::NO_CODE };
    if number.fetch_add(1, Ordering::Relaxed) % WRONG != WRONG - 1 {
        return login(who).await;
    }
    who.password.push_str("-wrong");
    match login(who).await {
        ACCEPT => WRONGLY,
        "reject" | "refused" => REFUSED,
        other => other,
    }
}

async fn phase(server: &Server, people: &Arc<People>, by: By, shape: Shape, duration: Duration) -> Result<Phase> {
    let per_second = match shape {
        Shape::Open { per_second } => per_second,
        Shape::Closed { .. } => 0,
    };
    let mut phase = Phase::new(per_second);
    let load = Load { shape, duration, operations_max: None, server_pid: None };
    let each = |done: Done| phase.note(&done);
    let (people, number) = (people.clone(), Arc::new(AtomicU64::new(0)));
    let report = match by {
        By::Radius => {
            let ports = Ports::new(server.radius, server.radius_secret.as_bytes(), radius::AT_ONCE_MAX).await?;
            let ports = Arc::new(ports);
            let login = move || {
                let (ports, people, number) = (ports.clone(), people.clone(), number.clone());
                async move {
                    let login = |who| async move { radius::appended(&ports, &who).await };
                    some_wrong(&number, &people, login).await
                }
            };
            drive_each("radius", load, login, each).await
        }
        By::Ldap => {
            let (at, base): (_, Arc<str>) = (server.ldap, server.ldap_base.as_str().into());
            let login = move || {
                let (people, base, number) = (people.clone(), base.clone(), number.clone());
                async move {
                    let login = |who| async move { ldap::ended(ldap::session(at, &base, &who)).await };
                    some_wrong(&number, &people, login).await
                }
            };
            drive_each("ldap", load, login, each).await
        }
    };
    phase.end(&report, duration);
    Ok(phase)
}

type Watched = JoinHandle<Result<(Statuses, [u64; 2])>>;

/// Asks Status-Server and reads the memory for so long. Each question is sent once.
async fn watch(server: &Server, duration: Duration) -> Result<Watched> {
    let ports = Arc::new(Ports::new(server.radius, server.radius_secret.as_bytes(), 256).await?);
    let pid = server.pid;
    Ok(tokio::spawn(async move {
        let mut peaks = [0; 2];
        let mut asked = tokio::task::JoinSet::new();
        let begin = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while begin.elapsed() < duration {
            let due = ticks.tick().await;
            let ports = ports.clone();
            asked.spawn(async move {
                let once = Patience { times: 1, each: Duration::from_secs(5) };
                let reply = ports.ask(RequestCode::StatusServer, &[], None, once).await;
                let is_alive = reply.is_some_and(|reply| code_of(&reply) == Some(Code::AccessAccept));
                is_alive.then(|| due.elapsed())
            });
            let half = usize::from(begin.elapsed() > duration / 2);
            peaks[half] = peaks[half].max(lab::resident_kib(pid)?);
        }
        let mut statuses = Statuses::default();
        for answered in asked.join_all().await {
            statuses.asked += 1;
            if let Some(took) = answered {
                statuses.answered += 1;
                statuses.longest = statuses.longest.max(took);
            }
        }
        Ok((statuses, peaks))
    }))
}

/// One column for each load.
pub fn table(outcomes: &[(By, Outcome)]) -> String {
    use std::fmt::Write as _;
    type Value<'a> = &'a dyn Fn(&Outcome) -> String;
    let phase = |phase: &Phase| {
        let [p50, p99] = [0.5, 0.99].map(|quantile| phase.quantile_ms(quantile));
        format!("{} of {}; {p50} / {p99} / {}", phase.ended(ACCEPT), phase.logins(), phase.quantile_ms(1.0))
    };
    let mebi = |kibi: u64| format!("{:.0}", kibi as f64 / 1024.0);
    let rows: [(&str, Value<'_>); 11] = [
        ("capacity, closed loop, logins/s", &|it| format!("{:.0}", it.capacity)),
        ("half of it before: let in; p50 / p99 / max, ms", &|it| phase(&it.before)),
        ("overload, logins/s offered, for seconds", &|it| {
            format!("{}, {:.0}", it.during.per_second, it.during.seconds)
        }),
        ("overload: let in; p50 / p99 / max, ms", &|it| phase(&it.during)),
        ("overload: let in a second, of the capacity", &|it| format!("{:.2}", it.during.goodput() / it.capacity)),
        ("the worst ten seconds of it", &|it| format!("{:.2}", it.during.worst_goodput(10) / it.capacity)),
        ("overload: how logins ended", &|it| format!("{:?}", it.during.endings)),
        ("half of it behind: let in; p50 / p99 / max, ms", &|it| phase(&it.after)),
        ("all is well from second", &|it| it.after.well_from().as_secs().to_string()),
        ("Status-Server answered; longest, ms", &|it| {
            let Statuses { asked, answered, longest } = it.statuses;
            format!("{answered} of {asked}; {}", longest.as_millis())
        }),
        ("resident before, peak of the first and second half, after, MiB", &|it| {
            let Resident { before, peaks, after } = it.resident;
            [before, peaks[0], peaks[1], after].map(mebi).join(", ")
        }),
    ];
    let mut text = String::from("| figure |");
    for (by, _) in outcomes {
        let _ = write!(text, " {by:?} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(outcomes.len()));
    for (name, value) in rows {
        let _ = write!(text, "| {name} |");
        for (_, outcome) in outcomes {
            let _ = write!(text, " {} |", value(outcome));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(endings: &[(u64, u64, Ending)]) -> Phase {
        let mut phase = Phase::new(10);
        for &(due, ms, ending) in endings {
            phase.note(&Done { due: Duration::from_secs(due), latency: Duration::from_millis(ms), ending });
        }
        phase
    }

    #[test]
    fn all_is_well_when_everybody_is_let_in_at_once() {
        for (seconds, logins) in [
            (0, &[(0, 10, "accept"), (1, 20, "accept")][..]),
            (1, &[(0, 10_000, "timeout"), (1, 20, "accept")]),
            (2, &[(0, 10, "accept"), (1, 1_001, "accept"), (2, 9, "accept")]),
            (3, &[(2, 10, "reject"), (3, 10, "accept")]),
            (0, &[(0, 10, "accept"), (0, 1_020, REFUSED), (1, 0, radius::NO_CODE)]),
        ] {
            assert_eq!(phase(logins).well_from(), Duration::from_secs(seconds), "{logins:?}");
        }
    }

    #[test]
    fn the_worst_seconds_are_found_wherever_they_are() {
        let logins = [(0, 1, "accept"), (1, 1, "accept"), (2, 1, "timeout"), (3, 1, "timeout"), (4, 1, "accept")];
        let phase = phase(&logins);
        assert_eq!((phase.worst_goodput(2), phase.worst_goodput(4)), (0.0, 0.5));
    }
}
