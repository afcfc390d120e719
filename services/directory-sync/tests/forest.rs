//! The other domains of a forest are read with the directory that lists them (FD-02): over scripted domain controllers, which fall silent,
//! are listed no longer, or turn out to be somebody else.

mod fakes;
#[path = "../../../crates/directory/tests/support/mod.rs"]
mod support;

use bytes::Bytes;
use fakes::{Lab, Run, item};
use ldap_wire::{Attribute, Dn, Filter, Message, Op, Scope, SearchRequest, SearchResultEntry, oid};
use proto::user_store::RequestSyncRequest;
use proto::user_store::left_object::How;
use serde_json::{Value, json};
use service_kit::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use support::{Do, Fake, bind_response, done, search_of};

const HOME: &str = "DC=corp,DC=example";
const CHILD: &str = "DC=child,DC=corp,DC=example";
const WEST: &str = "DC=west,DC=example";
const CONFIGURATION: &str = "CN=Configuration,DC=corp,DC=example";
/// The connect time-out and the operation time-out of the settings, of two searches.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Clone)]
struct Object {
    dn: String,
    values: BTreeMap<String, Vec<u8>>,
}

impl Object {
    fn new(dn: &str, class: &str, number: u8) -> Self {
        let object = Self { dn: dn.to_owned(), values: BTreeMap::new() };
        object.with("objectClass", class.as_bytes()).with("objectGUID", [number; 16])
    }

    fn with(mut self, attribute: &str, value: impl AsRef<[u8]>) -> Self {
        self.values.insert(attribute.to_lowercase(), value.as_ref().to_vec());
        self
    }

    fn fits(&self, filter: &Filter) -> bool {
        match filter {
            Filter::And(all) => all.iter().all(|filter| self.fits(filter)),
            Filter::Or(any) => any.iter().any(|filter| self.fits(filter)),
            Filter::Present(attribute) => self.values.contains_key(&attribute.to_lowercase()),
            Filter::Equal { attribute, value } => {
                self.values.get(&attribute.to_lowercase()).is_some_and(|known| known.eq_ignore_ascii_case(value))
            }
            Filter::Not(filter) => !self.fits(filter),
            // Only update sequence numbers are written, where there is a feed.
            Filter::GreaterOrEqual { attribute, value } => {
                let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u64>().ok();
                let known = self.values.get(&attribute.to_lowercase()).and_then(|known| number(known));
                known.is_some_and(|known| number(value).is_some_and(|least| known >= least))
            }
            other => panic!("no test asks for {other:?}"),
        }
    }
}

/// Somebody of a domain, directly below its base.
fn person(account: &str, base: &str, number: u8) -> Object {
    Object::new(&format!("CN={account},{base}"), "user", number)
        .with("objectCategory", "person")
        .with("sAMAccountName", account)
}

/// What a domain controller has, and how it behaves.
struct Held {
    objects: Vec<Object>,
    /// It takes a question in and says nothing.
    silent: fn(&SearchRequest) -> bool,
    /// Milliseconds before each answer.
    slow_by: u64,
    refuses_partitions: bool,
    hides_contexts: bool,
    /// It tells of one object that was changed, and says nothing of the others.
    cuts_feed: bool,
    /// The highest update sequence number; without one there is no feed.
    number: Option<u64>,
    searches: Vec<SearchRequest>,
}

impl Held {
    /// Something of this object was written.
    fn written(&mut self, place: usize) {
        if let Some(number) = self.number.as_mut() {
            *number += 1;
            self.objects[place].values.insert("usnchanged".into(), number.to_string().into());
        }
    }
}

struct Controller {
    fake: Fake,
    held: Arc<Mutex<Held>>,
}

