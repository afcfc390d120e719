//! Prompts, sent codes, secrets, remembered logins and mail as the store's contract has them.

use super::{State, TRIES};
use domain::Secret;
use proto::user_store::{
    CheckSecretReply, CheckSecretRequest, CheckSentCodeReply, CheckSentCodeRequest, CommitAllowRequest, Mail,
    OpenPromptReply, OpenPromptRequest, OpenSentCodeReply, OpenSentCodeRequest, Prompt, PromptResult, PutMailRequest,
    RememberLogin, ResolvePromptReply, ResolvePromptRequest, SecretKind, SecretResult, SentCodeResult, SetPhoneRequest,
};
use std::collections::{HashMap, HashSet};

const MINUTE: i64 = 60_000;

#[derive(Default)]
pub struct Kept {
    pub prompts: Vec<Prompt>,
    /// Where in the list: by id, by attempt, by user.
    places: HashMap<String, Vec<usize>>,
    spent_prompts: HashSet<String>,
    sent: HashMap<String, SentCode>,
    /// By user and kind: what is right, and how often it still is.
    pub secrets: HashMap<(String, i32), Vec<(String, u32)>>,
    wrong: HashMap<(String, i32), u32>,
    /// By user: codes of texts typed since the last one that let in.
    wrong_sent: HashMap<String, u32>,
    proofs: HashMap<String, Proof>,
    pub remembered: HashMap<Vec<u8>, Remembered>,
    pub mails: Vec<Mail>,
    pub mail_keys: HashSet<String>,
    pub phones: Vec<SetPhoneRequest>,
}

struct SentCode {
    user_id: String,
    kind: String,
    digest: Vec<u8>,
    at: i64,
    expires: i64,
    tries_left: u32,
    /// "open", "right", "spent", "void"
    state: &'static str,
    number: (String, String, bool),
}

struct Proof {
    user_id: String,
    transaction_id: String,
    kind: i32,
    secret: String,
}

pub struct Remembered {
    pub user_id: String,
    pub login: RememberLogin,
    idle_until: i64,
    life_until: i64,
}

impl Kept {
    /// V-23: one open prompt a user; quiet after a refusal; three refused or expired in ten minutes close it for fifteen.
    pub fn open_prompt(&mut self, request: OpenPromptRequest) -> OpenPromptReply {
        let prompt = request.prompt.expect("a prompt");
        let now = request.now_unix_ms;
        assert!(prompt.expires_unix_ms > now && prompt.outcome.is_empty() && !prompt.client.is_empty());
        let answer = |result: PromptResult, until_unix_ms, prompt| OpenPromptReply {
            result: result.into(),
            until_unix_ms,
            prompt,
        };
        let before = self.find(&[], std::slice::from_ref(&prompt.transaction_id));
        if let Some(before) = before.into_iter().find(|kept| kept.method == prompt.method) {
            return answer(PromptResult::Joined, 0, Some(before));
        }
        let places = self.places.get(&prompt.user_id).cloned().unwrap_or_default();
        for place in &places {
            let kept = &mut self.prompts[*place];
            if kept.outcome.is_empty() && kept.expires_unix_ms <= now {
                kept.outcome = "expired".into();
                kept.answered_unix_ms = kept.expires_unix_ms;
            }
        }
        let mine: Vec<&Prompt> = places.iter().map(|place| &self.prompts[*place]).collect();
        if let Some(open) = mine.iter().find(|kept| kept.outcome.is_empty()) {
            return answer(PromptResult::Pending, open.expires_unix_ms, None);
        }
        let refused: Vec<i64> = mine
            .iter()
            .filter(|kept| matches!(kept.outcome.as_str(), "denied" | "fraud" | "expired" | "wrong_number"))
            .map(|kept| kept.answered_unix_ms)
            .collect();
        let last = refused.iter().max().copied().unwrap_or(i64::MIN / 2);
        if refused.iter().filter(|at| **at > last - 10 * MINUTE).count() >= 3 && now < last + 15 * MINUTE {
            return answer(PromptResult::RateLimited, last + 15 * MINUTE, None);
        }
        let quiet = i64::from(request.cool_down_seconds) * 1000;
        let denied = mine.iter().filter(|kept| matches!(kept.outcome.as_str(), "denied" | "fraud"));
        let last = denied.map(|kept| kept.answered_unix_ms).max().unwrap_or(i64::MIN / 2);
        if now < last + quiet {
            return answer(PromptResult::CoolingDown, last + quiet, None);
        }
        if mine.len() as u32 >= request.prompts_per_day {
            return answer(PromptResult::RateLimited, now + 1440 * MINUTE, None);
        }
        for key in [&prompt.prompt_id, &prompt.transaction_id, &prompt.user_id] {
            self.places.entry(key.clone()).or_default().push(self.prompts.len());
        }
        self.prompts.push(prompt.clone());
        answer(PromptResult::Opened, 0, Some(prompt))
    }

