//! The way to people's phones, which delays, refuses, drops and lies on command; and phones that answer by themselves.

use super::{FakeBus, FakeStore};
use async_trait::async_trait;
use bytes::Bytes;
use domain::Reason;
use proto::user_store::{Prompt, PushDevice};
use service_kit::Clock;
use service_kit::bus::Bus;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use verification::{Accepted, Callee, Carriers, SendFailure, Text};

/// What the carriers do with what they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Accept,
    Refuse(Reason),
    NoProvider,
    /// Accepted after so long.
    Delay(Duration),
    /// Never answers.
    Hang,
    /// Accepted, and nothing arrives.
    Lie,
}

/// What the person does when the phone rings.
#[derive(Debug, Clone)]
pub enum Person {
    Nothing,
    /// The outcome and what it proved; told on the bus or not.
    Answers {
        outcome: &'static str,
        assurance: &'static str,
        told: bool,
    },
}

pub struct FakeCarriers {
    store: Arc<FakeStore>,
    bus: Arc<FakeBus>,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    push: Mood,
    call: Mood,
    text: Mood,
    hang_up: Mood,
    person: Person,
    texts: Vec<(String, String)>,
    calls: Vec<(String, bool)>,
    pushes: Vec<String>,
    hung_up: Vec<String>,
}

impl FakeCarriers {
    pub fn new(store: Arc<FakeStore>, bus: Arc<FakeBus>, clock: Clock) -> Arc<Self> {
        let state = State {
            push: Mood::Accept,
            call: Mood::Accept,
            text: Mood::Accept,
            hang_up: Mood::Accept,
            person: Person::Nothing,
            texts: vec![],
            calls: vec![],
            pushes: vec![],
            hung_up: vec![],
        };
        Arc::new(Self { store, bus, clock, state: Mutex::new(state) })
    }

    pub fn push_mood(&self, mood: Mood) {
        self.state.lock().expect("whole").push = mood;
    }

    pub fn call_mood(&self, mood: Mood) {
        self.state.lock().expect("whole").call = mood;
    }

    pub fn text_mood(&self, mood: Mood) {
        self.state.lock().expect("whole").text = mood;
    }

    /// Refusals and lies are none of it: nobody hears what came of it.
    pub fn hang_up_mood(&self, mood: Mood) {
        self.state.lock().expect("whole").hang_up = mood;
    }

    pub fn person(&self, person: Person) {
        self.state.lock().expect("whole").person = person;
    }

    pub fn answers(&self, outcome: &'static str, assurance: &'static str) {
        self.person(Person::Answers { outcome, assurance, told: true });
    }

    pub fn texts(&self) -> Vec<(String, String)> {
        self.state.lock().expect("whole").texts.clone()
    }

    /// Numbers that rang, and whether a PIN was asked.
    pub fn calls(&self) -> Vec<(String, bool)> {
        self.state.lock().expect("whole").calls.clone()
    }

    pub fn pushes(&self) -> Vec<String> {
        self.state.lock().expect("whole").pushes.clone()
    }

    /// The prompts whose calls were ended because nobody waited for them.
    pub fn hung_up(&self) -> Vec<String> {
        self.state.lock().expect("whole").hung_up.clone()
    }

    async fn take(&self, mood: Mood) -> Result<(Accepted, bool), SendFailure> {
        let accepted = Accepted { provider: "fake".into() };
        match mood {
            Mood::Accept => Ok((accepted, true)),
            Mood::Lie => Ok((accepted, false)),
            Mood::Refuse(reason) => Err(SendFailure::Refused { provider: "fake".into(), reason }),
            Mood::NoProvider => Err(SendFailure::NoProvider),
            Mood::Delay(time) => {
                tokio::time::sleep(time).await;
                Ok((accepted, true))
            }
            Mood::Hang => std::future::pending().await,
        }
    }

    async fn ring(&self, prompt: &Prompt) {
        let person = self.state.lock().expect("whole").person.clone();
        if let Person::Answers { outcome, assurance, told } = person {
            self.store.resolve(&prompt.prompt_id, outcome, assurance, self.clock.now_ms());
            if told {
                let subject = proto::subjects::challenge_resolved(&prompt.prompt_id);
                self.bus.publish(&subject, Bytes::new()).await.expect("told");
            }
        }
    }
}

#[async_trait]
impl Carriers for FakeCarriers {
    async fn text(&self, text: Text<'_>) -> Result<Accepted, SendFailure> {
        let mood = self.state.lock().expect("whole").text;
        let (accepted, arrives) = self.take(mood).await?;
        if arrives {
            self.state.lock().expect("whole").texts.push((text.to.expose().to_owned(), text.text));
        }
        Ok(accepted)
    }

    async fn call(&self, prompt: &Prompt, callee: Callee<'_>) -> Result<Accepted, SendFailure> {
        let mood = self.state.lock().expect("whole").call;
        let (accepted, arrives) = self.take(mood).await?;
        if arrives {
            self.state.lock().expect("whole").calls.push((callee.to.expose().to_owned(), callee.pin));
            self.ring(prompt).await;
        }
        Ok(accepted)
    }

    async fn hang_up(&self, prompt: &Prompt) {
        let mood = self.state.lock().expect("whole").hang_up;
        let _ = self.take(mood).await;
        self.state.lock().expect("whole").hung_up.push(prompt.prompt_id.clone());
    }

    async fn push(&self, prompt: &Prompt, devices: &[PushDevice]) -> Result<Accepted, SendFailure> {
        assert!(!devices.is_empty(), "nobody is asked");
        let mood = self.state.lock().expect("whole").push;
        let (accepted, arrives) = self.take(mood).await?;
        if arrives {
            self.state.lock().expect("whole").pushes.push(prompt.prompt_id.clone());
            self.ring(prompt).await;
        }
        Ok(accepted)
    }
}
