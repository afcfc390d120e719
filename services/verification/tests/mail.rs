//! Mail through a real SMTP server, by others, that demands STARTTLS and a login, and misbehaves on command.

mod sms_support;

use lab::phones::{Mood, SmtpSink};
use proto::user_store::Mail;
use serde_json::{Value, json};
use sms_support::{NOW, Node, PHONE, steps};

const PASSWORD: &str = "m4il-passw0rd";

struct Post {
    sink: SmtpSink,
    ca: String,
    _dir: tempfile::TempDir,
}

impl Post {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let pki = lab::Pki::new(&dir.path().join("tls")).expect("a CA");
        let issued = pki.issue("mail", &["localhost"]).expect("a certificate");
        let sink = SmtpSink::start(dir.path(), &issued, PASSWORD).expect("it starts");
        let ca = std::fs::read_to_string(pki.ca_file()).expect("PEM");
        Self { sink, ca, _dir: dir }
    }

    fn provider(&self, name: &str) -> Value {
        json!({"name": name, "channel": "mail", "secret": "keep", "adapter": {
            "kind": "smtp", "host": "localhost", "port": self.sink.port(), "user": SmtpSink::USER,
            "sender": "Twinlock <mfa@example.com>", "reply_to": "help@example.com", "ca": self.ca,
        }})
    }
}