    pub fn find(&self, prompt_ids: &[String], transaction_ids: &[String]) -> Vec<Prompt> {
        let places = prompt_ids.iter().chain(transaction_ids).filter_map(|key| self.places.get(key)).flatten();
        places.map(|place| self.prompts[*place].clone()).collect()
    }

    pub fn resolve(&mut self, request: &ResolvePromptRequest) -> ResolvePromptReply {
        let Some(place) = self.places.get(&request.prompt_id).and_then(|places| places.first()) else {
            return ResolvePromptReply::default();
        };
        let prompt = &mut self.prompts[*place];
        let mut taken = false;
        if prompt.outcome.is_empty() {
            let late = request.outcome == "approved" && request.now_unix_ms >= prompt.expires_unix_ms;
            prompt.outcome = if late { "expired".into() } else { request.outcome.clone() };
            prompt.answered_unix_ms = request.now_unix_ms;
            prompt.assurance.clone_from(&request.assurance);
            prompt.answered_by.clone_from(&request.answered_by);
            prompt.pin_handle.clone_from(&request.pin_handle);
            taken = !late;
        }
        ResolvePromptReply { taken, prompt: Some(prompt.clone()) }
    }

    pub fn open_sent_code(&mut self, request: OpenSentCodeRequest) -> OpenSentCodeReply {
        assert!(!request.digest.is_empty() && !request.phone_prefix.is_empty());
        let now = request.now_unix_ms;
        let of = |sent: &&mut SentCode| sent.user_id == request.user_id && sent.kind == request.kind;
        let times: Vec<i64> = self.sent.values_mut().filter(of).map(|sent| sent.at).collect();
        if let Some(last) = times.iter().max().filter(|last| now < **last + 30_000) {
            return OpenSentCodeReply { opened: false, retry_unix_ms: last + 30_000 };
        }
        if times.iter().filter(|at| **at > now - 60 * MINUTE).count() >= 5 {
            return OpenSentCodeReply { opened: false, retry_unix_ms: now + 60 * MINUTE };
        }
        for older in self.sent.values_mut().filter(of) {
            older.state = "void";
        }
        let sent = SentCode {
            user_id: request.user_id,
            kind: request.kind,
            digest: request.digest,
            at: now,
            expires: request.expires_unix_ms,
            tries_left: 3,
            state: "open",
            number: (request.number, request.extension, request.backup),
        };
        self.sent.insert(request.transaction_id, sent);
        OpenSentCodeReply { opened: true, retry_unix_ms: 0 }
    }

    pub fn check_sent_code(&mut self, request: &CheckSentCodeRequest) -> CheckSentCodeReply {
        let answer = |result: SentCodeResult| CheckSentCodeReply { result: result.into(), ..Default::default() };
        let kept = self.sent.get_mut(&request.transaction_id).filter(|sent| sent.user_id == request.user_id);
        let Some(sent) = kept else { return answer(SentCodeResult::Gone) };
        if sent.state != "open" || sent.tries_left == 0 || sent.expires <= request.now_unix_ms {
            return answer(SentCodeResult::Gone);
        }
        if sent.kind == "sms" {
            assert!(!request.source.is_empty());
            let wrong = self.wrong_sent.entry(request.user_id.clone()).or_default();
            if *wrong >= TRIES {
                let retry_unix_ms = request.now_unix_ms + MINUTE;
                return CheckSentCodeReply { retry_unix_ms, ..answer(SentCodeResult::Locked) };
            }
            *wrong += 1;
        }
        sent.tries_left -= 1;
        if sent.digest != request.digest {
            return answer(SentCodeResult::Wrong);
        }
        sent.state = "right";
        let (number, extension, backup) = sent.number.clone();
        CheckSentCodeReply { result: SentCodeResult::Right.into(), number, extension, backup, retry_unix_ms: 0 }
    }