impl Controller {
    /// Of this domain, whose base has an id of this number.
    async fn start(base: &'static str, number: u8, people: &[(&str, u8)]) -> Self {
        let every_system = Object::new(&format!("CN=RID Manager$,CN=System,{base}"), "rIDManager", 0);
        let mut objects = vec![Object::new(base, "domain", number), every_system];
        objects.extend(people.iter().map(|(account, number)| person(account, base, *number)));
        let (silent, searches) = (nothing as fn(&SearchRequest) -> bool, Vec::new());
        let held = Held {
            objects,
            silent,
            slow_by: 0,
            refuses_partitions: false,
            hides_contexts: false,
            cuts_feed: false,
            number: None,
            searches,
        };
        let held = Arc::new(Mutex::new(held));
        let scripted = Arc::clone(&held);
        let fake = Fake::start(move |message, _| {
            let mut held = scripted.lock().expect("no panic");
            let answer = answer(base, &mut held, message);
            let late = Some(Do::Wait(held.slow_by)).filter(|_| held.slow_by > 0);
            late.into_iter().chain(answer).collect()
        })
        .await;
        Self { fake, held }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no panic")
    }

    fn change(&self, account: &str, change: impl FnOnce(&mut Object)) {
        let mut held = self.held();
        let name = format!("CN={account},");
        let place = held.objects.iter().position(|object| object.dn.starts_with(&name)).expect("it is there");
        change(&mut held.objects[place]);
        held.written(place);
    }

    /// From here on it tells what was changed.
    fn has_feed(&self) {
        let settings = Object::new(&format!("CN=NTDS Settings,{CONFIGURATION}"), "nTDSDSA", 0);
        self.add(settings.with("invocationId", [7; 16]));
        let mut held = self.held();
        held.number = Some(1);
        (0..held.objects.len()).for_each(|place| held.written(place));
    }

    fn delete(&self, account: &str) -> Object {
        let mut held = self.held();
        let name = format!("CN={account},");
        let place = held.objects.iter().position(|object| object.dn.starts_with(&name)).expect("it is there");
        held.objects.remove(place)
    }

    fn add(&self, object: Object) {
        let mut held = self.held();
        held.objects.push(object);
        let place = held.objects.len() - 1;
        held.written(place);
    }

    /// Searches by the id of this number, since somebody asked last.
    fn asked_for(&self, number: u8) -> usize {
        let searches = std::mem::take(&mut self.held().searches);
        let asks = |search: &&SearchRequest| search.filter.windows(16).any(|octets| octets == [number; 16]);
        searches.iter().filter(asks).count()
    }
}

fn nothing(_: &SearchRequest) -> bool {
    false
}

fn everything(_: &SearchRequest) -> bool {
    true
}

/// Asks what was changed.
fn is_feed(search: &SearchRequest) -> bool {
    search.filter.windows(10).any(|octets| octets == b"uSNChanged") && search.scope == Scope::Subtree
}

/// Whoever asks where the feed stands waits.
fn numbers(search: &SearchRequest) -> bool {
    search.base.starts_with(b"CN=NTDS Settings")
}

/// Whoever asks for all users waits.
fn all_users(search: &SearchRequest) -> bool {
    let asks = |text: &[u8]| search.filter.windows(text.len()).any(|octets| octets == text);
    asks(b"person") && !asks(b"objectGUID")
}

fn answer(base: &str, held: &mut Held, message: &Message) -> Vec<Do> {
    let id = message.id();
    match message.op() {
        Op::BindRequest => return vec![bind_response(id, 0)],
        Op::SearchRequest => {}
        _ => return Vec::new(),
    }
    let search = search_of(message);
    if (held.silent)(&search) {
        return vec![Do::Hang];
    }
    held.searches.push(search.clone());
    let at = String::from_utf8_lossy(&search.base).into_owned();
    if at.is_empty() {
        let root = Object { dn: String::new(), values: BTreeMap::new() };
        let mut root = root.with("namingContexts", base);
        if !held.hides_contexts {
            root = root.with("defaultNamingContext", base).with("configurationNamingContext", CONFIGURATION);
        }
        if let Some(number) = held.number {
            root = root
                .with("supportedCapabilities", oid::CAPABILITY_ACTIVE_DIRECTORY)
                .with("dsServiceName", format!("CN=NTDS Settings,{CONFIGURATION}"))
                .with("highestCommittedUSN", number.to_string());
        }
        return vec![sends(message, &root), done(id, 0)];
    }
    // The container of what was deleted is hidden.
    if at.starts_with("<WKGUID=") {
        return vec![done(id, 32)];
    }
    if held.refuses_partitions && at.starts_with("CN=Partitions") {
        return vec![done(id, 50)];
    }
    let (filter, at): (Filter, Dn) = (Filter::from_ber(&search.filter).expect("ours"), at.parse().expect("ours"));
    let is_there = |object: &&Object| {
        let dn: Dn = object.dn.parse().expect("a DN");
        let depth = dn.rdns.len().saturating_sub(at.rdns.len());
        let within = match search.scope {
            Scope::Base => depth == 0,
            Scope::One => depth == 1,
            Scope::Subtree => true,
            _ => panic!("no test asks for that"),
        };
        within && dn.is_within(&at) && object.fits(&filter)
    };
    let found: Vec<Do> = held.objects.iter().filter(is_there).map(|object| sends(message, object)).collect();
    if held.cuts_feed && is_feed(&search) {
        return found.into_iter().take(1).chain([Do::Hang]).collect();
    }
    // A name that nobody has.
    let code = if found.is_empty() && search.scope == Scope::Base { 32 } else { 0 };
    found.into_iter().chain([done(id, code)]).collect()
}

