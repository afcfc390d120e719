//! One bound SMPP session: which PDUs are out, what answers mean, when the line counts as dead. Owns no socket and reads no clock.
//!
//! ```text
//! job -> its parts wait -> window -> submit_sm out -> resp OK, all parts -> Done(id)
//!                                      |-> resp error, or no answer      -> Done(refusal), its other parts are dropped
//! deliver_sm -> Heard, answered by whoever took it        enquire_link both ways; two of ours unanswered -> Close
//!                                                         a submit_sm unanswered for a minute            -> Close
//! ```

use super::inbound::{Heard, heard};
use super::pdu::{Body, Message, Pdu, status};
use crate::providers::ask::{Kind, Refusal};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Parts that wait for the window. Beyond it a job is refused: its provider is too slow to be of use.
const WAITING_MAX: usize = 200;
/// Our own enquiries that may go unanswered.
const ENQUIRIES_MAX: u32 = 2;
/// How long a submit_sm may go unanswered. What is still out then is lost, and only a new session gives its place in the window back.
const RESPONSE_MAX: Duration = Duration::from_secs(60);

pub type JobId = u64;

pub struct Session {
    window: usize,
    enquire_every: Duration,
    next_sequence: u32,
    waiting: VecDeque<Part>,
    /// By sequence number: what is not answered yet, and since when.
    out: HashMap<u32, (Sent, Instant)>,
    jobs: HashMap<JobId, Job>,
    quiet_since: Instant,
    enquiries: u32,
}

struct Job {
    parts_left: usize,
    until: Instant,
    /// What the centre calls its last part.
    name: String,
}

struct Part {
    sent: Sent,
    message: Box<Message>,
}

#[derive(Clone, Copy)]
struct Sent {
    job: JobId,
    /// The receipt is asked for with the last part, so its name is the one that comes back.
    last: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    Write(Pdu),
    Done(JobId, Result<String, Refusal>),
    /// To be answered with [`Session::taken`].
    Heard(u32, Heard),
    /// The line is dead, or the other end said goodbye.
    Close(String),
}

impl Session {
    pub fn new(window: u32, enquire_every: Duration, now: Instant) -> Self {
        Self {
            window: window.clamp(1, 100) as usize,
            enquire_every,
            // The bind was the first.
            next_sequence: 2,
            waiting: VecDeque::new(),
            out: HashMap::new(),
            jobs: HashMap::new(),
            quiet_since: now,
            enquiries: 0,
        }
    }

    /// A text in its parts. It is refused where nobody answers until `until`.
    pub fn submit(&mut self, id: JobId, parts: Vec<Message>, until: Instant, now: Instant) -> Vec<Output> {
        if parts.is_empty() || self.waiting.len() + parts.len() > WAITING_MAX {
            return vec![Output::Done(id, Err(Refusal::new(Kind::Busy, "too much waits for it already")))];
        }
        let count = parts.len();
        self.jobs.insert(id, Job { parts_left: count, until, name: String::new() });
        self.waiting.extend(parts.into_iter().enumerate().map(|(place, message)| Part {
            sent: Sent { job: id, last: place + 1 == count },
            message: Box::new(message),
        }));
        self.fill_window(now)
    }

    pub fn receive(&mut self, pdu: Pdu, now: Instant) -> Vec<Output> {
        self.quiet_since = now;
        self.enquiries = 0;
        let Pdu { status, sequence, body } = pdu;
        match body {
            Body::SubmitSmResp { message_id } => self.answered(sequence, status, &message_id, now),
            // The other end understood nothing of what has this number.
            Body::GenericNack => {
                let status = if status == status::OK { status::SYSTEM_ERROR } else { status };
                self.answered(sequence, status, &[], now)
            }
            Body::DeliverSm(message) => match heard(&message) {
                Some(heard) => vec![Output::Heard(sequence, heard)],
                None => vec![self.taken(sequence, true)],
            },
            Body::EnquireLink => vec![answer(sequence, status::OK, Body::EnquireLinkResp)],
            Body::Unbind => vec![answer(sequence, status::OK, Body::UnbindResp), Output::Close("it unbound".into())],
            body if body.is_response() => vec![],
            _ => vec![answer(sequence, status::INVALID_COMMAND, Body::GenericNack)],
        }
    }

    /// The answer to what was heard; not taken means: again, later.
    pub fn taken(&self, sequence: u32, taken: bool) -> Output {
        let status = if taken { status::OK } else { status::QUEUE_FULL };
        answer(sequence, status, Body::DeliverSmResp { message_id: Vec::new() })
    }

