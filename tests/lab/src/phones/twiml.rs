//! A vendor of phone calls that speaks TwiML, and the phone of a person: it takes orders for calls as the vendor would, fetches our
//! documents with signed requests, plays them, and reports keys as the vendor's documentation says, its traps included.
//!
//! Control: the REST side can refuse, be late, say nothing or nonsense; the phone can forge signatures, say everything twice, and lie
//! about which call or prompt it is.

use super::http::{self, Request, write_form};
use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How the vendor takes orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Accept,
    /// After so many milliseconds.
    Delay(u64),
    /// Never answers.
    Silent,
    /// Breaks the connection off.
    Drop,
    Refuse(u16),
    /// Takes the call, and answers with something else.
    Lie,
}

/// Carries a callback to the product: address, headers, body; status and body come back.
pub type Deliver = Arc<dyn Fn(Callback) -> BoxFuture<'static, (u16, String)> + Send + Sync>;

/// One signed request to the product.
#[derive(Debug, Clone)]
pub struct Callback {
    pub url: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// The vendor's REST side.
pub struct TwimlVendor {
    /// `http://127.0.0.1:PORT/2010-04-01`
    pub base_url: String,
    account: String,
    secret: String,
    mood: Arc<Mutex<Mood>>,
    orders: tokio::sync::Mutex<mpsc::UnboundedReceiver<HashMap<String, String>>>,
    ended: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for TwimlVendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TwimlVendor {
    pub async fn start(account: &str, secret: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let base_url = format!("http://{}/2010-04-01", listener.local_addr()?);
        let mood = Arc::new(Mutex::new(Mood::Accept));
        let (sender, orders) = mpsc::unbounded_channel();
        let ended = Arc::<Mutex<Vec<String>>>::default();
        let desk = Desk {
            account: account.into(),
            secret: secret.into(),
            mood: mood.clone(),
            orders: sender,
            ended: ended.clone(),
        };
        let desk = Arc::new(desk);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let desk = desk.clone();
                tokio::spawn(async move { desk.serve(stream).await });
            }
        });
        let orders = tokio::sync::Mutex::new(orders);
        Ok(Self { base_url, account: account.into(), secret: secret.into(), mood, orders, ended, server })
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock().expect("whole") = mood;
    }

    /// The next order for a call, and the phone that rings for it.
    pub async fn next_call(&self, deliver: Deliver) -> Phone {
        tokio::time::timeout(Duration::from_secs(10), self.call(deliver)).await.expect("a call was ordered")
    }

    /// The same, however long it takes until one is ordered.
    pub async fn call(&self, deliver: Deliver) -> Phone {
        let order = self.orders.lock().await.recv().await.expect("the vendor runs");
        Phone {
            order,
            account: self.account.clone(),
            secret: self.secret.clone(),
            deliver,
            lies: Lies::default(),
            heard: Vec::new(),
            gather: None,
            over: false,
        }
    }

    /// The calls that were ended by order, by their names.
    pub fn ended(&self) -> Vec<String> {
        self.ended.lock().expect("whole").clone()
    }

    /// No call was ordered that nobody has asked for.
    pub async fn is_quiet(&self) -> bool {
        self.orders.lock().await.try_recv().is_err()
    }
}

struct Desk {
    account: String,
    secret: String,
    mood: Arc<Mutex<Mood>>,
    orders: mpsc::UnboundedSender<HashMap<String, String>>,
    ended: Arc<Mutex<Vec<String>>>,
}

