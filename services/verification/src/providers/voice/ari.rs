//! Calls by an Asterisk of one's own, over its REST interface: we ring, hear its events, play, read keys, hang up.
//!
//! ```text
//! listen (WebSocket, an application of this call alone) -> POST channels -> ringing
//!    StasisStart -> play, keys, play ... -> hang up
//!    ChannelDestroyed: 17 busy, 18 19 nobody answered, others unreachable
//! ```
//!
//! The node that rang drives the call: it alone hears the events, because each call has a Stasis application of its own. The state is
//! in the store all the same. A line to Asterisk that breaks is made again; what happened meanwhile is asked for.

mod line;
mod link;

use super::flow::{Collect, Ending, Event, Missed, Slot, Speech, Then, Utter};
use super::words::{Spoken, spoken};
use super::{About, DialError, Inner, Order, Turn};
use crate::budget::Budget;
use crate::settings::Known;
use domain::Language;
use domain::settings::Adapter;
use line::{Heard, Line};
use link::Link;
use service_kit::bus::Subscription;
use std::collections::VecDeque;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

/// Nobody pressed a key for so long.
const SILENCE: Duration = Duration::from_secs(6);
/// No recording is longer (FN-10): where its end was not heard, it has ended.
const PLAY_MAX: Duration = Duration::from_secs(30);
/// Around the keys of an extension, and for each.
const DIAL_PAUSE: Duration = Duration::from_secs(2);
const DIAL_KEY: Duration = Duration::from_millis(250);
/// A call that was not answered is given up by Asterisk; if we hear nothing of that, so much later by us.
const RING_GRACE: Duration = Duration::from_secs(5);
/// Longer than any prompt.
const CALL_MAX: Duration = Duration::from_secs(180);
const TYPED_MAX: usize = 32;
/// Tries to hear Asterisk again, and the pause before the first of them; each next one is twice as long.
const LISTEN_AGAIN: u32 = 5;
const LISTEN_PAUSE: Duration = Duration::from_millis(200);
/// How long one such try may take: an address that swallows everything must not hold the call for good.
const LISTEN_PATIENCE: Duration = Duration::from_secs(3);

/// What the call is for.
#[derive(Clone)]
pub enum Talk {
    Prompt { language: Language, application: String },
    Test { language: Language },
}

impl Talk {
    fn language(&self) -> &Language {
        let (Self::Prompt { language, .. } | Self::Test { language }) = self;
        language
    }
}

/// Rings, and drives what comes of it as a task of the process. Returns the channel's id.
pub async fn dial(inner: &Arc<Inner>, order: &Order<'_>, talk: Talk) -> Result<String, DialError> {
    let Adapter::Ari { application, endpoint, caller, sounds, .. } = &order.provider.adapter else {
        return Err(DialError::Settings("the provider is no Asterisk"));
    };
    let link = Link::new(&inner.clients, order)?;
    let channel = match &talk {
        Talk::Prompt { .. } => format!("twinlock-{}-{}", order.prompt_id, order.attempt),
        Talk::Test { .. } => format!("twinlock-test-{}", Uuid::new_v4()),
    };
    let application = format!("{application}-{channel}");
    let endpoint = endpoint.replace("{phone}", order.line.number.expose());
    let begin = async {
        // First the ears: a channel whose application nobody hears is dropped.
        let line = Line::listen(&link, &application).await?;
        link.ring(&channel, &endpoint, &application, caller, order.ring_seconds).await?;
        Ok::<_, DialError>(line)
    };
    let begun = tokio::time::timeout(order.timeout, begin).await.unwrap_or(Err(DialError::TooSlow));
    let line = match begun {
        Ok(line) => line,
        Err(error) => {
            // It may be ringing nonetheless, and another provider is about to.
            inner.shutdown.spawn(async move { link.hang_up(&channel).await });
            return Err(error);
        }
    };
    let driver = Driver {
        inner: inner.clone(),
        known: order.known.clone(),
        provider: order.provider.name.to_string(),
        sounds: sounds.clone(),
        link,
        application,
        talk,
        prompt_id: order.prompt_id.clone(),
        attempt: order.attempt,
        channel: channel.clone(),
        answered: false,
        step: 0,
        queue: VecDeque::new(),
        doing: Doing::Ringing,
        then: Then::HangUp,
        typed: String::new(),
        wake: Instant::now() + Duration::from_secs(u64::from(order.ring_seconds)) + RING_GRACE,
        plays: 0,
    };
    inner.shutdown.spawn(driver.run(line));
    Ok(channel)
}