    /// What time brings: answers that did not come, and the question whether the line still lives.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        let late: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.until <= now).map(|(id, _)| *id).collect();
        let late = late.into_iter().map(|id| self.end(id, Err(Refusal::new(Kind::Late, "no answer in time"))));
        let mut outputs: Vec<Output> = late.collect();
        if self.out.values().any(|(_, since)| now.saturating_duration_since(*since) >= RESPONSE_MAX) {
            outputs.push(Output::Close("it left a message unanswered".into()));
            return outputs;
        }
        if now.saturating_duration_since(self.quiet_since) >= self.enquire_every {
            if self.enquiries >= ENQUIRIES_MAX {
                outputs.push(Output::Close("it answers no enquiry".into()));
                return outputs;
            }
            self.quiet_since = now;
            self.enquiries += 1;
            let sequence = self.sequence();
            outputs.push(Output::Write(Pdu::new(sequence, Body::EnquireLink)));
        }
        outputs.extend(self.fill_window(now));
        outputs
    }

    /// Everything that is still open, when the session is over.
    pub fn end_all(&mut self, why: &'static str) -> Vec<Output> {
        let open: Vec<JobId> = self.jobs.keys().copied().collect();
        open.into_iter().map(|id| self.end(id, Err(Refusal::new(Kind::Unreachable, why)))).collect()
    }

    pub fn goodbye(&mut self) -> Pdu {
        Pdu::new(self.sequence(), Body::Unbind)
    }

    fn answered(&mut self, sequence: u32, status: u32, message_id: &[u8], now: Instant) -> Vec<Output> {
        // Not ours, or its job has ended meanwhile.
        let Some((Sent { job: id, last }, _)) = self.out.remove(&sequence) else { return vec![] };
        let mut outputs = Vec::new();
        if let Some(job) = self.jobs.get_mut(&id) {
            job.parts_left -= 1;
            if last {
                // Answers come in any order (section 2.7.1).
                job.name = String::from_utf8_lossy(message_id).chars().filter(|sign| !sign.is_control()).collect();
            }
            if status != status::OK {
                outputs.push(self.end(id, Err(refusal(status))));
            } else if job.parts_left == 0 {
                let name = std::mem::take(&mut job.name);
                outputs.push(self.end(id, Ok(name)));
            }
        }
        outputs.extend(self.fill_window(now));
        outputs
    }

    /// A PDU that is out keeps its place in the window until it is answered or the session ends: the centre still has it.
    fn end(&mut self, id: JobId, result: Result<String, Refusal>) -> Output {
        self.jobs.remove(&id);
        self.waiting.retain(|part| part.sent.job != id);
        Output::Done(id, result)
    }

    fn fill_window(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        while self.out.len() < self.window {
            let Some(Part { sent, message }) = self.waiting.pop_front() else { break };
            let sequence = self.sequence();
            self.out.insert(sequence, (sent, now));
            outputs.push(Output::Write(Pdu::new(sequence, Body::SubmitSm(message))));
        }
        outputs
    }

    /// 1 to 0x7FFFFFFF (section 3.2), and none that is still out.
    fn sequence(&mut self) -> u32 {
        loop {
            let sequence = self.next_sequence;
            self.next_sequence = if sequence >= 0x7fff_ffff { 1 } else { sequence + 1 };
            if !self.out.contains_key(&sequence) {
                return sequence;
            }
        }
    }
}

fn answer(sequence: u32, status: u32, body: Body) -> Output {
    Output::Write(Pdu { status, sequence, body })
}

