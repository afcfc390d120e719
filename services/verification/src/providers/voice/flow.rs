//! What a call comes to. Owns no line, no store and no clock: an event in, the next state and what is to be done out.
//!
//! ```text
//! Dialling --answered--> Asking(confirm | pin) --#--> Over(approved)
//!    |                      |   ^      |  \--PIN--> Checking --right--> Over(approved) | Asking(new pin)
//!    |                      |   |      |                \--wrong--> Asking, three times
//!    |                      |   \------+--fraud code--> Asking(fraud) --1--> Over(fraud)
//!    |                      \--silence twice, hang-up--> Over
//!    \--busy, no answer, machine--> Dialling the backup phone | Over
//! ```
//!
//! The state is kept in the prompt's record, so that any node takes the next event. It holds no secret: a PIN passes through, and a
//! new one is typed twice in one go. Nothing but a key approves: silence, a machine or a hang-up never do (V-19).

use crate::providers::Callee;
use domain::{Assurance, Language, PhoneNumber, Reason, Secret};
use serde::{Deserialize, Serialize};

/// Wrong PINs, wrong keys or unfit new PINs in one call.
const WRONG_MAX: u8 = 3;
/// How often a question is repeated because nobody pressed a key.
const SILENCES_MAX: u8 = 1;
/// A PIN has up to ten digits; a new one is typed twice with a star between.
const TYPED_MAX: usize = 21;

/// A call, as the prompt's record keeps it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Name of the provider that carries it.
    pub provider: String,
    /// What that provider calls it; empty = it has not said yet.
    pub call_id: String,
    /// Raised whenever somebody is rung anew: what is said about an earlier try counts no more.
    pub attempt: u32,
    /// Raised by every move: an event is for one step, so the same one again moves nothing.
    pub step: u32,
    pub language: Language,
    /// The one being called first; the backup phone after it.
    lines: Vec<Line>,
    pin: bool,
    new_pin: bool,
    activation: bool,
    stage: Stage,
    wrong_left: u8,
    silences_left: u8,
    /// The beginning of the fraud code, where keys come one by one.
    typed: String,
    /// The person hung up while the PIN was being checked.
    hung_up: bool,
    /// The store's word that the PIN was right.
    pin_handle: String,
}

/// A telephone, and what is dialled behind its number.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub number: PhoneNumber,
    pub extension: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// Nobody has answered yet.
    Dialling,
    Asking {
        question: Question,
        why: Why,
    },
    /// Whoever moved the call here asks the store; nobody else does.
    Checking {
        question: Question,
    },
    Over {
        ending: Ending,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    /// `#`
    Confirm,
    /// PIN, `#`
    Pin,
    /// `1`: this was not me.
    Fraud,
    /// The new PIN, `*`, the same again, `#`.
    NewPin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    First,
    Silence,
    Wrong,
    /// A key was pressed, more belong to it.
    More,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Approved,
    Fraud,
    WrongPin,
    LockedOut,
    NoKeysPressed,
    HungUp,
    NoAnswer,
    Busy,
    Unreachable,
    Voicemail,
}

impl Ending {
    /// As the prompt's record says it.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Fraud => "fraud",
            Self::WrongPin => Reason::WrongPin.code(),
            Self::LockedOut => Reason::LockedOut.code(),
            Self::NoKeysPressed => Reason::NoKeysPressed.code(),
            Self::HungUp => Reason::HungUp.code(),
            Self::NoAnswer => Reason::NoAnswer.code(),
            Self::Busy => Reason::Busy.code(),
            Self::Unreachable => Reason::Unreachable.code(),
            Self::Voicemail => Reason::Voicemail.code(),
        }
    }

    pub fn assurance(self) -> Assurance {
        if self == Self::Approved { Assurance::Phone } else { Assurance::None }
    }
}

/// Why nobody could be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    NoAnswer,
    Busy,
    Unreachable,
    Voicemail,
}

impl From<Missed> for Ending {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::NoAnswer => Self::NoAnswer,
            Missed::Busy => Self::Busy,
            Missed::Unreachable => Self::Unreachable,
            Missed::Voicemail => Self::Voicemail,
        }
    }
}

/// What happened on the line, or in the store.
#[derive(Clone)]
pub enum Event {
    Answered,
    Missed(Missed),
    /// What was typed: one key, or everything before `#`, as [`Collect`] said.
    Keys(Secret),
    Silence,
    HungUp,
    PinRight {
        handle: String,
    },
    PinWrong,
    PinLocked,
    /// The new PIN is in force, or breaks a rule.
    PinSet(bool),
}

