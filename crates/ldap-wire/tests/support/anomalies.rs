//! Messages of every operation, each wrong in one place: every element of every message, one anomaly at a time.
//!
//! Built from nothing but tags and octets, and judged by a reader of its own, so that what is tested is not what tests.

use std::sync::LazyLock;

/// An element before it is written.
pub enum Node {
    Octets(u8, Vec<u8>),
    Of(u8, Vec<Node>),
    /// A string that holds BER: the values of controls and of extended operations.
    Wrapping(u8, Box<Node>),
}
use Node::{Octets, Of, Wrapping};

impl Node {
    fn tag(&self) -> u8 {
        match self {
            Octets(tag, _) | Of(tag, _) | Wrapping(tag, _) => *tag,
        }
    }

    fn count(&self) -> usize {
        1 + match self {
            Octets(..) => 0,
            Of(_, parts) => parts.iter().map(Node::count).sum(),
            Wrapping(_, inner) => inner.count(),
        }
    }

    /// Writes this element, and the one in `place` with the anomaly; everything around it has the right length.
    fn write(&self, next: &mut usize, place: usize, anomaly: Anomaly, out: &mut Vec<u8>) {
        let here = *next;
        *next += 1;
        let mut content = Vec::new();
        match self {
            Octets(_, octets) => content.extend_from_slice(octets),
            Of(_, parts) => parts.iter().for_each(|part| part.write(next, place, anomaly, &mut content)),
            Wrapping(_, inner) => inner.write(next, place, anomaly, &mut content),
        }
        let anomaly = if here == place { anomaly } else { Anomaly::None };
        anomaly.write(self.tag(), &content, out);
    }

    fn written(&self, place: usize, anomaly: Anomaly) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut 0, place, anomaly, &mut out);
        out
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    None,
    /// What the length says, against the octets that are there.
    OneMore,
    OneLess,
    Zero,
    Huge,
    HugestOfFour,
    Indefinite,
    IndefiniteAndEnded,
    LengthFf,
    FiveLengthOctets,
    /// The right length in more octets than it needs.
    NotMinimal,
    Tag(u8),
    MultiOctetTag,
    /// A string in the constructed form that BER knows and LDAP forbids.
    InPieces,
    Truncated,
    Halved,
    Missing,
    Empty,
    GarbageBehind,
    GarbageInside,
    Twice,
    Nested,
    /// For numbers and truth values: this content.
    Content(&'static [u8]),
}

pub const NESTING: usize = 100_000;

impl Anomaly {
    /// All that apply to an element of this tag.
    fn of(tag: u8) -> Vec<Self> {
        let mut all = vec![
            Self::OneMore,
            Self::OneLess,
            Self::Zero,
            Self::Huge,
            Self::HugestOfFour,
            Self::Indefinite,
            Self::IndefiniteAndEnded,
            Self::LengthFf,
            Self::FiveLengthOctets,
            Self::NotMinimal,
            Self::MultiOctetTag,
            Self::InPieces,
            Self::Truncated,
            Self::Halved,
            Self::Missing,
            Self::Empty,
            Self::GarbageBehind,
            Self::GarbageInside,
            Self::Twice,
            Self::Nested,
        ];
        // Another number, class, or form.
        all.extend([0x01, 0x20, 0x40, 0x80, 0xc0].map(|bits| Self::Tag(tag ^ bits)));
        match tag {
            INTEGER | ENUMERATED | ABANDON => all.extend(
                [&[][..], &[0; 5], &[0; 9], &[0xff; 5], &[0x7f; 4], &[0x7f; 9], &[0x80, 0, 0, 0], &[0xff], &[0, 0, 1]]
                    .map(Self::Content),
            ),
            BOOLEAN => all.extend([&[][..], &[0x01], &[0x7f], &[0xff, 0xff]].map(Self::Content)),
            _ => {}
        }
        all
    }