fn refusal(status: u32) -> Refusal {
    let busy = matches!(status, status::THROTTLED | status::QUEUE_FULL | status::SYSTEM_ERROR);
    Refusal::new(if busy { Kind::Busy } else { Kind::Refused }, format!("SMPP status 0x{status:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(window: u32) -> (Session, Instant) {
        let now = Instant::now();
        (Session::new(window, Duration::from_secs(30), now), now)
    }

    fn parts(count: usize) -> Vec<Message> {
        vec![Message::default(); count]
    }

    fn written(outputs: &[Output]) -> Vec<u32> {
        outputs.iter().filter_map(|it| if let Output::Write(pdu) = it { Some(pdu.sequence) } else { None }).collect()
    }

    fn response(sequence: u32, status: u32, id: &str) -> Pdu {
        Pdu { status, sequence, body: Body::SubmitSmResp { message_id: id.as_bytes().to_vec() } }
    }

    #[test]
    fn no_more_are_out_than_the_window_allows_and_the_rest_follows_answers() {
        let (mut session, now) = session(2);
        let until = now + Duration::from_secs(5);
        assert_eq!(written(&session.submit(1, parts(1), until, now)), [2]);
        assert_eq!(written(&session.submit(2, parts(2), until, now)), [3]);
        assert_eq!(written(&session.submit(3, parts(1), until, now)), [0; 0]);
        let outputs = session.receive(response(2, 0, "a"), now);
        assert_eq!(outputs[0], Output::Done(1, Ok("a".into())));
        assert_eq!(written(&outputs), [4]);
        assert_eq!(written(&session.receive(response(3, 0, "b"), now)), [5], "the second part is not there yet");
        assert_eq!(session.receive(response(4, 0, "c"), now), [Output::Done(2, Ok("c".into()))]);
        assert_eq!(session.receive(response(4, 0, "c"), now), [], "answered twice");
        assert_eq!(session.receive(response(77, 0, "x"), now), [], "answered unasked");
    }

    #[test]
    fn an_error_ends_the_text_once_and_drops_its_other_parts() {
        let (mut session, now) = session(1);
        let until = now + Duration::from_secs(5);
        session.submit(1, parts(3), until, now);
        let outputs = session.receive(response(2, status::THROTTLED, ""), now);
        let busy = Refusal::new(Kind::Busy, "SMPP status 0x00000058");
        assert_eq!(outputs, [Output::Done(1, Err(busy))]);
        assert!(session.waiting.is_empty() && session.jobs.is_empty());
        session.submit(2, parts(1), until, now);
        let nack = Pdu { status: 3, sequence: 3, body: Body::GenericNack };
        let refused = Refusal::new(Kind::Refused, "SMPP status 0x00000003");
        assert_eq!(session.receive(nack, now), [Output::Done(2, Err(refused))]);
    }

    #[test]
    fn what_is_not_answered_in_time_is_late_and_keeps_its_place_in_the_window() {
        let (mut session, now) = session(1);
        session.submit(1, parts(1), now + Duration::from_secs(5), now);
        assert_eq!(session.tick(now + Duration::from_secs(4)), []);
        let late = Refusal::new(Kind::Late, "no answer in time");
        assert_eq!(session.tick(now + Duration::from_secs(5)), [Output::Done(1, Err(late))]);
        // The centre still works on it: nothing more is thrown at it.
        assert_eq!(written(&session.submit(2, parts(1), now + Duration::from_secs(9), now)), [0; 0]);
        assert_eq!(written(&session.receive(response(2, 0, "late"), now)), [3]);
    }

    #[test]
    fn a_text_has_the_name_of_its_last_part_in_whatever_order_answers_come() {
        // V-18: the receipt, which is asked for with the last part, says that name.
        let (mut session, now) = session(3);
        assert_eq!(written(&session.submit(1, parts(3), now + Duration::from_secs(5), now)), [2, 3, 4]);
        assert_eq!(session.receive(response(4, 0, "last"), now), []);
        assert_eq!(session.receive(response(2, 0, "first"), now), []);
        assert_eq!(session.receive(response(3, 0, "middle"), now), [Output::Done(1, Ok("last".into()))]);
    }

    #[test]
    fn a_session_whose_answers_are_lost_is_closed_before_its_window_is_full_for_good() {
        let (mut session, now) = session(2);
        let at = |seconds| now + Duration::from_secs(seconds);
        session.submit(1, parts(1), at(5), now);
        session.submit(2, parts(1), at(15), at(10));
        session.receive(response(3, 0, "answered"), at(11));
        // The line itself lives.
        for second in (10..60).step_by(10) {
            session.receive(Pdu::new(9, Body::EnquireLink), at(second));
            let closed = session.tick(at(second)).iter().any(|it| matches!(it, Output::Close(_)));
            assert!(!closed, "after {second} s");
        }
        assert_eq!(session.tick(at(60)), [Output::Close("it left a message unanswered".into())]);
    }

    #[test]
    fn a_line_that_answers_no_enquiry_is_closed_and_one_that_speaks_is_not() {
        let (mut session, now) = session(1);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(session.tick(at(29)), []);
        assert_eq!(written(&session.tick(at(30))), [2]);
        assert_eq!(written(&session.tick(at(60))), [3]);
        assert_eq!(session.tick(at(90)), [Output::Close("it answers no enquiry".into())]);
        session.receive(Pdu::new(3, Body::EnquireLinkResp), at(90));
        assert_eq!(session.tick(at(119)), []);
        assert_eq!(written(&session.tick(at(120))), [4]);
    }

    #[test]
    fn the_centre_is_answered_by_the_book() {
        let (mut session, now) = session(1);
        let said = session.receive(Pdu::new(9, Body::EnquireLink), now);
        assert_eq!(said, [Output::Write(Pdu::new(9, Body::EnquireLinkResp))]);
        let said = session.receive(Pdu::new(9, Body::Other { command: 0x103, octets: vec![] }), now);
        assert_eq!(said, [Output::Write(Pdu { status: 3, sequence: 9, body: Body::GenericNack })]);
        let said = session.receive(Pdu::new(9, Body::Unbind), now);
        assert_eq!(said[1], Output::Close("it unbound".into()));
    }

    #[test]
    fn what_waits_is_bounded_and_ends_with_the_session() {
        let (mut session, now) = session(1);
        let until = now + Duration::from_secs(5);
        for id in 0..=WAITING_MAX as u64 {
            session.submit(id, parts(1), until, now);
        }
        let outputs = session.submit(999, parts(1), until, now);
        assert!(matches!(&outputs[..], [Output::Done(999, Err(refusal))] if refusal.kind == Kind::Busy));
        assert_eq!(session.end_all("over").len(), WAITING_MAX + 1);
        assert!(session.jobs.is_empty() && session.waiting.is_empty());
    }
}
