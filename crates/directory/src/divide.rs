//! Reads a large answer in parts, from a server that sends no pages and cuts off what is too much for it (FD-10). Pure.
//!
//! A part is what the query asks for and, of that, what begins with some characters in the attribute that entries are named by; and
//! one is the rest, whatever it is called:
//!
//! ```text
//! everything ── cut ──> (uid=a*)  (uid=b*) ── cut ──> (uid=ba*)  (uid=be*)  (&(uid=b*)(!(uid=ba*))(!(uid=be*)))
//!                       (&(!(uid=a*))(!(uid=b*)))
//! ```
//!
//! The characters are those of the entries that came before the cut. Whatever they are, the parts together are the whole, because the
//! server decides with one rule what is in a part and what is in the rest. Only an attribute that the account may not search by breaks
//! that: then what came before the cut does not come again either, and the reading is incomplete.

use ldap_wire::dn::Value;
use ldap_wire::{Dn, Filter};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher;

/// Parts of one reading.
const PARTS_MAX: usize = 20_000;
/// Names that are looked at to divide a part; the rest takes care of others.
const NAMES_MAX: usize = 5_000;
/// Of a beginning: names that differ later than that are not told apart.
const BEGINNING_MAX: usize = 256;

/// A reading that may turn out to be too much for the server.
pub(crate) struct Parts {
    hashers: [RandomState; 2],
    /// Entries that were passed on, by their names.
    seen: HashSet<[u64; 2]>,
    /// Those of an answer that was cut off, until they come again: they must.
    missing: HashSet<[u64; 2]>,
    waiting: Vec<Part>,
    current: Part,
    asked: usize,
    /// Of the part that is being read: its entries, and how some are named.
    entries: Vec<[u64; 2]>,
    names: Vec<Name>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// What names begin with, in lower case, by which attribute.
    within: Option<Beginning>,
    /// Beginnings of others.
    without: Vec<Beginning>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Beginning {
    attribute: String,
    text: String,
}

/// `uid` and `ann` of `uid=ann,ou=people`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    attribute: String,
    value: String,
}

impl Parts {
    pub fn new() -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            seen: HashSet::new(),
            missing: HashSet::new(),
            waiting: Vec::new(),
            current: Part::default(),
            asked: 1,
            entries: Vec::new(),
            names: Vec::new(),
        }
    }

    /// An entry came. False: it had come before, in another part or before the cut.
    pub fn take(&mut self, dn: &[u8]) -> bool {
        let key = self.hashers.each_ref().map(|hasher| hasher.hash_one(dn));
        self.entries.push(key);
        if self.names.len() < NAMES_MAX {
            self.names.extend(Name::of(dn));
        }
        self.seen.insert(key) || self.asked == 1
    }

    /// The part that is being read came to its end: the next one, if there is one.
    pub fn next(&mut self) -> Option<&Part> {
        for entry in self.entries.drain(..) {
            self.missing.remove(&entry);
        }
        self.names.clear();
        self.current = self.waiting.pop()?;
        Some(&self.current)
    }

    /// Everything that was seen in part was seen in whole.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// The part that is being read was cut off: what to read instead. `None`: it cannot be told apart any further.
    pub fn divide(&mut self) -> Option<&Part> {
        let parts = self.current.divided(&self.names)?;
        self.asked += parts.len();
        if self.asked > PARTS_MAX {
            return None;
        }
        self.missing.extend(self.entries.drain(..));
        self.names.clear();
        self.waiting.extend(parts);
        self.current = self.waiting.pop()?;
        Some(&self.current)
    }
}

impl Part {
    /// Of what the query asks for.
    pub fn filter(&self, query: &Filter) -> Filter {
        let within = self.within.iter().map(Beginning::filter);
        let without = self.without.iter().map(|beginning| Filter::not(beginning.filter()));
        Filter::and(std::iter::once(query.clone()).chain(within).chain(without))
    }

    /// The rest comes first: what is unknown is better met early.
    fn divided(&self, names: &[Name]) -> Option<Vec<Self>> {
        let attribute = self.attribute(names)?;
        let begun = self.within.as_ref().map_or("", |it| it.text.as_str());
        let of_it = names.iter().filter(|name| name.attribute == attribute);
        let folded: Vec<String> = of_it.clone().map(|name| name.value.to_lowercase()).collect();
        let mut beginnings = self.new_beginnings(attribute, begun, &folded);
        if beginnings.is_empty() {
            // Where case counts, what is written otherwise is in no part yet.
            let written: Vec<String> = of_it.map(|name| name.value.clone()).collect();
            beginnings = self.new_beginnings(attribute, begun, &written);
        }
        if beginnings.is_empty() {
            return None;
        }
        let part = |it: &Beginning| Self { within: Some(it.clone()), without: Vec::new() };
        let mut parts: Vec<Self> = beginnings.iter().map(part).collect();
        let without = self.without.iter().cloned().chain(beginnings).collect();
        parts.push(Self { within: self.within.clone(), without });
        Some(parts)
    }