    /// RFC 4511 section 5.1 or L-02 wants it to be taken like the message without it.
    pub fn is_harmless(self, tag: u8) -> bool {
        match self {
            Self::NotMinimal => true,
            Self::Content(octets) => tag == BOOLEAN && octets.len() == 1,
            _ => false,
        }
    }

    fn write(self, tag: u8, content: &[u8], out: &mut Vec<u8>) {
        let length = content.len();
        match self {
            Self::None => element(tag, content, out),
            Self::OneMore => claiming(tag, &shortest(length + 1), content, out),
            Self::OneLess => claiming(tag, &shortest(length.saturating_sub(1)), content, out),
            Self::Zero => claiming(tag, &[0], content, out),
            Self::Huge => claiming(tag, &[0x84, 0x7f, 0xff, 0xff, 0xff], content, out),
            Self::HugestOfFour => claiming(tag, &[0x84, 0xff, 0xff, 0xff, 0xff], content, out),
            Self::Indefinite => claiming(tag, &[0x80], content, out),
            Self::IndefiniteAndEnded => claiming(tag, &[0x80], &[content, &[0, 0]].concat(), out),
            Self::LengthFf => claiming(tag, &[0xff], content, out),
            Self::FiveLengthOctets => {
                claiming(tag, &[&[0x85, 0][..], &(length as u32).to_be_bytes()].concat(), content, out);
            }
            Self::NotMinimal => claiming(tag, &[&[0x84][..], &(length as u32).to_be_bytes()].concat(), content, out),
            Self::Tag(other) => element(other, content, out),
            Self::MultiOctetTag => {
                out.push(tag | 0x1f);
                element(0x01, content, out);
            }
            Self::InPieces => {
                let mut pieces = Vec::new();
                element(STRING, &content[..length / 2], &mut pieces);
                element(STRING, &content[length / 2..], &mut pieces);
                element(tag | 0x20, &pieces, out);
            }
            Self::Truncated => element(tag, &content[..length.saturating_sub(1)], out),
            Self::Halved => element(tag, &content[..length / 2], out),
            Self::Missing => {}
            Self::Empty => element(tag, &[], out),
            Self::GarbageBehind => {
                element(tag, content, out);
                element(0x05, &[], out);
            }
            Self::GarbageInside => element(tag, &[content, &[0x05]].concat(), out),
            Self::Twice => {
                element(tag, content, out);
                element(tag, content, out);
            }
            Self::Nested => element(tag, nested(tag), out),
            Self::Content(other) => element(tag, other, out),
        }
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const ABANDON: u8 = 0x50;

/// One in the other, all the way down: a filter in filters, everything else in sequences.
fn nested(tag: u8) -> &'static [u8] {
    static NESTED: LazyLock<[(u8, Vec<u8>); 4]> =
        LazyLock::new(|| [SEQUENCE, 0xa0, 0xa1, 0xa2].map(|tag| (tag, nest(tag))));
    NESTED.iter().find(|(of, _)| *of == tag).map_or(&NESTED[0].1, |(_, octets)| octets)
}

fn nest(tag: u8) -> Vec<u8> {
    let mut backwards = Vec::new();
    for level in 0..NESTING as u32 {
        backwards.extend((level * 6).to_be_bytes().iter().rev());
        backwards.extend([0x84, tag]);
    }
    backwards.reverse();
    backwards
}

fn shortest(length: usize) -> Vec<u8> {
    match length {
        0..=0x7f => vec![length as u8],
        0x80..=0xff => vec![0x81, length as u8],
        0x100..=0xffff => [&[0x82][..], &(length as u16).to_be_bytes()].concat(),
        0x1_0000..=0xff_ffff => [&[0x83][..], &(length as u32).to_be_bytes()[1..]].concat(),
        _ => [&[0x84][..], &(length as u32).to_be_bytes()].concat(),
    }
}

fn element(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    claiming(tag, &shortest(content.len()), content, out);
}

fn claiming(tag: u8, length: &[u8], content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(length);
    out.extend_from_slice(content);
}

/// One message that is wrong in one place.
pub struct Case {
    /// Which message.
    pub name: &'static str,
    /// Which of its elements, in the order in which they are written.
    pub place: usize,
    /// Of that element.
    pub tag: u8,
    pub anomaly: Anomaly,
    pub octets: Vec<u8>,
    /// The message without the anomaly.
    pub sound: Vec<u8>,
}

impl Case {
    /// Of what stands in strings nobody has to know the form: not even that they hold elements.
    pub fn is_opaque(&self) -> bool {
        is_well_formed(&self.octets, 127)
    }
}

/// Every anomaly at every element of every message of a client.
pub fn cases() -> impl Iterator<Item = Case> {
    of_each(messages())
}

/// The same of every message of a directory that answers this id.
pub fn answer_cases(id: u8) -> impl Iterator<Item = Case> {
    of_each(answers(id))
}

fn of_each(messages: Vec<(&'static str, Node)>) -> impl Iterator<Item = Case> {
    messages.into_iter().flat_map(|(name, message)| {
        let sound = message.written(0, Anomaly::None);
        let places: Vec<(usize, u8)> = {
            let mut tags = Vec::new();
            collect_tags(&message, &mut tags);
            tags.into_iter().enumerate().collect()
        };
        assert_eq!(places.len(), message.count());
        places.into_iter().flat_map(move |(place, tag)| {
            let cases = Anomaly::of(tag).into_iter().map(|anomaly| Case {
                name,
                place,
                tag,
                anomaly,
                octets: message.written(place, anomaly),
                sound: sound.clone(),
            });
            cases.collect::<Vec<_>>()
        })
    })
}

fn collect_tags(node: &Node, tags: &mut Vec<u8>) {
    tags.push(node.tag());
    match node {
        Octets(..) => {}
        Of(_, parts) => parts.iter().for_each(|part| collect_tags(part, tags)),
        Wrapping(_, inner) => collect_tags(inner, tags),
    }
}

/// Is this one element after the other in the BER that LDAP allows, with nothing nested deeper than L-03 lets it?
pub fn is_well_formed(mut octets: &[u8], levels: usize) -> bool {
    while let [tag, rest @ ..] = octets {
        let Some((content, behind)) = split(*tag, rest) else { return false };
        let holds_others = tag & 0x20 != 0;
        if holds_others && (*tag == STRING | 0x20 || levels == 0 || !is_well_formed(content, levels - 1)) {
            return false;
        }
        octets = behind;
    }
    true
}

fn split(tag: u8, rest: &[u8]) -> Option<(&[u8], &[u8])> {
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |value, octet| (value << 8) | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The same elements with the shortest lengths. `octets` are well-formed.
pub fn shortest_lengths(mut octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [tag, rest @ ..] = octets {
        let (content, behind) = split(*tag, rest).expect("well-formed");
        match tag & 0x20 {
            0 => element(*tag, content, &mut out),
            _ => element(*tag, &shortest_lengths(content), &mut out),
        }
        octets = behind;
    }
    out
}

/// What stands in the elements of a constructed one: tag and content of each.
pub fn elements(octets: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    let mut rest = octets;
    while let [tag, behind @ ..] = rest {
        let Some((content, behind)) = split(*tag, behind) else { break };
        found.push((*tag, content));
        rest = behind;
    }
    found
}

fn string(text: &str) -> Node {
    Octets(STRING, text.as_bytes().to_vec())
}

fn named(tag: u8, text: &str) -> Node {
    Octets(tag, text.as_bytes().to_vec())
}

fn number(tag: u8, value: u8) -> Node {
    Octets(tag, vec![value])
}

fn attribute(name: &str, values: &[&str]) -> Node {
    Of(SEQUENCE, vec![string(name), Of(SET, values.iter().map(|value| string(value)).collect())])
}

fn controls() -> Node {
    let paged = Of(SEQUENCE, vec![number(INTEGER, 100), string("cookie")]);
    Of(
        0xa0,
        vec![
            Of(
                SEQUENCE,
                vec![string("1.2.840.113556.1.4.319"), Octets(BOOLEAN, vec![0xff]), Wrapping(STRING, Box::new(paged))],
            ),
            Of(SEQUENCE, vec![string("2.16.840.1.113730.3.4.2")]),
        ],
    )
}

/// What a bind may insist on.
fn password_policy() -> Node {
    let control = vec![string("1.3.6.1.4.1.42.2.27.8.5.1"), Octets(BOOLEAN, vec![0xff])];
    Of(0xa0, vec![Of(SEQUENCE, control)])
}

const DN: &str = "uid=alice,ou=people,dc=example,dc=org";
/// Whom a query finds.
const PERSON: &str = "uid=ann,dc=corp,dc=example";
const UUID: &str = "11111111-2222-4333-8444-555555555555";
/// A server that nobody is to be led to (L-17).
pub const ELSEWHERE: &str = "ldap://dc1.corp.example/";

/// One of every operation and every choice in it (RFC 4511 sections 4.2 to 4.12).
fn messages() -> Vec<(&'static str, Node)> {
    let bind = |choice: Node| Of(0x60, vec![number(INTEGER, 3), string(DN), choice]);
    let assertion = |tag: u8| Of(tag, vec![string("cn"), string("alice")]);
    let filter = Of(
        0xa0,
        vec![
            Of(0xa1, vec![assertion(0xa3), assertion(0xa5), assertion(0xa6), assertion(0xa8)]),
            Of(0xa2, vec![named(0x87, "objectClass")]),
            Of(0xa4, vec![string("cn"), Of(SEQUENCE, vec![named(0x80, "a"), named(0x81, "i"), named(0x82, "e")])]),
            Of(
                0xa9,
                vec![named(0x81, "caseIgnoreMatch"), named(0x82, "cn"), named(0x83, "alice"), Octets(0x84, vec![0xff])],
            ),
        ],
    );
    let search = Of(
        0x63,
        vec![
            string("dc=example,dc=org"),
            number(ENUMERATED, 2),
            number(ENUMERATED, 0),
            number(INTEGER, 10),
            number(INTEGER, 20),
            Octets(BOOLEAN, vec![0]),
            filter,
            Of(SEQUENCE, vec![string("cn"), string("*")]),
        ],
    );
    let change =
        |operation: u8, name: &str| Of(SEQUENCE, vec![number(ENUMERATED, operation), attribute(name, &["one", "two"])]);
    let modify = Of(0x66, vec![string(DN), Of(SEQUENCE, vec![change(2, "mail"), change(1, "cn")])]);
    let add = Of(
        0x68,
        vec![string(DN), Of(SEQUENCE, vec![attribute("objectClass", &["person"]), attribute("cn", &["alice"])])],
    );
    let rename =
        Of(0x6c, vec![string(DN), string("uid=bob"), Octets(BOOLEAN, vec![0xff]), named(0x80, "dc=example,dc=org")]);
    let compare = Of(0x6e, vec![string(DN), assertion(SEQUENCE)]);
    let extended = |oid: &str, value: Option<Node>| {
        let value = value.map(|value| Wrapping(0x81, Box::new(value)));
        Of(0x77, [named(0x80, oid)].into_iter().chain(value).collect())
    };
    let new_password = Of(SEQUENCE, vec![named(0x80, DN), named(0x81, "old"), named(0x82, "new")]);
    let operations = vec![
        ("simple bind", bind(named(0x80, "secret")), Some(password_policy())),
        ("SASL bind", bind(Of(0xa3, vec![string("PLAIN"), string("\0alice\0secret")])), None),
        ("search", search, Some(controls())),
        ("modify", modify, Some(controls())),
        ("add", add, None),
        ("delete", named(0x4a, DN), Some(controls())),
        ("rename", rename, None),
        ("compare", compare, None),
        ("abandon", number(ABANDON, 5), None),
        ("who am I", extended("1.3.6.1.4.1.4203.1.11.3", None), Some(controls())),
        ("password modify", extended("1.3.6.1.4.1.4203.1.11.1", Some(new_password)), None),
        ("cancel", extended("1.3.6.1.1.8", Some(Of(SEQUENCE, vec![number(INTEGER, 5)]))), None),
        ("StartTLS", extended("1.3.6.1.4.1.1466.20037", None), None),
        ("unbind", Octets(0x42, Vec::new()), None),
    ];
    whole(7, operations)
}

fn whole(id: u8, operations: Vec<(&'static str, Node, Option<Node>)>) -> Vec<(&'static str, Node)> {
    let message =
        |operation, controls| Of(SEQUENCE, [number(INTEGER, id), operation].into_iter().chain(controls).collect());
    operations.into_iter().map(|(name, operation, controls)| (name, message(operation, controls))).collect()
}

/// One of every answer (RFC 4511 sections 4.2.2 to 4.13), a refused bind among them, and those that name another server.
fn answers(id: u8) -> Vec<(&'static str, Node)> {
    let result = |code: u8, more: Vec<Node>| {
        [number(ENUMERATED, code), string("dc=example,dc=org"), string("a text")].into_iter().chain(more).collect()
    };
    let referral = || Of(0xa3, vec![string(ELSEWHERE)]);
    let control = |oid: &str, value: Vec<Node>| {
        Of(0xa0, vec![Of(SEQUENCE, vec![string(oid), Wrapping(STRING, Box::new(Of(SEQUENCE, value)))])])
    };
    let expired = control("1.3.6.1.4.1.42.2.27.8.5.1", vec![number(0x81, 0)]);
    let paged = control("1.2.840.113556.1.4.319", vec![number(INTEGER, 0), string("cookie")]);
    let entry = |attributes: Vec<Node>| Of(0x64, vec![string(DN), Of(SEQUENCE, attributes)]);
    let servers = vec![attribute("dnsHostName", &[ELSEWHERE]), attribute("supportedLDAPVersion", &["3"])];
    let identity = vec![named(0x8a, "1.3.6.1.4.1.4203.1.11.3"), named(0x8b, "dn:")];
    let refreshed = Of(0xa1, vec![Octets(BOOLEAN, vec![0xff])]);
    let of_query =
        vec![string(PERSON), Of(SEQUENCE, vec![attribute("uid", &["ann"]), attribute("entryUUID", &[UUID])])];
    let operations = vec![
        ("bind refused", Of(0x61, result(49, Vec::new())), Some(expired)),
        ("bind referred", Of(0x61, result(10, vec![referral()])), None),
        ("bind, SASL goes on", Of(0x61, result(14, vec![named(0x87, "challenge")])), None),
        ("entry", entry(vec![attribute("cn", &["alice", "al"]), attribute("jpegPhoto", &[])]), None),
        ("root entry", entry(servers), None),
        ("reference", Of(0x73, vec![string(ELSEWHERE), string(ELSEWHERE)]), None),
        ("end of a search", Of(0x65, result(0, Vec::new())), Some(paged)),
        ("end of a search, referred", Of(0x65, result(10, vec![referral()])), None),
        ("modified", Of(0x67, result(0, Vec::new())), None),
        ("added", Of(0x69, result(68, Vec::new())), None),
        ("deleted", Of(0x6b, result(32, Vec::new())), None),
        ("renamed", Of(0x6d, result(0, Vec::new())), None),
        ("compared", Of(0x6f, result(6, Vec::new())), None),
        ("identity", Of(0x78, result(0, identity)), None),
        ("between", Of(0x79, vec![named(0x80, "1.3.6.1.4.1.4203.1.9.1.4"), Wrapping(0x81, Box::new(refreshed))]), None),
        ("person", Of(0x64, of_query), None),
    ];
    whole(id, operations)
}
