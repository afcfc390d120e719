//! Attributes of an Access-Accept by group (FB-06, R-69): which rules of a client fit, and what they come to.
//!
//! A value may quote the user's entry in the directory: `{department}`. Whatever stands there is data: it becomes one value of one
//! attribute, or the login fails.

use crate::attributes::salts;
use crate::reply::Added;
use domain::settings::{Client, OneOrMany, ReplyMode, ReplyRule};
use ldap_wire::SearchResultEntry;
use radius_wire::{Dictionary, HidingKey, Pair, PairError};
use std::collections::HashMap;

/// The rules that fit, in order.
pub(crate) struct Rules<'a>(Vec<&'a ReplyRule>);

/// What the directory says of the user: the first value of each attribute, by its name in lower case.
#[derive(Default)]
pub(crate) struct Values(HashMap<String, String>);

/// Why a rule is nothing that can be sent. The administrator's to mend.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("whether the user is in {0:?} is not known while verification is down")]
    UnknownGroups(String),
    #[error("{name}: the user has no {attribute} in the directory")]
    NoValue { name: String, attribute: String },
    #[error("{0}: a brace is not closed, or there is nothing in it")]
    Braces(String),
    #[error(transparent)]
    Attribute(#[from] PairError),
}

impl<'a> Rules<'a> {
    /// `groups`: those of the rules that the user is in; `None` where nobody could say.
    pub(crate) fn for_user(client: &'a Client, groups: Option<&[String]>) -> Result<Self, RuleError> {
        let mut fitting = Vec::new();
        for rule in &client.reply {
            let fits = match (&rule.when_group, groups) {
                (None, _) => true,
                (Some(wanted), Some(groups)) => groups.contains(wanted),
                (Some(wanted), None) => return Err(RuleError::UnknownGroups(wanted.clone())),
            };
            if fits {
                fitting.push(rule);
                if client.reply_mode == ReplyMode::First {
                    break;
                }
            }
        }
        Ok(Self(fitting))
    }

    /// What has to be read of the user's entry.
    pub(crate) fn directory_attributes(&self) -> Vec<String> {
        let mut wanted: Vec<String> = Vec::new();
        for (_, text) in self.pairs() {
            for piece in pieces(&text).flatten() {
                if let Piece::Attribute(attribute) = piece {
                    wanted.push(attribute.to_owned());
                }
            }
        }
        wanted.sort();
        wanted.dedup();
        wanted
    }

    /// The attributes, in the order of the rules; within one, by name. Those of optional rules come last.
    pub(crate) fn attributes(
        &self,
        values: &Values,
        dictionary: &Dictionary,
        key: HidingKey<'_>,
    ) -> Result<Added, RuleError> {
        let mut salts = salts();
        let mut attributes = |rules: &Self| {
            let filled = rules.pairs().map(|(name, text)| Ok((name, values.fill(name, &text)?)));
            let filled: Vec<(&str, String)> = filled.collect::<Result<_, RuleError>>()?;
            let pairs: Vec<Pair<'_>> = filled.iter().map(|(name, text)| Pair { name, text }).collect();
            Ok::<_, RuleError>(dictionary.attributes(&pairs, Some(key), &mut salts)?)
        };
        let (optional, always): (Vec<_>, Vec<_>) = self.0.iter().copied().partition(|rule| rule.optional);
        let always = attributes(&Self(always))?;
        let optional = optional.into_iter().map(|rule| attributes(&Self(vec![rule]))).collect::<Result<_, _>>()?;
        Ok(Added { always, optional })
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, String)> {
        self.0.iter().flat_map(|rule| &rule.set).flat_map(|(name, value)| {
            let texts = match value {
                OneOrMany::One(text) => vec![text.clone()],
                OneOrMany::Number(number) => vec![number.to_string()],
                OneOrMany::Many(texts) => texts.clone(),
            };
            texts.into_iter().map(move |text| (name.as_str(), text))
        })
    }
}

impl Values {
    pub(crate) fn of(found: &[SearchResultEntry]) -> Self {
        let attributes = found.iter().flat_map(|entry| &entry.attributes);
        Self(
            attributes
                .filter_map(|attribute| {
                    let value = std::str::from_utf8(attribute.values.first()?).ok()?;
                    Some((attribute.description.to_ascii_lowercase(), value.to_owned()))
                })
                .collect(),
        )
    }