fn sends(message: &Message, object: &Object) -> Do {
    let attribute = |(name, value): (&String, &Vec<u8>)| Attribute::new(name.clone(), vec![Bytes::from(value.clone())]);
    let attributes = object.values.iter().map(attribute).collect();
    Do::Send(SearchResultEntry { dn: object.dn.clone().into(), attributes }.encode(message.id(), &[]))
}

fn partition(name: &str, context: &str) -> Object {
    Object::new(&format!("CN={name},CN=Partitions,{CONFIGURATION}"), "crossRef", 0)
        .with("nCName", context)
        .with("nETBIOSName", name)
        .with("systemFlags", "3")
}

struct Forest {
    home: Controller,
    child: Controller,
    west: Controller,
    lab: Lab,
    process: Process,
}

impl Forest {
    /// `corp.example`, and in its forest `child.corp.example` and `west.example`.
    async fn start(items: Value) -> Self {
        Self::with(items, |_| {}).await
    }

    async fn with(items: Value, change: impl FnOnce(&mut Value)) -> Self {
        let home = Controller::start(HOME, 100, &[("alice", 1), ("bob", 2), ("carol", 3)]).await;
        let child = Controller::start(CHILD, 101, &[("bob", 11), ("dave", 12), ("erin", 13)]).await;
        let west = Controller::start(WEST, 102, &[("frank", 21)]).await;
        home.add(Object::new(&format!("CN=twinlock,{HOME}"), "account", 99).with("sAMAccountName", "twinlock"));
        for (name, context) in [("CORP", HOME), ("CHILD", CHILD), ("WEST", WEST)] {
            home.add(partition(name, context));
        }
        let mut document = json!({
            "directory": [{
                "name": "corp", "preset": "active_directory", "urls": [home.fake.url], "base": HOME, "netbios_domain": "CORP",
                "query_bind": { "kind": "simple", "name": format!("CN=twinlock,{HOME}"), "password": "keep" },
                "danger_clear_text": true, "connect_timeout_seconds": 1, "timeout_seconds": 1,
                "group_filter": "(objectClass=group)",
                "trusted": {
                    "child.corp.example": { "urls": [child.fake.url] }, "west.example": { "urls": [west.fake.url] },
                },
            }],
            "sync_item": items,
        });
        change(&mut document);
        let lab = Lab::new(document, "query");
        let process = lab.start();
        Self { home, child, west, lab, process }
    }

    /// What the directory listed a moment ago is not asked for again: another instance has not heard it.
    async fn restart(&mut self) {
        let before = std::mem::replace(&mut self.process, self.lab.start());
        before.finish().await;
    }

    async fn run_now(&self) -> Run {
        self.lab.run_now().await
    }

    async fn run_whole(&self) -> Run {
        let run = self.run_now().await;
        assert_eq!(run.finished, Some((true, String::new())), "{}", run.why);
        run
    }

    /// Why it was not complete.
    async fn run_in_part(&self) -> String {
        match self.run_now().await.finished {
            Some((false, why)) => why,
            other => panic!("it should be incomplete: {other:?}"),
        }
    }