/// One call while it lasts.
struct Driver {
    inner: Arc<Inner>,
    known: Arc<Known>,
    provider: String,
    sounds: String,
    link: Link,
    application: String,
    talk: Talk,
    prompt_id: String,
    attempt: u32,
    channel: String,
    answered: bool,
    /// Of the record, for which the next key is.
    step: u32,
    /// What is still to be said.
    queue: VecDeque<Utter>,
    doing: Doing,
    then: Then,
    typed: String,
    /// When what is being done is over, or has taken too long.
    wake: Instant,
    plays: u32,
}

enum Doing {
    Ringing,
    /// A playback, by its id.
    Playing(String),
    /// The extension.
    Dialling,
    /// Waiting for keys, or for the store.
    Listening,
}

impl Driver {
    async fn run(mut self, mut line: Line) {
        let end = Instant::now() + CALL_MAX;
        let mut resolved = match &self.talk {
            // Without it a person whose login is over hears so when they answer.
            Talk::Prompt { .. } => {
                self.inner.shared.bus.subscribe(&proto::subjects::challenge_resolved(&self.prompt_id)).await.ok()
            }
            Talk::Test { .. } => None,
        };
        loop {
            // Cancel safety: neither a socket nor a subscription loses a message when its `next` is dropped; the timer is made anew.
            let flow = tokio::select! {
                heard = line.next() => match heard {
                    Some(heard) => self.hear(heard).await,
                    None => match self.listen_again().await {
                        Some((again, flow)) => { line = again; flow }
                        None => Break(()),
                    }
                },
                () = sleep_until(self.wake.min(end)) => {
                    if Instant::now() >= end { Break(()) } else { self.woken().await }
                }
                () = told(&mut resolved) => self.look().await,
            };
            if flow.is_break() {
                break;
            }
        }
        self.link.hang_up(&self.channel).await;
    }