fn mail(id: &str, kind: &str, user_id: &str, to: &[&str]) -> Mail {
    Mail {
        mail_id: id.into(),
        kind: kind.into(),
        user_id: user_id.into(),
        to: to.iter().map(|&address| address.to_owned()).collect(),
        language: "de".into(),
        variables: [("username", "ann"), ("first_name", "Änn"), ("link", "https://mfa.example.com/i/1?a=b&c=d")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        expires_unix_ms: NOW + 86_400_000,
        tries: 0,
    }
}

const SECRETS: [(&str, &str); 2] = [("provider.mx.secret", PASSWORD), ("provider.mx2.secret", PASSWORD)];

async fn node(providers: Value) -> Node {
    Node::new(providers, json!({"mail": {"to_users": true}}), &SECRETS).await
}

#[tokio::test]
async fn a_mail_of_the_outbox_is_rendered_and_sent_privately() {
    // FN-01, FN-03
    let post = Post::start();
    let node = node(json!([post.provider("mx")])).await;
    node.store.queue(mail("m1", "invitation", "u1", &["ann@example.com"]));
    node.until("the mail", || node.store.ended().len() == 1).await;
    assert_eq!(node.store.ended()["m1"], "sent");
    let [received] = &post.sink.received()[..] else { panic!("one mail") };
    assert!(received.is_private(), "STARTTLS and a login");
    assert_eq!(received.to(), "ann@example.com");
    assert_eq!(received.field("subject"), "Ihre Einladung von Example");
    assert!(received.field("text").contains("Guten Tag Änn,"), "{}", received.field("text"));
    assert!(received.field("text").contains("https://mfa.example.com/i/1?a=b&c=d"));
    assert!(received.field("html").contains("<a href=\"https://mfa.example.com/i/1?a=b&amp;c=d\">"));
    assert_eq!(received.field("message_id"), "<m1.0@example.com>");
    assert_eq!((received.field("auto_submitted"), received.field("reply_to")), ("auto-generated", "help@example.com"));
    assert_eq!(node.store.noted(), ["accepted mx  a•••@example.com"]);
}

#[tokio::test]
async fn what_is_refused_for_good_ends_and_what_cannot_be_now_is_tried_again() {
    // FN-01
    let post = Post::start();
    let node = node(json!([post.provider("mx")])).await;
    node.store.queue(mail("gone", "updated", "u1", &["refused@example.com"]));
    node.store.queue(mail("later", "updated", "u1", &["later@example.com"]));
    node.store.queue(Mail { tries: 3, ..mail("fourth", "updated", "u1", &["later@example.com"]) });
    node.store.queue(Mail { expires_unix_ms: NOW + 59_000, ..mail("short", "updated", "u1", &["later@example.com"]) });
    node.store.queue(mail("some", "sync_failed", "", &["ben@example.com", "refused@example.com"]));
    node.store.queue(mail("none", "nothing", "", &["ben@example.com"]));
    node.store.queue(Mail { expires_unix_ms: NOW, ..mail("late", "sync_failed", "", &["ben@example.com"]) });
    node.until("all of them", || node.store.ended().len() == 7).await;
    let ended = node.store.ended();
    assert_eq!(ended["gone"], "never: refused for 1 of 1");
    assert_eq!(ended["later"], "again after 60 s");
    assert_eq!(ended["fourth"], "again after 480 s");
    assert_eq!(ended["short"], "never: no server took it in time");
    assert_eq!(ended["some"], "sent");
    assert_eq!(ended["none"], "never: no text has this kind");
    assert_eq!(ended["late"], "never: it came too late");
    assert_eq!(post.sink.received().len(), 1, "ben's alone");
}

#[tokio::test]
async fn users_get_no_mail_unless_it_is_switched_on_and_administrators_do() {
    // FN-02
    let post = Post::start();
    let node = Node::new(json!([post.provider("mx")]), json!({}), &SECRETS).await;
    node.store.queue(mail("user", "blocked", "u1", &["ann@example.com"]));
    node.store.queue(mail("admins", "fraud", "", &["ben@example.com"]));
    node.until("both", || node.store.ended().len() == 2).await;
    assert_eq!(node.store.ended()["user"], "never: mail to users is off");
    assert_eq!(node.store.ended()["admins"], "sent");
    assert_eq!(post.sink.received().len(), 1);
}

#[tokio::test]
async fn administrators_hear_of_what_the_settings_say_in_words_of_their_own() {
    // FV-27
    let post = Post::start();
    let notify = json!({"notify": {"blocked": ["soc@example.com", "it@example.com"], "fraud": []}});
    let node = Node::new(json!([post.provider("mx")]), json!({"mail": notify}), &SECRETS).await;
    for kind in ["blocked", "fraud", "locked"] {
        node.store.queue(mail(kind, kind, "", &[]));
    }
    node.until("all of them", || node.store.ended().len() == 3).await;
    let ended = node.store.ended();
    assert_eq!(ended["blocked"], "sent");
    for unwanted in ["fraud", "locked"] {
        assert_eq!(ended[unwanted], "never: mail.notify names nobody for it");
    }
    let received = post.sink.received();
    let mut to: Vec<_> = received.iter().map(|mail| mail.to()).collect();
    to.sort_unstable();
    assert_eq!(to, ["it@example.com", "soc@example.com"]);
    assert_eq!(received[0].field("subject"), "Ein Benutzer ist gesperrt");
}

#[tokio::test]
async fn the_next_server_takes_what_the_first_does_not() {
    // FN-07
    let (first, second) = (Post::start(), Post::start());
    let node = node(json!([first.provider("mx"), second.provider("mx2")])).await;
    for (id, mood) in [("drop", Mood::Drop), ("lie", Mood::Lie), ("refuse", Mood::Refuse)] {
        first.sink.set_mood(mood);
        node.store.queue(mail(id, "updated", "u1", &["ann@example.com"]));
        node.until("the mail", || node.store.ended().contains_key(id)).await;
        assert_eq!(node.store.ended()[id], "sent", "{mood:?}");
    }
    assert_eq!(second.sink.received().len(), 3);
    first.sink.set_mood(Mood::Delay(200));
    let trial = node.send("mail", "mx", "ann@example.com").await;
    assert!(trial.accepted && trial.provider == "mx", "{}", steps(&trial));
    let last = first.sink.received().pop().expect("a mail");
    assert_eq!(last.field("subject"), "Test message of Example");
}

#[tokio::test]
async fn a_wrong_login_an_unknown_authority_and_no_server_are_told_apart() {
    let post = Post::start();
    let secrets = [("provider.mx.secret", "wrong")];
    let node = Node::new(json!([post.provider("mx")]), json!({}), &secrets).await;
    async fn said(node: &Node) -> String {
        steps(&node.send("mail", "", "ann@example.com").await)
    }
    assert_eq!(said(&node).await, "mx did not take it: SMTP 535");
    let dir = tempfile::tempdir().expect("a folder");
    let other = lab::Pki::new(dir.path()).expect("a CA");
    let mut stranger = post.provider("mx");
    stranger["adapter"]["ca"] = json!(std::fs::read_to_string(other.ca_file()).expect("PEM"));
    node.change(json!([stranger]), json!({}), &SECRETS).await;
    assert!(said(&node).await.starts_with("mx did not take it: no "));
    let mut nobody = post.provider("mx");
    nobody["adapter"]["port"] = json!(lab::free_port());
    node.change(json!([nobody]), json!({}), &SECRETS).await;
    assert_eq!(said(&node).await, "mx did not take it: no connection, or it broke");
    assert_eq!(post.sink.received().len(), 0);
}

#[tokio::test]
async fn a_text_may_go_out_as_a_mail_to_a_gateway() {
    let post = Post::start();
    let gateway = json!({"name": "gateway", "channel": "sms", "adapter": {
        "kind": "mail_gateway", "to": "{phone}@sms.example.com", "subject": "{phone}", "body": "{text}",
    }});
    let node = node(json!([gateway, post.provider("mx")])).await;
    let reply = node.send("sms", "", PHONE).await;
    assert!(reply.accepted && reply.provider == "gateway", "{}", steps(&reply));
    let [received] = &post.sink.received()[..] else { panic!("one mail") };
    assert_eq!((received.to(), received.field("subject")), ("+4915123456789@sms.example.com", PHONE));
    assert_eq!(received.field("text").trim(), "This is a test message of Example. Nothing has to be done.");
    assert_eq!(node.store.noted(), ["accepted gateway  •••• 6789"]);
    post.sink.set_mood(Mood::Refuse);
    assert_eq!(steps(&node.send("sms", "", PHONE).await), "gateway did not take it: SMTP 550");
}