impl Desk {
    async fn serve(&self, mut stream: TcpStream) {
        let Some(request) = http::read(&mut stream).await else { return };
        let mood = *self.mood.lock().expect("whole");
        match mood {
            Mood::Accept | Mood::Lie => {}
            Mood::Delay(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Mood::Silent => return std::future::pending().await,
            Mood::Drop => return,
            Mood::Refuse(status) => {
                return http::answer(&mut stream, status, "application/json", r#"{"code":20003}"#).await;
            }
        }
        let (status, body) = self.take(&request, mood);
        http::answer(&mut stream, status, "application/json", &body).await;
    }

    fn take(&self, request: &Request, mood: Mood) -> (u16, String) {
        if request.basic() != Some((self.account.clone(), self.secret.clone())) {
            return (401, r#"{"code":20003}"#.into());
        }
        let place = format!("/2010-04-01/Accounts/{}/Calls", self.account);
        let Some(rest) = request.path().strip_prefix(&place).filter(|_| request.method == "POST") else {
            return (404, r#"{"code":20404}"#.into());
        };
        match rest.strip_prefix('/').and_then(|rest| rest.strip_suffix(".json")) {
            Some(call) => self.change(call, &request.form()),
            None if rest == ".json" => self.order(request.form(), mood),
            None => (404, r#"{"code":20404}"#.into()),
        }
    }

    /// A call that is under way; one that is over is none of its business any more.
    fn change(&self, call: &str, form: &HashMap<String, String>) -> (u16, String) {
        if form.get("Status").is_none_or(|status| status != "completed") {
            return (400, r#"{"code":21218}"#.into());
        }
        let mut ended = self.ended.lock().expect("whole");
        if ended.iter().any(|known| known == call) {
            return (400, r#"{"code":21220}"#.into());
        }
        ended.push(call.to_owned());
        (200, format!(r#"{{"sid":"{call}","status":"completed"}}"#))
    }

    fn order(&self, mut order: HashMap<String, String>, mood: Mood) -> (u16, String) {
        if !order.get("To").is_some_and(|to| to.starts_with('+')) || !order.contains_key("From") {
            return (400, r#"{"code":21211}"#.into());
        }
        let sid = format!("CA{:032x}", fresh());
        order.insert("CallSid".into(), sid.clone());
        let _ = self.orders.send(order);
        match mood {
            Mood::Lie => (201, r#"{"sid":17}"#.into()),
            _ => (201, format!(r#"{{"sid":"{sid}","status":"queued"}}"#)),
        }
    }
}

fn fresh() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How a phone's callbacks are wrong.
#[derive(Debug, Clone, Default)]
pub struct Lies {
    /// Every callback comes twice; both answers must be the same.
    pub double: bool,
    pub wrong_signature: bool,
    pub no_signature: bool,
    /// Another call's name.
    pub call_sid: Option<String>,
    /// Text of the address and what stands there instead; signed as it is then.
    pub address: Option<(String, String)>,
}

/// A phone that rings: what happens on it is the test's to say.
pub struct Phone {
    pub order: HashMap<String, String>,
    pub lies: Lies,
    /// What was said, in order: words, `<address of a recording>`, `[keys]`.
    pub heard: Vec<String>,
    account: String,
    secret: String,
    deliver: Deliver,
    gather: Option<Gather>,
    over: bool,
}

#[derive(Debug, Clone)]
struct Gather {
    action: String,
    finish_on_key: String,
    digits_max: usize,
    /// Where the call goes on when no key came.
    otherwise: Option<String>,
}

impl Phone {
    /// Somebody picks up, or `machine_start` does. Returns the status we got.
    pub async fn answer(&mut self, answered_by: &str) -> u16 {
        let url = self.order["Url"].clone();
        let detects = self.order.get("MachineDetection").is_some_and(|how| how == "Enable");
        let mut fields = vec![("CallStatus", "in-progress")];
        if detects {
            fields.push(("AnsweredBy", answered_by));
        }
        self.fetch(&url, &fields).await
    }

    /// Keys, one after the other, as the vendor reads them: where `#` ends the input, a `#` alone is not reported.
    pub async fn press(&mut self, keys: &str) -> u16 {
        let mut left = keys.chars();
        let mut status = 0;
        while let Some(gather) = self.gather.clone() {
            let (mut typed, mut ended) = (String::new(), false);
            for key in left.by_ref() {
                if gather.finish_on_key == key.to_string() {
                    ended = true;
                    break;
                }
                typed.push(key);
                if typed.len() == gather.digits_max {
                    ended = true;
                    break;
                }
            }
            if !ended && typed.is_empty() {
                break;
            }
            self.gather = None;
            status = match (typed.is_empty(), gather.otherwise) {
                (false, _) => self.fetch(&gather.action, &[("CallStatus", "in-progress"), ("Digits", &typed)]).await,
                (true, Some(next)) => self.fetch(&next, &[("CallStatus", "in-progress")]).await,
                (true, None) => 0,
            };
        }
        status
    }

    /// Nobody presses a key until the vendor goes on.
    pub async fn keep_silent(&mut self) -> u16 {
        match self.gather.take().and_then(|gather| gather.otherwise) {
            Some(next) => self.fetch(&next, &[("CallStatus", "in-progress")]).await,
            None => 0,
        }
    }

    pub async fn hang_up(&mut self) -> u16 {
        self.over = true;
        self.gather = None;
        self.status("completed").await
    }

    /// `busy`, `no-answer`, `failed`, `completed`.
    pub async fn status(&mut self, status: &str) -> u16 {
        let Some(url) = self.order.get("StatusCallback").cloned() else { return 0 };
        self.send(&url, &[("CallStatus", status)]).await.0
    }

    /// The call is over: we hung up.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The last thing said.
    pub fn last(&self) -> &str {
        self.heard.last().map_or("", String::as_str)
    }

    /// Sends one callback, and the same once more, for tests of what is heard twice.
    pub async fn send(&mut self, url: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let callback = self.callback(url, fields);
        let first = (self.deliver)(callback.clone()).await;
        if self.lies.double {
            let second = (self.deliver)(callback).await;
            assert_eq!(first, second, "the same callback twice has the same answer");
        }
        first
    }

    /// A callback as this phone would send it now.
    pub fn callback(&self, url: &str, fields: &[(&str, &str)]) -> Callback {
        let url = match &self.lies.address {
            Some((there, instead)) => url.replace(there, instead),
            None => url.to_owned(),
        };
        let mut form: BTreeMap<String, String> = BTreeMap::new();
        form.insert("AccountSid".into(), self.account.clone());
        form.insert("CallSid".into(), self.lies.call_sid.clone().unwrap_or_else(|| self.order["CallSid"].clone()));
        form.insert("To".into(), self.order["To"].clone());
        form.insert("From".into(), self.order["From"].clone());
        form.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).expect("any length");
        mac.update(url.as_bytes());
        for (name, value) in &form {
            mac.update(name.as_bytes());
            mac.update(value.as_bytes());
        }
        let mut signature = mac.finalize().into_bytes().to_vec();
        if self.lies.wrong_signature {
            signature[0] ^= 1;
        }
        let mut headers: HashMap<String, String> =
            [("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())].into();
        if !self.lies.no_signature {
            headers.insert("x-twilio-signature".into(), data_encoding::BASE64.encode(&signature));
        }
        Callback { url, headers, body: write_form(&form) }
    }

    /// Asks what to do, and does it until somebody has to press a key.
    async fn fetch(&mut self, url: &str, fields: &[(&str, &str)]) -> u16 {
        let mut next = Some((url.to_owned(), fields.to_vec()));
        let mut status = 0;
        // A document may send us on; not for ever.
        for _ in 0..20 {
            let Some((url, fields)) = next.take() else { break };
            let (got, body) = self.send(&url, &fields).await;
            status = got;
            if got != 200 {
                self.over = true;
                return got;
            }
            next = self.play(&body).await.map(|url| (url, vec![("CallStatus", "in-progress")]));
        }
        if self.over {
            self.status("completed").await;
        }
        status
    }

    /// Plays a document up to a question; returns where it sends us.
    async fn play(&mut self, document: &str) -> Option<String> {
        let tree = roxmltree::Document::parse(document).expect("a well-formed document");
        assert_eq!(tree.root_element().tag_name().name(), "Response");
        let verbs: Vec<_> = tree.root_element().children().filter(roxmltree::Node::is_element).collect();
        for (place, verb) in verbs.iter().enumerate() {
            match verb.tag_name().name() {
                "Say" | "Play" => self.utter(verb),
                "Pause" => tokio::task::yield_now().await,
                "Redirect" => return verb.text().map(str::to_owned),
                "Hangup" => {
                    self.over = true;
                    return None;
                }
                "Gather" => {
                    verb.children().filter(roxmltree::Node::is_element).for_each(|inner| self.utter(&inner));
                    let otherwise = verbs[place + 1..].iter().find(|verb| verb.tag_name().name() == "Redirect");
                    self.gather = Some(Gather {
                        action: verb.attribute("action").expect("an action").to_owned(),
                        finish_on_key: verb.attribute("finishOnKey").unwrap_or("#").to_owned(),
                        digits_max: verb.attribute("numDigits").map_or(usize::MAX, |n| n.parse().expect("a number")),
                        otherwise: otherwise.and_then(|verb| verb.text()).map(str::to_owned),
                    });
                    return None;
                }
                unknown => panic!("no vendor knows the verb {unknown}"),
            }
        }
        self.over = true;
        None
    }

    fn utter(&mut self, verb: &roxmltree::Node<'_, '_>) {
        self.heard.push(match (verb.tag_name().name(), verb.attribute("digits")) {
            ("Play", Some(digits)) => format!("[{digits}]"),
            ("Play", None) => format!("<{}>", verb.text().unwrap_or_default()),
            ("Say", _) => verb.text().unwrap_or_default().to_owned(),
            (unknown, _) => panic!("no vendor nests {unknown}"),
        });
    }
}