/// What the one who moved the call has to do now.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    CheckPin(Secret),
    SetPin(Secret),
    /// Ring the backup phone; if nobody can be found to do it, the call ends with what kept the first one from answering.
    CallBackup(Ending),
    End(Ending),
}

/// Something to be said: a key of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Greeting,
    GreetingPin,
    Retry,
    RetryPin,
    FraudHint,
    FraudHintPin,
    Activation,
    ActivationPin,
    FraudConfirm,
    FraudDone,
    ExtensionBefore,
    ExtensionAfter,
    NewPin,
    NewPinRefused,
    Success,
    Denied,
    /// Nobody waits for an answer any more.
    Gone,
    /// Of a test call.
    Test,
}

impl Slot {
    #[cfg(test)]
    pub const ALL: [Self; 18] = [
        Self::Greeting,
        Self::GreetingPin,
        Self::Retry,
        Self::RetryPin,
        Self::FraudHint,
        Self::FraudHintPin,
        Self::Activation,
        Self::ActivationPin,
        Self::FraudConfirm,
        Self::FraudDone,
        Self::ExtensionBefore,
        Self::ExtensionAfter,
        Self::NewPin,
        Self::NewPinRefused,
        Self::Success,
        Self::Denied,
        Self::Gone,
        Self::Test,
    ];

    /// Also the name of the recording, where a PBX has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::GreetingPin => "greeting-pin",
            Self::Retry => "retry",
            Self::RetryPin => "retry-pin",
            Self::FraudHint => "fraud-hint",
            Self::FraudHintPin => "fraud-hint-pin",
            Self::Activation => "activation",
            Self::ActivationPin => "activation-pin",
            Self::FraudConfirm => "fraud-confirm",
            Self::FraudDone => "fraud-done",
            Self::ExtensionBefore => "extension-before",
            Self::ExtensionAfter => "extension-after",
            Self::NewPin => "new-pin",
            Self::NewPinRefused => "new-pin-refused",
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Gone => "gone",
            Self::Test => "test",
        }
    }
}

/// One thing the line does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Utter {
    Say(Slot),
    /// Keys pressed by us, with silence around them: an extension.
    Dial(String),
}

/// What the person hears, and what comes then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speech {
    pub utter: Vec<Utter>,
    pub then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Collect(Collect),
    HangUp,
    /// The store is being asked: come back in a moment.
    Wait,
}

/// How keys are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collect {
    /// One, be it `#`.
    Key,
    /// All up to `#`.
    Digits,
}

impl Speech {
    /// For a prompt that nobody waits for.
    pub fn gone() -> Self {
        Self { utter: vec![Utter::Say(Slot::Gone)], then: Then::HangUp }
    }

    /// For a line that nobody listens to.
    pub fn hang_up() -> Self {
        Self { utter: Vec::new(), then: Then::HangUp }
    }
}

impl Call {
    /// Nobody is rung yet: `provider` is set when somebody takes it.
    pub fn new(callee: &Callee<'_>, backup_allowed: bool) -> Self {
        let line = |number: &PhoneNumber, extension: &str| Line {
            number: number.clone(),
            extension: extension.chars().filter(char::is_ascii_digit).take(10).collect(),
        };
        let backup = callee.backup.as_ref().filter(|backup| backup_allowed && backup.to != callee.to);
        let mut lines = vec![line(callee.to, callee.extension)];
        lines.extend(backup.map(|backup| line(backup.to, backup.extension)));
        Self {
            provider: String::new(),
            call_id: String::new(),
            attempt: 0,
            step: 0,
            language: callee.language.clone(),
            lines,
            pin: callee.pin,
            new_pin: callee.pin && callee.new_pin,
            activation: callee.activation,
            stage: Stage::Dialling,
            wrong_left: WRONG_MAX,
            silences_left: SILENCES_MAX,
            typed: String::new(),
            hung_up: false,
            pin_handle: String::new(),
        }
    }