    fn fill(&self, name: &str, text: &str) -> Result<String, RuleError> {
        let mut filled = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece.ok_or_else(|| RuleError::Braces(name.to_owned()))? {
                Piece::Text(text) => filled.push_str(text),
                Piece::Attribute(attribute) => {
                    let value = self.0.get(&attribute.to_ascii_lowercase());
                    let missing = || RuleError::NoValue { name: name.to_owned(), attribute: attribute.to_owned() };
                    filled.push_str(value.ok_or_else(missing)?);
                }
            }
        }
        Ok(filled)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Attribute(&'t str),
}

/// A text with what it quotes; `None` for a brace that is not closed or holds nothing. Ends there.
fn pieces(text: &str) -> impl Iterator<Item = Option<Piece<'_>>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.filter(|text| !text.is_empty())?;
        let Some(begin) = text.find('{') else {
            rest = None;
            return Some(Some(Piece::Text(text)));
        };
        if begin > 0 {
            rest = Some(&text[begin..]);
            return Some(Some(Piece::Text(&text[..begin])));
        }
        let end = text.find('}').filter(|end| *end > 1);
        rest = end.map(|end| &text[end + 1..]);
        Some(end.map(|end| Piece::Attribute(&text[1..end])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{AttributeType, Secret};

    fn client(mode: &str, rules: serde_json::Value) -> Client {
        serde_json::from_value(serde_json::json!({
            "name": "vpn", "protocol": "radius", "sources": ["10.0.0.0/8"], "target": "corp",
            "reply_mode": mode, "reply": rules,
        }))
        .expect("a client")
    }

    fn sent(
        client: &Client,
        groups: Option<&[&str]>,
        values: &[(&str, &str)],
    ) -> Result<Vec<(u8, Vec<u8>)>, RuleError> {
        let groups = groups.map(|groups| groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>());
        let values = Values(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        let secret = Secret::new("a secret of the device").expect("not empty");
        let key = HidingKey { secret: &secret, authenticator: &[7; 16] };
        let rules = Rules::for_user(client, groups.as_deref())?;
        let Added { always, optional } = rules.attributes(&values, Dictionary::shipped(), key)?;
        let attributes = always.into_iter().chain(optional.into_iter().flatten());
        Ok(attributes.map(|attribute| (attribute.kind.0, attribute.value)).collect())
    }

    #[test]
    fn rules_add_up_in_their_order_or_the_first_that_fits_counts() {
        // FB-06, R-69
        let rules = serde_json::json!([
            { "when_group": "VPN Admins", "set": { "Class": "admins", "Session-Timeout": 3600 } },
            { "when_group": "VPN Users", "set": { "Class": ["users", "all"] } },
            { "set": { "Filter-Id": "everybody" } },
        ]);
        let (class, timeout, filter) = (AttributeType::CLASS.0, AttributeType::SESSION_TIMEOUT.0, 11);
        let all = client("merge", rules.clone());
        let expected =
            [(class, b"admins".to_vec()), (timeout, 3600_u32.to_be_bytes().to_vec()), (filter, b"everybody".to_vec())];
        assert_eq!(sent(&all, Some(&["VPN Admins"]), &[]), Ok(expected.to_vec()));
        let expected = [(class, b"users".to_vec()), (class, b"all".to_vec()), (filter, b"everybody".to_vec())];
        assert_eq!(sent(&all, Some(&["VPN Users"]), &[]), Ok(expected.to_vec()));
        let first = client("first", rules);
        assert_eq!(sent(&first, Some(&["VPN Users", "VPN Admins"]), &[]).expect("sent").len(), 2);
        assert_eq!(sent(&first, Some(&[]), &[]), Ok(vec![(filter, b"everybody".to_vec())]));
        // V-40: while verification is down nobody says who is in which group.
        assert_eq!(sent(&all, None, &[]), Err(RuleError::UnknownGroups("VPN Admins".into())));
    }

    #[test]
    fn an_optional_rule_comes_last_and_fails_the_login_like_any_other() {
        // R-06, FR-17
        let rules = serde_json::json!([
            { "set": { "Filter-Id": "{department}" }, "optional": true },
            { "set": { "Class": "all" } },
        ]);
        let client = client("merge", rules);
        let expected = vec![(AttributeType::CLASS.0, b"all".to_vec()), (11, b"it".to_vec())];
        assert_eq!(sent(&client, Some(&[]), &[("department", "it")]), Ok(expected));
        let missing = RuleError::NoValue { name: "Filter-Id".into(), attribute: "department".into() };
        assert_eq!(sent(&client, Some(&[]), &[]), Err(missing));
    }

    #[test]
    fn what_the_directory_says_is_one_value_or_none() {
        // displayName="x\r\nService-Type=6" never becomes another attribute
        let rules = serde_json::json!([{ "set": { "Filter-Id": "{department}/{employeeType}" } }]);
        let client = client("merge", rules);
        let said = |department: &str| sent(&client, Some(&[]), &[("department", department), ("employeetype", "x")]);
        assert_eq!(said("it"), Ok(vec![(11, b"it/x".to_vec())]));
        assert_eq!(said("{uid}"), Ok(vec![(11, b"{uid}/x".to_vec())]), "quoted once");
        for hostile in ["x\r\nService-Type=6", "x\0y"] {
            assert!(matches!(said(hostile), Err(RuleError::Attribute(_))), "{hostile:?}");
        }
        assert!(matches!(said(&"x".repeat(252)), Err(RuleError::Attribute(_))));
        let missing = RuleError::NoValue { name: "Filter-Id".into(), attribute: "employeeType".into() };
        assert_eq!(sent(&client, Some(&[]), &[("department", "it")]), Err(missing));
        assert_eq!(
            Rules::for_user(&client, Some(&[])).expect("fits").directory_attributes(),
            ["department", "employeeType"]
        );
    }

    #[test]
    fn a_brace_that_is_not_closed_is_an_error() {
        for text in ["{", "{}", "a{b", "{a}{"] {
            assert!(pieces(text).any(|piece| piece.is_none()), "{text}");
        }
        let read: Vec<_> = pieces("a{b}c}").map(Option::unwrap).collect();
        assert_eq!(read, [Piece::Text("a"), Piece::Attribute("b"), Piece::Text("c}")]);
    }

    #[test]
    fn tunnels_and_vendors_have_their_tags_and_forms() {
        // FR-17: a VLAN, and a vendor's attribute
        let rules = serde_json::json!([{ "set": {
            "Fortinet-Group-Name": "admins", "Tunnel-Medium-Type:1": "IEEE-802", "Tunnel-Private-Group-Id:1": "17",
            "Tunnel-Type:1": "VLAN",
        } }]);
        let sent = sent(&client("merge", rules), Some(&[]), &[]).expect("sent");
        let vendor = [&12356_u32.to_be_bytes()[..], &[1, 8], b"admins"].concat();
        assert_eq!(sent, [(26, vendor), (65, vec![1, 0, 0, 6]), (81, b"\x0117".to_vec()), (64, vec![1, 0, 0, 13])]);
    }
}