    fn usernames(&self) -> BTreeSet<String> {
        self.lab.store.told().users.values().map(|(user, _)| user.username.clone()).collect()
    }

    fn left(&self) -> Vec<(String, How)> {
        let told = self.lab.store.told();
        let left = told.left.iter().map(|(id, how)| (told.users[id].0.username.clone(), *how));
        left.collect()
    }
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

const EVERYBODY: [&str; 7] = ["alice", "bob", "carol", r"CHILD\bob", r"CHILD\dave", r"CHILD\erin", r"WEST\frank"];

#[tokio::test]
async fn a_run_reads_the_other_domains_too_and_nobody_of_them_has_a_bare_name() {
    // FD-02, S-53, FS-14: two are called Bob
    let forest = Forest::start(json!([item("staff")])).await;
    forest.child.change("dave", |dave| *dave = dave.clone().with("userPrincipalName", "dave@child.corp.example"));
    let run = forest.run_whole().await;
    let told = forest.lab.store.told();
    let named = |number: u8| {
        let id = format!("objectGUID:{}", uuid::Uuid::from_bytes([number; 16]));
        let (user, _) = told.users.get(&id).unwrap_or_else(|| panic!("{number}"));
        (user.username.as_str(), user.names.iter().map(String::as_str).collect::<Vec<_>>(), user.items.clone())
    };
    let staff = vec!["staff".to_owned()];
    assert_eq!(named(2), ("bob", vec![r"CORP\bob", "bob"], staff.clone()));
    assert_eq!(named(11), (r"CHILD\bob", vec![r"CHILD\bob"], staff.clone()));
    let dave = vec![r"CHILD\dave", "dave@child.corp.example"];
    assert_eq!(named(12), ("dave@child.corp.example", dave, staff.clone()));
    assert_eq!(named(21), (r"WEST\frank", vec![r"WEST\frank"], staff));
    assert_eq!(told.users.len(), 7);
    // How each domain is read is told.
    let offers = run.begun.offers.join("\n");
    assert!(offers.contains("child.corp.example: ") && offers.contains("west.example: "), "{offers}");
    assert_eq!(
        run.users.iter().take(3).cloned().collect::<BTreeSet<_>>(),
        set(["alice", "bob", "carol"]),
        "home first"
    );
}

#[tokio::test]
async fn items_hold_what_lies_in_their_own_domain_and_groups_and_ids_concern_all() {
    // FD-02, FS-16, FS-21
    let container = |name: &str, dn: String| json!({ "name": name, "directory": "corp", "source": { "kind": "container", "dn": dn } });
    let frank = format!("objectGUID:{}", uuid::Uuid::from_bytes([21; 16]));
    let vpn = format!("CN=vpn,{HOME}");
    let items = json!([
        container("home", HOME.into()),
        container("there", format!("OU=sales,{CHILD}")),
        { "name": "chosen", "directory": "corp", "source": { "kind": "users", "ids": [frank] } },
    ]);
    let forest = Forest::start(items).await;
    forest.child.add(Object::new(&format!("OU=sales,{CHILD}"), "organizationalUnit", 50));
    forest.child.add(person("sally", &format!("OU=sales,{CHILD}"), 14));
    forest.run_whole().await;
    // Of the item of home's base is nobody whose name merely ends in it.
    assert_eq!(forest.usernames(), set(["alice", "bob", "carol", r"CHILD\sally", r"WEST\frank"]));
    let pins = forest.lab.store.told().source.pins.clone();
    assert!(pins.iter().any(|pin| pin.sync_item == "there" && pin.object_id.ends_with("32323232")), "{pins:?}");
    // By its id it is found again, in its domain, under another name.
    forest.child.held().objects.iter_mut().for_each(|object| object.dn = object.dn.replace("OU=sales", "OU=sold"));
    forest.run_whole().await;
    assert_eq!((forest.usernames().len(), forest.left()), (5, Vec::new()));
    // Members of a group may be of any domain: the store decides.
    let group = Object::new(&vpn, "group", 51).with("cn", "vpn").with("member", format!("CN=dave,{CHILD}"));
    forest.home.add(group);
    forest.lab.settings.change(|document| {
        document["sync_item"] =
            json!([{ "name": "vpn", "directory": "corp", "source": { "kind": "group", "dn": vpn } }]);
    });
    forest.run_whole().await;
    assert!(forest.lab.store.told().owned("vpn").is_superset(&set([r"CHILD\dave", r"WEST\frank", "alice"])));
}

#[tokio::test]
async fn a_domain_that_is_silent_delays_nobody_much_and_is_no_evidence_about_anybody() {
    // FD-02, S-41: from the start, and in the middle
    let forest = Forest::start(json!([item("staff")])).await;
    forest.run_whole().await;
    assert_eq!(forest.usernames(), set(EVERYBODY));
    for (silent, number) in [(everything as fn(&SearchRequest) -> bool, 4), (all_users, 5)] {
        forest.child.held().silent = silent;
        let new = format!("new{number}");
        forest.home.add(person(&new, HOME, number));
        forest.west.change("frank", |frank| *frank = frank.clone().with("givenName", &new));
        if number == 4 {
            forest.home.delete("alice");
        }
        let begun = Instant::now();
        let why = forest.run_in_part().await;
        assert!(why.contains("the domain child.corp.example could not be read") && !why.contains("west"), "{why}");
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert!(forest.usernames().contains(&new), "what home has is applied");
        let frank = forest.lab.store.told().users.values().find(|(user, _)| user.username == r"WEST\frank").cloned();
        assert_eq!(frank.expect("there").0.first_name, new, "and what the third one has");
        assert_eq!(forest.left(), Vec::new(), "nobody is gone: who is not at home may be there");
    }
    forest.child.held().silent = nothing;
    forest.run_whole().await;
    assert_eq!(forest.left(), [("alice".to_owned(), How::Absent)]);
}

#[tokio::test]
async fn a_domain_that_is_silent_before_it_was_ever_read_holds_up_nothing_of_the_others() {
    // FD-02, S-41
    let forest = Forest::start(json!([item("staff")])).await;
    forest.child.held().silent = everything;
    let why = forest.run_in_part().await;
    assert!(why.contains("child.corp.example"), "{why}");
    assert_eq!(forest.usernames(), set(["alice", "bob", "carol", r"WEST\frank"]));
    assert!(forest.lab.store.told().source.position.is_empty(), "no run has read it all");
}

#[tokio::test]
async fn who_was_not_met_is_looked_for_in_each_domain() {
    // S-43, FD-02
    let item = json!([{ "name": "sales", "directory": "corp", "source": { "kind": "container", "dn": format!("OU=sales,{CHILD}") } }]);
    let forest = Forest::start(item).await;
    let sales = format!("OU=sales,{CHILD}");
    forest.child.add(Object::new(&sales, "organizationalUnit", 50));
    for (account, number) in [("sally", 14), ("sam", 15), ("sue", 16)] {
        forest.child.add(person(account, &sales, number));
    }
    forest.run_whole().await;
    assert_eq!(forest.usernames().len(), 3);
    // One leaves the unit, one is deleted, one is moved to another domain of the forest, where nobody but a look by the id finds her.
    let moved = format!("CN=sally,{CHILD}");
    forest.child.change("sally", |sally| sally.dn.clone_from(&moved));
    forest.child.delete("sam");
    let sue = forest.child.delete("sue");
    forest.west.add(Object { dn: format!("CN=sue,{WEST}"), ..sue });
    for domain in [&forest.home, &forest.child, &forest.west] {
        domain.asked_for(0);
    }
    forest.run_whole().await;
    let left: BTreeMap<String, How> = forest.left().into_iter().collect();
    let expected = [(r"CHILD\sally", How::Outside), (r"CHILD\sam", How::Absent), (r"CHILD\sue", How::Outside)];
    assert_eq!(left, expected.map(|(name, how)| (name.to_owned(), how)).into());
    let asked = [&forest.home, &forest.child, &forest.west].map(|domain| domain.asked_for(15) > 0);
    assert_eq!(asked, [true, true, true], "he was looked for everywhere");
}

#[tokio::test]
async fn a_domain_that_is_listed_no_longer_has_nobody_any_more() {
    // FD-02, S-40: its people are leavers, and the store guards
    let mut forest = Forest::start(json!([item("staff")])).await;
    forest.run_whole().await;
    forest.home.delete("CHILD");
    forest.restart().await;
    let count = forest.lab.store.finished().len();
    forest.lab.ask(RequestSyncRequest { mode: "incremental".into(), ..RequestSyncRequest::default() }).await;
    let run = forest.lab.runs(count + 1).await.pop().expect("it ended");
    assert!(run.mode == "full" && run.why.contains("no change feed"), "{}", run.why);
    assert_eq!(run.finished, Some((true, String::new())));
    let left: BTreeMap<String, How> = forest.left().into_iter().collect();
    let expected = [r"CHILD\bob", r"CHILD\dave", r"CHILD\erin"].map(|name| (name.to_owned(), How::Absent));
    assert_eq!(left, expected.into());
}

#[tokio::test]
async fn where_the_domains_cannot_be_listed_home_is_read_and_nobody_is_gone() {
    // FD-02, S-41: also where an item lies in a domain that nobody can say whether it is read
    let sales = format!("OU=sales,{CHILD}");
    let there = json!({ "name": "sales", "directory": "corp", "source": { "kind": "container", "dn": sales } });
    for items in [json!([item("staff")]), json!([item("staff"), there])] {
        let mut forest = Forest::start(items).await;
        forest.child.add(Object::new(&sales, "organizationalUnit", 50));
        forest.run_whole().await;
        forest.restart().await;
        forest.home.held().refuses_partitions = true;
        forest.home.delete("alice");
        forest.home.add(person("nina", HOME, 4));
        let why = forest.run_in_part().await;
        assert!(why.contains("the other domains could not be listed"), "{why}");
        assert!(forest.usernames().contains("nina"));
        assert_eq!(forest.left(), Vec::new());
    }
}

#[tokio::test]
async fn a_listing_that_was_cut_by_a_lost_right_is_no_evidence_about_anybody() {
    // FD-02, S-41: the server answers with success, and shows less
    let cuts: [fn(&Forest); 4] = [
        |forest| forest.home.held().objects.retain(|object| !object.dn.contains("CN=System")),
        |forest| forest.home.held().hides_contexts = true,
        |forest| forest.home.held().objects.retain(|object| !object.dn.contains("CN=Partitions")),
        |forest| forest.home.change("twinlock", |account| drop(account.values.remove("samaccountname"))),
    ];
    for cut in cuts {
        let mut forest = Forest::start(json!([item("staff")])).await;
        forest.home.delete("WEST");
        forest.home.add(trust("west.example", "WEST", "3"));
        forest.run_whole().await;
        assert_eq!(forest.usernames(), set(EVERYBODY));
        forest.restart().await;
        cut(&forest);
        forest.home.add(person("nina", HOME, 4));
        for _ in 0..2 {
            let why = forest.run_in_part().await;
            assert!(why.contains("the other domains could not be listed") && why.contains("does not show"), "{why}");
        }
        assert!(forest.usernames().contains("nina"), "home is read");
        assert_eq!(forest.left(), Vec::new());
    }
}

fn trust(partner: &str, name: &str, direction: &str) -> Object {
    Object::new(&format!("CN={name},CN=System,{HOME}"), "trustedDomain", 0)
        .with("trustPartner", partner)
        .with("flatName", name)
        .with("trustDirection", direction)
        .with("trustType", "2")
        .with("trustAttributes", "8")
}

#[tokio::test]
async fn a_domain_that_was_read_and_is_listed_but_not_used_any_longer_keeps_its_people() {
    // FD-02, S-41: one that was never read is no matter
    let mut forest = Forest::start(json!([item("staff")])).await;
    forest.home.delete("WEST");
    forest.home.add(trust("west.example", "WEST", "3"));
    forest.home.add(trust("oneway.test", "ONEWAY", "2"));
    forest.run_whole().await;
    assert_eq!(forest.usernames(), set(EVERYBODY));
    forest.restart().await;
    forest.home.change("WEST", |trust| *trust = trust.clone().with("trustDirection", "2"));
    forest.home.add(person("nina", HOME, 4));
    for _ in 0..2 {
        let why = forest.run_in_part().await;
        let says = "the domain west.example could not be read: it was read before, and is listed and not used now, since it does not trust";
        assert!(why.contains(says) && !why.contains("oneway"), "{why}");
    }
    assert!(forest.usernames().contains("nina"), "home is read");
    assert_eq!(forest.left(), Vec::new());
    // Without the trust they have left, and the store guards.
    forest.restart().await;
    forest.home.delete("WEST");
    forest.run_whole().await;
    assert_eq!(forest.left(), [(r"WEST\frank".to_owned(), How::Absent)]);
}

#[tokio::test]
async fn domains_beyond_what_can_be_used_make_the_run_incomplete_and_so_many_hold_up_nothing() {
    // FD-02, S-41: the first two answer, nobody listens for the others
    let nobody = json!({ "urls": [format!("ldap://127.0.0.1:{}", lab::free_port())] });
    let mut forest = Forest::with(json!([item("staff")]), |document| {
        let trusted = document["directory"][0]["trusted"].as_object_mut().expect("a table");
        trusted.extend((0..260).map(|number| (format!("d{number}.test"), nobody.clone())));
    })
    .await;
    (0..260).for_each(|number| forest.home.add(partition(&format!("D{number}"), &format!("DC=d{number},DC=test"))));
    forest.restart().await;
    let run = forest.run_now().await;
    let Some((false, why)) = run.finished else { panic!("it should be incomplete") };
    assert!(why.starts_with("6 other domains are listed and not used, since the directory lists more"), "{why}");
    let told = run.begun.offers.join("\n");
    assert!(told.contains("d253.test: cannot be read") && !told.contains("d254.test"), "{told}");
    assert_eq!(forest.usernames(), set(EVERYBODY));
}

#[tokio::test]
async fn a_domain_that_is_slow_to_say_who_it_is_is_waited_for_no_longer_than_a_silent_one() {
    // FD-02: each of its answers comes in time, and all of them together do not
    let forest = Forest::start(json!([item("staff")])).await;
    forest.child.held().slow_by = 800;
    let why = forest.run_in_part().await;
    let says = "the domain child.corp.example could not be read: there was no answer within 3 seconds";
    assert!(why.contains(says), "{why}");
    assert_eq!(forest.usernames(), set(["alice", "bob", "carol", r"WEST\frank"]));
}

impl Forest {
    /// Each domain by its own numbers.
    async fn start_with_feeds() -> Self {
        let forest = Self::start(json!([item("staff")])).await;
        [&forest.home, &forest.child, &forest.west].iter().for_each(|domain| domain.has_feed());
        forest.run_whole().await;
        assert_eq!(forest.usernames(), set(EVERYBODY));
        forest
    }