    /// As the record has it. `None`: it is no call of ours.
    pub fn read(state_json: &str) -> Option<Self> {
        serde_json::from_str(state_json).ok().filter(|call: &Self| !call.lines.is_empty())
    }

    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("a call is plain data")
    }

    /// Whom it rings.
    pub fn line(&self) -> &Line {
        self.lines.first().expect("a call has a line, in new() and in read()")
    }

    /// The next try to ring that line, by this provider.
    pub fn dialled_by(&self, provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            call_id: String::new(),
            attempt: self.attempt + 1,
            step: 0,
            stage: Stage::Dialling,
            ..self.clone()
        }
    }

    /// It ended before or beside what happened on the line.
    pub fn ended(&self, ending: Ending) -> Self {
        Self { step: self.step + 1, stage: Stage::Over { ending }, ..self.clone() }
    }

    pub fn ending(&self) -> Option<Ending> {
        match self.stage {
            Stage::Over { ending } => Some(ending),
            _ => None,
        }
    }

    /// Nobody has picked up yet.
    pub fn rings(&self) -> bool {
        self.stage == Stage::Dialling
    }

    pub fn pin_handle(&self) -> &str {
        &self.pin_handle
    }

    /// Moves on. `None`: the event means nothing here, or no longer.
    pub fn on(&self, event: Event, fraud_code: &str) -> Option<(Self, Effect)> {
        use Event::{Answered, HungUp, Keys, PinLocked, PinRight, PinSet, PinWrong, Silence};
        use Stage::{Asking, Checking, Dialling, Over};
        match (self.stage, event) {
            (Over { .. }, _) => None,
            (Dialling, Answered) => Some(self.ask(self.first_question(), Why::First)),
            (Dialling, Event::Missed(missed)) => Some(self.missed(missed.into())),
            (Dialling | Asking { .. }, HungUp) => Some(self.end(Ending::HungUp)),
            (Checking { .. }, HungUp) if !self.hung_up => {
                Some((Self { hung_up: true, ..self.clone() }, Effect::Nothing))
            }
            (Asking { question, .. }, Silence) => Some(self.silent(question)),
            (Asking { question, .. }, Keys(keys)) => Some(self.typed(question, &keys, fraud_code)),
            (Checking { question: Question::Pin }, PinRight { handle }) => {
                let right = Self { pin_handle: handle, ..self.clone() };
                Some(match self.new_pin {
                    true => right.ask(Question::NewPin, Why::First),
                    false => right.end(Ending::Approved),
                })
            }
            (Checking { question: Question::Pin }, PinWrong) => Some(self.wrong(Question::Pin)),
            (Checking { question: Question::Pin }, PinLocked) => Some(self.end(Ending::LockedOut)),
            (Checking { question: Question::NewPin }, PinSet(true)) => Some(self.end(Ending::Approved)),
            (Checking { question: Question::NewPin }, PinSet(false)) => Some(self.wrong(Question::NewPin)),
            _ => None,
        }
    }

    fn first_question(&self) -> Question {
        if self.pin { Question::Pin } else { Question::Confirm }
    }

    fn typed(&self, question: Question, keys: &Secret, fraud_code: &str) -> (Self, Effect) {
        let keys = keys.expose_str().unwrap_or_default();
        if keys.len() > TYPED_MAX {
            return self.wrong(question);
        }
        match question {
            Question::Confirm => self.confirm_key(keys, fraud_code),
            Question::Fraud => match keys {
                "1" => self.end(Ending::Fraud),
                // What ends the fraud code, where keys come one by one.
                "#" => self.silent(Question::Fraud),
                _ => self.ask(self.first_question(), Why::First),
            },
            Question::Pin if keys.is_empty() => self.silent(question),
            Question::Pin if keys == fraud_code => self.ask(Question::Fraud, Why::First),
            Question::Pin if is_number(keys) => self.check(question, Effect::CheckPin(keys.into())),
            Question::Pin => self.wrong(question),
            Question::NewPin => match keys.split_once('*') {
                Some((new, again)) if new == again && is_number(new) => {
                    self.check(question, Effect::SetPin(new.into()))
                }
                _ => self.wrong(question),
            },
        }
    }

    /// One key of those that confirm or report. The fraud code is asked to be confirmed as soon as it is whole: the `#` behind it
    /// falls to that question.
    fn confirm_key(&self, key: &str, fraud_code: &str) -> (Self, Effect) {
        let typed = format!("{}{key}", self.typed);
        let fresh = Self { typed: String::new(), ..self.clone() };
        match () {
            () if typed == "#" => fresh.end(Ending::Approved),
            () if typed == fraud_code => fresh.ask(Question::Fraud, Why::First),
            () if !typed.is_empty() && fraud_code.starts_with(&typed) => {
                Self { typed, ..self.clone() }.ask(Question::Confirm, Why::More)
            }
            () => fresh.wrong(Question::Confirm),
        }
    }

    fn ask(&self, question: Question, why: Why) -> (Self, Effect) {
        // Nobody is there to be asked.
        if self.hung_up {
            return self.end(Ending::HungUp);
        }
        let asking = Self { step: self.step + 1, stage: Stage::Asking { question, why }, ..self.clone() };
        (asking, Effect::Nothing)
    }

    fn check(&self, question: Question, effect: Effect) -> (Self, Effect) {
        (Self { step: self.step + 1, stage: Stage::Checking { question }, ..self.clone() }, effect)
    }

    fn silent(&self, question: Question) -> (Self, Effect) {
        match self.silences_left.checked_sub(1) {
            Some(silences_left) => {
                Self { silences_left, typed: String::new(), ..self.clone() }.ask(question, Why::Silence)
            }
            None => self.end(Ending::NoKeysPressed),
        }
    }

    fn wrong(&self, question: Question) -> (Self, Effect) {
        match self.wrong_left.saturating_sub(1) {
            0 if question == Question::Confirm => self.end(Ending::NoKeysPressed),
            0 => self.end(Ending::WrongPin),
            wrong_left => Self { wrong_left, ..self.clone() }.ask(question, Why::Wrong),
        }
    }

    fn missed(&self, ending: Ending) -> (Self, Effect) {
        match self.lines.len() {
            1 => self.end(ending),
            _ => {
                let next = Self {
                    lines: self.lines[1..].to_vec(),
                    // What the first line still says is about a call that is over.
                    attempt: self.attempt + 1,
                    step: 0,
                    call_id: String::new(),
                    ..self.clone()
                };
                (next, Effect::CallBackup(ending))
            }
        }
    }

    fn end(&self, ending: Ending) -> (Self, Effect) {
        (self.ended(ending), Effect::End(ending))
    }

    /// What the person hears now. A function of the state: the same request again hears the same.
    pub fn speech(&self) -> Speech {
        let collect = |utter: Vec<Utter>, question| Speech {
            utter,
            then: Then::Collect(match question {
                Question::Confirm | Question::Fraud => Collect::Key,
                Question::Pin | Question::NewPin => Collect::Digits,
            }),
        };
        match self.stage {
            Stage::Dialling => Speech::hang_up(),
            Stage::Checking { .. } => Speech { utter: Vec::new(), then: Then::Wait },
            Stage::Asking { question, why } => {
                let slots = self.slots(question, why).iter().map(|slot| Utter::Say(*slot));
                // The extension is dialled once, before the first word.
                let utter = if self.step == 1 { self.extension().chain(slots).collect() } else { slots.collect() };
                collect(utter, question)
            }
            Stage::Over { ending } => {
                let slot = match ending {
                    Ending::Approved => Some(Slot::Success),
                    Ending::Fraud => Some(Slot::FraudDone),
                    Ending::WrongPin | Ending::LockedOut | Ending::NoKeysPressed => Some(Slot::Denied),
                    // Nobody is there, or a machine that needs to know nothing.
                    Ending::HungUp | Ending::NoAnswer | Ending::Busy | Ending::Unreachable | Ending::Voicemail => None,
                };
                Speech { utter: slot.map(Utter::Say).into_iter().collect(), then: Then::HangUp }
            }
        }
    }

    fn slots(&self, question: Question, why: Why) -> &'static [Slot] {
        match (question, why) {
            (_, Why::More) => &[],
            (Question::Confirm, Why::Wrong) => &[Slot::Retry],
            (Question::Pin, Why::Wrong) => &[Slot::RetryPin],
            (Question::Confirm, _) if self.activation => &[Slot::Activation, Slot::FraudHint],
            (Question::Pin, _) if self.activation => &[Slot::ActivationPin, Slot::FraudHintPin],
            (Question::Confirm, _) => &[Slot::Greeting, Slot::FraudHint],
            (Question::Pin, _) => &[Slot::GreetingPin, Slot::FraudHintPin],
            (Question::Fraud, _) => &[Slot::FraudConfirm],
            (Question::NewPin, Why::Wrong) => &[Slot::NewPinRefused, Slot::NewPin],
            (Question::NewPin, _) => &[Slot::NewPin],
        }
    }

    fn extension(&self) -> impl Iterator<Item = Utter> {
        let extension = self.line().extension.clone();
        let dialled = match extension.is_empty() {
            true => None,
            false => {
                Some([Utter::Say(Slot::ExtensionBefore), Utter::Dial(extension), Utter::Say(Slot::ExtensionAfter)])
            }
        };
        dialled.into_iter().flatten()
    }
}

fn is_number(keys: &str) -> bool {
    !keys.is_empty() && keys.bytes().all(|key| key.is_ascii_digit())
}

#[cfg(test)]
mod tests;
