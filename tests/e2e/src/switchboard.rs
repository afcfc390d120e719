//! Everybody's telephone at once: whoever is called picks up and does as is their habit. It counts who was called.

use crate::Outside;
use anyhow::{Context, Result};
use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

/// What people do when it rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Confirms, so long after it began to ring.
    Confirms(Duration),
    /// Confirms at this time.
    ConfirmsAt(Instant),
    HangsUp,
}

pub struct Switchboard {
    pub outside: Arc<Outside>,
    desk: Arc<Desk>,
    work: JoinHandle<()>,
}

struct Desk {
    habit: Mutex<Habit>,
    /// Of some, by number.
    own_habits: Mutex<HashMap<String, Habit>>,
    /// By number.
    calls: Mutex<HashMap<String, usize>>,
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Switchboard {
    /// Takes all calls from now on.
    pub fn start(outside: Outside) -> Self {
        let outside = Arc::new(outside);
        let habit = Mutex::new(Habit::Confirms(Duration::ZERO));
        let desk = Arc::new(Desk { habit, own_habits: Mutex::default(), calls: Mutex::default() });
        let work = tokio::spawn(desk.clone().operate(outside.clone()));
        Self { outside, desk, work }
    }

    pub fn set_habit(&self, habit: Habit) {
        *locked(&self.desk.habit) = habit;
    }

    /// Somebody of the company has a habit of their own.
    pub fn set_habit_of(&self, uid: &str, habit: Habit) -> Result<()> {
        locked(&self.desk.own_habits).insert(number_of(uid)?, habit);
        Ok(())
    }

    /// How often somebody of the company was called, at the number the directory has.
    pub fn calls(&self, uid: &str) -> Result<usize> {
        Ok(locked(&self.desk.calls).get(&number_of(uid)?).copied().unwrap_or(0))
    }

    pub fn all_calls(&self) -> usize {
        locked(&self.desk.calls).values().sum()
    }
}

impl Desk {
    async fn operate(self: Arc<Self>, outside: Arc<Outside>) {
        let mut ringing = JoinSet::new();
        loop {
            let mut phone = outside.vendor.call(outside.deliver()).await;
            let number = phone.order.get("To").cloned().unwrap_or_default();
            let own = locked(&self.own_habits).get(&number).copied();
            let habit = own.unwrap_or_else(|| *locked(&self.habit));
            *locked(&self.calls).entry(number).or_default() += 1;
            let rings = Instant::now();
            ringing.spawn(async move {
                let time = match habit {
                    Habit::Confirms(after) => Some(rings + after),
                    Habit::ConfirmsAt(time) => Some(time),
                    Habit::HangsUp => None,
                };
                match time {
                    Some(time) => {
                        tokio::time::sleep_until(time).await;
                        phone.answer("human").await;
                        phone.press("#").await;
                    }
                    None => {
                        phone.answer("human").await;
                        phone.hang_up().await;
                    }
                }
            });
        }
    }
}

/// As a vendor dials it.
fn number_of(uid: &str) -> Result<String> {
    let company = fs::read_to_string(lab::repository().join("tests/lab/data/company.ldif"))?;
    let mut lines = company.lines().skip_while(|line| line.strip_prefix("uid: ") != Some(uid));
    let number = lines.find_map(|line| line.strip_prefix("mobile: "));
    Ok(number.with_context(|| format!("no number of {uid}"))?.replace(' ', ""))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