    async fn hear(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Answered { channel } if channel == self.channel => self.pick_up().await,
            Heard::Key { channel, key } if channel == self.channel => self.key(key).await,
            Heard::Played { playback, failed } => match &self.doing {
                Doing::Playing(id) if *id == playback => {
                    if failed {
                        tracing::warn!(provider = self.provider, "the PBX cannot play a recording: is it installed?");
                    }
                    self.go_on().await
                }
                _ => Continue(()),
            },
            Heard::Over { channel, cause } if channel == self.channel => match missed(cause) {
                Some(missed) => self.over(missed).await,
                None => self.hung_up().await,
            },
            _ => Continue(()),
        }
    }

    async fn pick_up(&mut self) -> ControlFlow<()> {
        if self.answered {
            return Continue(());
        }
        self.answered = true;
        self.event(Some(Event::Answered), Some(0)).await
    }

    /// The channel is gone.
    async fn over(&mut self, missed: Missed) -> ControlFlow<()> {
        if self.answered {
            return self.hung_up().await;
        }
        let _ = self.event(Some(Event::Missed(missed)), None).await;
        Break(())
    }

    async fn hung_up(&mut self) -> ControlFlow<()> {
        let _ = self.event(Some(Event::HungUp), None).await;
        Break(())
    }

    async fn key(&mut self, key: char) -> ControlFlow<()> {
        let Then::Collect(collect) = self.then else { return Continue(()) };
        // Keys that come back while we dial an extension are our own.
        let dialling = matches!(self.doing, Doing::Dialling | Doing::Ringing);
        if dialling || self.queue.iter().any(|utter| matches!(utter, Utter::Dial(_))) {
            return Continue(());
        }
        if let Doing::Playing(playback) = &self.doing {
            self.link.stop(playback).await;
        }
        self.queue.clear();
        self.doing = Doing::Listening;
        self.wake = Instant::now() + SILENCE;
        match (collect, key) {
            (Collect::Key, key) => self.event(Some(Event::Keys(key.to_string().into())), Some(self.step)).await,
            (Collect::Digits, '#') => self.typed_all().await,
            (Collect::Digits, key) => {
                if self.typed.len() < TYPED_MAX {
                    self.typed.push(key);
                }
                Continue(())
            }
        }
    }

    async fn typed_all(&mut self) -> ControlFlow<()> {
        let typed = std::mem::take(&mut self.typed);
        self.event(Some(Event::Keys(typed.into())), Some(self.step)).await
    }

    /// The time of what was being done has come.
    async fn woken(&mut self) -> ControlFlow<()> {
        match (&self.doing, self.then) {
            (Doing::Ringing, _) => self.over(Missed::NoAnswer).await,
            (Doing::Playing(_) | Doing::Dialling, _) => self.go_on().await,
            (Doing::Listening, Then::Collect(_)) if !self.typed.is_empty() => self.typed_all().await,
            (Doing::Listening, Then::Collect(_)) => self.event(Some(Event::Silence), Some(self.step)).await,
            (Doing::Listening, Then::Wait) => self.event(None, None).await,
            (Doing::Listening, Then::HangUp) => Break(()),
        }
    }

    /// Somebody says that the prompt is resolved. If by this call, it is saying good-bye already.
    async fn look(&mut self) -> ControlFlow<()> {
        match (&self.doing, self.then) {
            (Doing::Ringing, _) => match self.inner.conversation.find(&self.prompt_id, Budget::usual()).await {
                Ok(Some(prompt)) if self.inner.conversation.is_open(&prompt) => Continue(()),
                Ok(_) => Break(()),
                Err(_) => Continue(()),
            },
            (_, Then::HangUp) => Continue(()),
            _ => self.event(None, None).await,
        }
    }

    /// Moves the call on, and says what comes of it.
    async fn event(&mut self, event: Option<Event>, step: Option<u32>) -> ControlFlow<()> {
        let Talk::Prompt { .. } = self.talk else {
            return match event {
                Some(Event::Answered) => {
                    self.say(Speech { utter: vec![Utter::Say(Slot::Test)], then: Then::HangUp }).await
                }
                _ => Break(()),
            };
        };
        let about = About {
            prompt_id: &self.prompt_id,
            provider: &self.provider,
            attempt: self.attempt,
            call_id: &self.channel,
            step,
        };
        match self.inner.conversation.take(about, event, Budget::usual()).await {
            Ok(Some(turn)) => {
                self.step = turn.call.step;
                let speech = turn.speech.clone();
                if let Some(ending) = turn.ring_backup {
                    self.backup(turn, ending);
                    return Break(());
                }
                self.say(speech).await
            }
            Ok(None) => Break(()),
            Err(status) => {
                tracing::warn!(prompt_id = self.prompt_id, error = status.message(), "a call cannot go on");
                Break(())
            }
        }
    }

    fn backup(&self, turn: Turn, ending: Ending) {
        Inner::ring_backup_later(&self.inner, &self.known, turn, ending);
    }

    async fn say(&mut self, speech: Speech) -> ControlFlow<()> {
        self.queue = speech.utter.into();
        self.then = speech.then;
        self.typed.clear();
        self.go_on().await
    }

    /// The next thing to be said, or what comes when all is said.
    async fn go_on(&mut self) -> ControlFlow<()> {
        match (self.queue.pop_front(), self.then) {
            (Some(Utter::Say(slot)), _) => {
                self.plays += 1;
                let playback = format!("{}-{}", self.channel, self.plays);
                let media = self.media(slot);
                self.wake = Instant::now() + PLAY_MAX;
                if !self.link.play(&self.channel, &playback, &media, self.talk.language().broad()).await {
                    // The end of the channel, if that is why, is about to be heard.
                    self.wake = Instant::now() + SILENCE;
                }
                self.doing = Doing::Playing(playback);
                Continue(())
            }
            (Some(Utter::Dial(keys)), _) => {
                self.link.dial(&self.channel, &keys, DIAL_PAUSE).await;
                let keys = u32::try_from(keys.len()).unwrap_or(u32::MAX);
                self.wake = Instant::now() + DIAL_PAUSE * 2 + DIAL_KEY * keys;
                self.doing = Doing::Dialling;
                Continue(())
            }
            (None, Then::HangUp) => Break(()),
            (None, then) => {
                self.doing = Doing::Listening;
                let pause = if then == Then::Wait { Duration::from_secs(1) } else { SILENCE };
                self.wake = Instant::now() + pause;
                Continue(())
            }
        }
    }

    /// A PBX plays recordings: the administrators' own, or the shipped text as somebody recorded it.
    fn media(&self, slot: Slot) -> String {
        let application = match &self.talk {
            Talk::Prompt { application, .. } => application,
            Talk::Test { .. } => "",
        };
        match spoken(&self.known, slot, self.talk.language(), application) {
            Spoken::Recording(own) if own.starts_with("sound:") => own,
            _ => format!("{}/{}", self.sounds, slot.name()),
        }
    }

    /// The line to Asterisk broke: made again, and what happened meanwhile asked for.
    async fn listen_again(&mut self) -> Option<(Line, ControlFlow<()>)> {
        let mut pause = LISTEN_PAUSE;
        for _ in 0..LISTEN_AGAIN {
            tokio::time::sleep(pause).await;
            pause *= 2;
            let listening = Line::listen(&self.link, &self.application);
            let Ok(Ok(line)) = tokio::time::timeout(LISTEN_PATIENCE, listening).await else { continue };
            let flow = match self.link.state(&self.channel).await {
                Ok(Some(state)) if state == "Up" => self.pick_up().await,
                Ok(Some(_)) => Continue(()),
                Ok(None) => self.over(Missed::Unreachable).await,
                Err(_) => continue,
            };
            return Some((line, flow));
        }
        let _ = self.over(Missed::Unreachable).await;
        None
    }
}

async fn told(resolved: &mut Option<Subscription>) {
    let gone = match resolved {
        Some(subscription) => subscription.next().await.is_none(),
        None => std::future::pending().await,
    };
    if gone {
        *resolved = None;
    }
}

/// Causes of ITU-T Q.850 section 2.2.7 for a call that nobody answered; `None` = the person would not have it, which is as final as
/// hanging up (FV-13).
fn missed(cause: i64) -> Option<Missed> {
    Some(match cause {
        17 => Missed::Busy,
        21 => return None,
        // No user responding, no answer; and what Asterisk says when it gave up ringing.
        18 | 19 | 0 | 16 => Missed::NoAnswer,
        _ => Missed::Unreachable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_says_why_nobody_answered() {
        for (cause, said) in [
            (17, Missed::Busy),
            (18, Missed::NoAnswer),
            (19, Missed::NoAnswer),
            (16, Missed::NoAnswer),
            (1, Missed::Unreachable),
            (20, Missed::Unreachable),
            (38, Missed::Unreachable),
            (-1, Missed::Unreachable),
        ] {
            assert_eq!(missed(cause), Some(said), "{cause}");
        }
        assert_eq!(missed(21), None, "rejected");
    }
}