    pub fn check_secret(&mut self, request: CheckSecretRequest) -> CheckSecretReply {
        let answer = |result: SecretResult| CheckSecretReply { result: result.into(), ..Default::default() };
        let key = (request.user_id.clone(), request.kind);
        let Some(right) = self.secrets.get(&key).filter(|kept| kept.iter().any(|(_, uses)| *uses > 0)) else {
            return answer(SecretResult::None);
        };
        let wrong = self.wrong.entry(key).or_default();
        if *wrong >= TRIES {
            return CheckSecretReply {
                retry_unix_ms: request.now_unix_ms + 60 * MINUTE,
                ..answer(SecretResult::Locked)
            };
        }
        *wrong += 1;
        let text = |secret: proto::common::Secret| Secret::from(secret).expose_str().expect("text").to_owned();
        let typed = match request.kind() {
            SecretKind::Answers => request.answers.into_iter().map(text).collect::<Vec<_>>().join("\n"),
            _ => text(request.secret.expect("a secret")),
        };
        if !right.iter().any(|(secret, uses)| *secret == typed && *uses > 0) {
            return answer(SecretResult::Wrong);
        }
        *wrong = 0;
        let handle = format!("proof-{}", self.proofs.len());
        let proof = Proof {
            user_id: request.user_id,
            transaction_id: request.transaction_id,
            kind: request.kind,
            secret: typed,
        };
        self.proofs.insert(handle.clone(), proof);
        CheckSecretReply { result: SecretResult::Right.into(), handle, retry_unix_ms: 0 }
    }

    /// Is what the Allow rests on there, and is it now spent?
    pub fn spend(&mut self, user_id: &str, transaction_id: &str, now: i64, request: &CommitAllowRequest) -> bool {
        if !request.pin_handle.is_empty() && !self.proof(&request.pin_handle, user_id, transaction_id) {
            return false;
        }
        if !request.prompt_id.is_empty() {
            let good = |kept: &&Prompt| {
                kept.prompt_id == request.prompt_id
                    && kept.user_id == user_id
                    && kept.transaction_id == transaction_id
                    && kept.outcome == "approved"
            };
            let found = self.find(std::slice::from_ref(&request.prompt_id), &[]);
            return found.iter().any(|kept| good(&kept)) && self.spent_prompts.insert(request.prompt_id.clone());
        }
        if request.sent_code {
            let sent =
                self.sent.get_mut(transaction_id).filter(|sent| sent.user_id == user_id && sent.state == "right");
            let spent = sent.map(|sent| sent.state = "spent").is_some();
            if spent {
                self.wrong_sent.remove(user_id);
            }
            return spent;
        }
        if !request.secret_handle.is_empty() {
            if !self.proof(&request.secret_handle, user_id, transaction_id) {
                return false;
            }
            let proof = self.proofs.remove(&request.secret_handle).expect("there");
            let kept = self.secrets.get_mut(&(user_id.to_owned(), proof.kind));
            let left = kept.into_iter().flatten().find(|(secret, uses)| *secret == proof.secret && *uses > 0);
            return left.map(|(_, uses)| *uses -= 1).is_some();
        }
        if !request.remembered_key.is_empty() {
            let kept = self.remembered.get_mut(&request.remembered_key).filter(|kept| kept.user_id == user_id);
            let open = kept.filter(|kept| kept.idle_until > now && kept.life_until > now);
            return open.map(|kept| kept.idle_until = now + i64::from(kept.login.idle_seconds) * 1000).is_some();
        }
        true
    }

    pub fn remember(&mut self, user_id: &str, now: i64, login: RememberLogin) {
        let kept = Remembered {
            user_id: user_id.into(),
            idle_until: now + i64::from(login.idle_seconds) * 1000,
            life_until: now + i64::from(login.life_seconds) * 1000,
            login,
        };
        self.remembered.insert(kept.login.key.clone(), kept);
    }

    pub fn put_mail(&mut self, request: PutMailRequest) {
        if self.mail_keys.insert(request.once_key) {
            self.mails.push(request.mail.expect("a mail"));
        }
    }

    fn proof(&self, handle: &str, user_id: &str, transaction_id: &str) -> bool {
        let kept = self.proofs.get(handle);
        kept.is_some_and(|proof| proof.user_id == user_id && proof.transaction_id == transaction_id)
    }
}

impl State {
    pub fn kept(&mut self) -> &mut Kept {
        &mut self.kept
    }
}