    async fn run_changes(&self) -> Run {
        let count = self.lab.store.finished().len();
        self.lab.ask(RequestSyncRequest { mode: "incremental".into(), ..RequestSyncRequest::default() }).await;
        let run = self.lab.runs(count + 1).await.pop().expect("it ended");
        assert_eq!(run.mode, "incremental", "{}", run.why);
        run
    }

    /// Up to which numbers of home, the child and the west their changes are taken in.
    fn followed(&self) -> [Option<u64>; 3] {
        let position: Value = serde_json::from_slice(&self.lab.store.told().source.position).expect("positions");
        let others = &position["others"];
        let all = [&position["own"], &others["child.corp.example"]["position"], &others["west.example"]["position"]];
        all.map(|of_domain| of_domain["usn"].as_u64())
    }

    fn named(&self, username: &str) -> String {
        let told = self.lab.store.told();
        told.users.values().find(|(user, _)| user.username == username).expect("there").0.first_name.clone()
    }
}

#[tokio::test]
async fn a_domain_that_fails_in_the_middle_of_its_feed_goes_on_from_where_it_was() {
    // FS-04, S-02, S-41, FD-02
    let forest = Forest::start_with_feeds().await;
    let before = forest.followed();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    let rename = |domain: &Controller, account: &str| {
        domain.change(account, |object| *object = object.clone().with("givenName", "New"));
    };
    let west = r"WEST\frank";
    for (domain, account) in
        [(&forest.home, "alice"), (&forest.child, "bob"), (&forest.child, "dave"), (&forest.west, "frank")]
    {
        rename(domain, account);
    }
    forest.home.delete("carol");
    forest.child.held().cuts_feed = true;
    let Some((false, why)) = forest.run_changes().await.finished else { panic!("it should be incomplete") };
    assert!(why.contains("the domain child.corp.example could not be read") && !why.contains("west"), "{why}");
    assert_eq!((forest.named("alice").as_str(), forest.named(west).as_str()), ("New", "New"));
    assert_eq!(forest.named(r"CHILD\dave"), "");
    let after = forest.followed();
    assert!(after[0] > before[0], "home goes on: {before:?} {after:?}");
    assert_eq!(after[1], before[1], "the child has not told everything");
    assert_eq!(forest.left(), Vec::new());
    forest.child.held().cuts_feed = false;
    assert_eq!(forest.run_changes().await.finished, Some((true, String::new())));
    assert_eq!([r"CHILD\bob", r"CHILD\dave", west].map(|name| forest.named(name)), ["New"; 3]);
    let end = forest.followed();
    assert!(end[1] > after[1] && end[2] > before[2] && end[0] == after[0], "{after:?} {end:?}");
}

#[tokio::test]
async fn a_domain_that_does_not_say_where_its_feed_stands_is_not_waited_for_again() {
    // FD-02, S-41
    let forest = Forest::start_with_feeds().await;
    forest.child.held().silent = numbers;
    forest.child.change("bob", |bob| *bob = bob.clone().with("givenName", "New"));
    forest.home.add(person("nina", HOME, 4));
    forest.child.asked_for(0);
    let why = forest.run_in_part().await;
    assert!(why.contains("the domain child.corp.example could not be read"), "{why}");
    assert!(forest.usernames().contains("nina"));
    assert_eq!((forest.named(r"CHILD\bob"), forest.left()), (String::new(), Vec::new()));
    forest.child.held().silent = nothing;
    forest.run_whole().await;
    assert_eq!(forest.named(r"CHILD\bob"), "New");
}

#[tokio::test]
async fn a_domain_with_a_directory_of_its_own_is_that_one_also_where_no_item_reads_it() {
    // FD-02: its people sign in as that directory's
    let forest = Forest::with(json!([item("staff")]), |document| {
        let mut own = document["directory"][0].clone();
        (own["name"], own["base"]) = (json!("child"), json!(CHILD));
        (own["trusted_domains"], own["trusted"]) = (json!(false), json!({}));
        document["directory"].as_array_mut().expect("a list").push(own);
    })
    .await;
    forest.run_whole().await;
    assert_eq!(forest.usernames(), set(["alice", "bob", "carol", r"WEST\frank"]));
}

#[tokio::test]
async fn another_domain_under_a_known_name_writes_nothing_before_it_is_accepted() {
    // S-44, FD-02
    let forest = Forest::start(json!([item("staff")])).await;
    forest.run_whole().await;
    let before = forest.lab.store.told().source.identity.clone();
    forest.child.held().objects = vec![Object::new(CHILD, "domain", 201), person("mallory", CHILD, 31)];
    let run = forest.run_whole().await;
    assert!(run.mode == "preview" && run.why.contains("the domain child.corp.example is another one"), "{run:?}");
    assert_ne!(run.begun.identity, before, "so that status and mail say it");
    assert_eq!(forest.lab.store.told().source.identity, before);
    let count = forest.lab.store.finished().len();
    forest.lab.ask(RequestSyncRequest { accept_source: true, ..RequestSyncRequest::default() }).await;
    let accepted = forest.lab.runs(count + 1).await.pop().expect("it ended");
    assert!(accepted.mode == "full" && accepted.begun.identity == before, "{accepted:?}");
    assert!(forest.usernames().contains(r"CHILD\mallory"));
    let again = forest.run_whole().await;
    assert_eq!(again.mode, "full", "it is the known one now: {}", again.why);
}