    /// By what most are named; a part by a beginning is divided by longer ones.
    fn attribute<'a>(&'a self, names: &'a [Name]) -> Option<&'a str> {
        if let Some(within) = &self.within {
            return Some(&within.attribute);
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in names {
            *counts.entry(&name.attribute).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(attribute, _)| attribute)
    }

    /// What they begin with after what all of them begin with, as far as no other part has it.
    fn new_beginnings(&self, attribute: &str, begun: &str, values: &[String]) -> BTreeSet<Beginning> {
        let values: Vec<&str> = values.iter().map(String::as_str).filter(|value| value.starts_with(begun)).collect();
        let common = values.iter().copied().reduce(common).unwrap_or_default();
        let next = values.iter().filter_map(|value| {
            let rest = value.strip_prefix(common)?;
            // White space at an end counts here and not there (RFC 4518 section 2.6.1).
            let end =
                rest.char_indices().find(|(_, sign)| !sign.is_whitespace()).map(|(at, sign)| at + sign.len_utf8())?;
            let text = format!("{common}{}", rest.get(..end)?);
            (text.len() <= BEGINNING_MAX && text.len() > begun.len())
                .then(|| Beginning { attribute: attribute.to_owned(), text })
        });
        next.filter(|beginning| !self.without.contains(beginning)).collect()
    }
}

/// What both begin with.
fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.char_indices().zip(other.chars()).find(|((_, own), others)| own != others);
    let end = same.map_or_else(|| one.len().min(other.len()), |((at, _), _)| at);
    one.get(..end).unwrap_or_default()
}

impl Beginning {
    fn filter(&self) -> Filter {
        Filter::Substrings {
            attribute: self.attribute.clone(),
            initial: Some(self.text.clone().into_bytes()),
            any: Vec::new(),
            last: None,
        }
    }
}

impl Name {
    fn of(dn: &[u8]) -> Option<Self> {
        let dn: Dn = std::str::from_utf8(dn).ok()?.parse().ok()?;
        let first = dn.rdns.into_iter().next()?.assertions.into_iter().next()?;
        let Value::Text(value) = first.value else { return None };
        Some(Self { attribute: first.attribute.to_lowercase(), value: String::from_utf8(value).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what such a server has; how often it was asked.
    fn read(entries: &[&str], limit: usize, matches: impl Fn(&Name, &Part) -> bool) -> Result<(usize, usize), usize> {
        let mut parts = Parts::new();
        let (mut found, mut asked, mut part) = (0, 0, Part::default());
        loop {
            asked += 1;
            assert!(asked < 10_000, "it ends");
            let all: Vec<&&str> =
                entries.iter().filter(|dn| Name::of(dn.as_bytes()).is_some_and(|it| matches(&it, &part))).collect();
            found += all.iter().take(limit).filter(|dn| parts.take(dn.as_bytes())).count();
            let next =
                if all.len() > limit { Some(parts.divide().cloned().ok_or(found)?) } else { parts.next().cloned() };
            match next {
                Some(next) => part = next,
                None if parts.is_whole() => return Ok((found, asked)),
                None => return Err(found),
            }
        }
    }

    /// As a server evaluates it that folds case, or not.
    fn is_in(name: &Name, part: &Part, folds: bool) -> bool {
        let value = if folds { name.value.to_lowercase() } else { name.value.clone() };
        let begins = |it: &Beginning| name.attribute == it.attribute && value.starts_with(&it.text);
        part.within.iter().all(begins) && !part.without.iter().any(begins)
    }

    #[test]
    fn a_large_answer_is_read_whole_and_nothing_twice() {
        let mut entries: Vec<String> = (0..300).map(|number| format!("uid=bulk{number:05},ou=b,dc=x")).collect();
        entries.extend(["Ann", "ann lee", "ann  lee", "Änne", "a\\,b", "x"].map(|uid| format!("uid={uid},dc=x")));
        entries.extend((0..40).map(|number| format!("cn=Person {number},dc=x")));
        entries.extend((0..40).map(|number| format!("ou=unit{number},dc=x")));
        entries.extend((0..8).map(|number| format!("uid=same,ou={number},dc=x")));
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        for limit in [10, 30, 100, 1_000] {
            for folds in [true, false] {
                let (found, asked) = read(&entries, limit, |name, part| is_in(name, part, folds)).expect("whole");
                assert_eq!(found, entries.len(), "{limit} {folds}");
                assert!(asked <= 60 + 10 * entries.len() / limit, "{limit}: {asked}");
            }
        }
        // Eight of one name cannot be told apart by it.
        assert!(read(&entries, 5, |name, part| is_in(name, part, true)).is_err());
    }

    #[test]
    fn what_does_not_come_again_makes_it_incomplete() {
        // The account may not search by the attribute: nothing is in any part, nor in a rest.
        let entries: Vec<String> = (0..50).map(|number| format!("uid=p{number:02},dc=x")).collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        assert_eq!(read(&entries, 20, |_, part| *part == Part::default()), Err(20));
    }

    #[test]
    fn a_part_is_a_filter_of_the_query_and_its_beginnings() {
        let name = |text: &str| Beginning { attribute: "uid".into(), text: text.into() };
        let part = Part { within: Some(name("b")), without: vec![name("b(")] };
        let filter = part.filter(&"(objectClass=person)".parse().expect("a filter"));
        assert_eq!(filter.to_string(), "(&(objectClass=person)(uid=b*)(!(uid=b\\28*)))");
    }
}
