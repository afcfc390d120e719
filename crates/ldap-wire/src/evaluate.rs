//! Filters evaluated without the server: does an entry that was read fit, as far as that is certain without its schema (S-14, FD-14)?
//!
//! ```text
//! item of the filter ── known ───> how the attribute is compared, where that is known
//!                    └─ compare ─> the same, different, or not to be told by looking at it
//! and, or, not       ── Truths ──> what the whole may be: true, false, Undefined (RFC 4511 section 4.5.1.7)
//! ```
//!
//! Where servers differ an item may be several of the three, and what follows from none of them is [`Fit::Unknown`]: the server is
//! asked. What was read counts as what the server compares with: an attribute that may be read and not searched is not thought of.
//! What may be searched and not read is: outside of Microsoft's servers, which have one right for both, what is absent may be there.

mod compare;
mod known;

use crate::evaluate::compare::{Likeness, Number};
use crate::evaluate::known::Syntax;
use crate::filter::Filter;
use crate::search::{Attribute, SearchResultEntry};

/// Whose rules the entry was read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Active Directory and AD LDS (MS-ADTS section 3.1.1.3.1.3).
    Microsoft,
    /// 389 DS: the standard's, and its plug-in writes `memberOf` as any attribute is.
    Ds389,
    /// RFC 4511 with the schema of RFC 4519, such as OpenLDAP.
    Standard,
    /// Nothing is known of it but the standard's attributes: one class may have several names.
    Other,
}

/// How an entry was read.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub rules: Rules,
    /// The attributes that were asked for by name. What was not may be there.
    pub asked: &'a [&'a str],
}

/// Would the server, asked with the filter, answer with the entry?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Yes,
    No,
    /// Only the server can say.
    Unknown,
}

impl Filter {
    pub fn fit(&self, entry: &SearchResultEntry, seen: &Seen<'_>) -> Fit {
        match self.truths(entry, seen) {
            Truths::TRUE => Fit::Yes,
            truths if truths.excludes(Truths::TRUE) => Fit::No,
            _ => Fit::Unknown,
        }
    }

    /// The attributes an entry must have been asked for, so that [`Filter::fit`] can say most, each once. None of them is a secret or
    /// large; all others would help nothing.
    pub fn attributes_to_evaluate(&self, rules: Rules) -> Vec<&str> {
        let mut attributes: Vec<&str> = Vec::new();
        for name in self.attributes() {
            if known::syntax(name, rules).is_some() && !attributes.iter().any(|it| it.eq_ignore_ascii_case(name)) {
                attributes.push(name);
            }
        }
        attributes
    }

    fn truths(&self, entry: &SearchResultEntry, seen: &Seen<'_>) -> Truths {
        match self {
            // RFC 4526; not every server has it.
            Self::And(filters) | Self::Or(filters) if filters.is_empty() => Truths::ANY,
            Self::And(filters) => Truths::and(filters.iter().map(|filter| filter.truths(entry, seen))),
            Self::Or(filters) => Truths::and(filters.iter().map(|it| it.truths(entry, seen).not())).not(),
            Self::Not(filter) => filter.truths(entry, seen).not(),
            Self::Present(attribute) => Item::of(attribute, entry, seen).map_or(Truths::ANY, |item| item.present()),
            Self::Equal { attribute, value } => {
                Item::of(attribute, entry, seen).map_or(Truths::ANY, |item| item.equal(value))
            }
            Self::Substrings { attribute, initial, any, last } => {
                let parts = compare::Parts { initial: initial.as_deref(), any, last: last.as_deref() };
                Item::of(attribute, entry, seen).map_or(Truths::ANY, |item| item.substrings(&parts))
            }
            Self::GreaterOrEqual { attribute, value } => {
                Item::of(attribute, entry, seen).map_or(Truths::ANY, |item| item.ordered(value, i64::ge))
            }
            Self::LessOrEqual { attribute, value } => {
                Item::of(attribute, entry, seen).map_or(Truths::ANY, |item| item.ordered(value, i64::le))
            }
            Self::Extensible { rule: Some(rule), attribute: Some(attribute), value, dn_attributes: false } => {
                Item::of(attribute, entry, seen).map_or(Truths::ANY, |item| item.bits(rule, value))
            }
            Self::Approximate { .. } | Self::Extensible { .. } => Truths::ANY,
        }
    }
}

/// MS-ADTS sections 3.1.1.3.4.4.1 and 3.1.1.3.4.4.2.
const BIT_AND: &str = "1.2.840.113556.1.4.803";
const BIT_OR: &str = "1.2.840.113556.1.4.804";

/// What the truth of a filter may be: one of these at least.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Truths(u8);

impl Truths {
    const TRUE: Self = Self(1);
    const FALSE: Self = Self(2);
    const UNDEFINED: Self = Self(4);
    const NOT_TRUE: Self = Self(Self::FALSE.0 | Self::UNDEFINED.0);
    const ANY: Self = Self(Self::TRUE.0 | Self::FALSE.0 | Self::UNDEFINED.0);

    fn may_be(self, truth: Self) -> bool {
        self.0 & truth.0 != 0
    }

    fn excludes(self, truth: Self) -> bool {
        !self.may_be(truth)
    }

    fn not(self) -> Self {
        let turned = |from: Self, to: Self| if self.may_be(from) { to.0 } else { 0 };
        Self(turned(Self::TRUE, Self::FALSE) | turned(Self::FALSE, Self::TRUE) | self.0 & Self::UNDEFINED.0)
    }

    /// True if all are, false if one is, else Undefined.
    fn and(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::TRUE, |one, other| {
            let truth = Self(one.0 & other.0 & Self::TRUE.0);
            let falsehood = Self((one.0 | other.0) & Self::FALSE.0);
            let not_false = Self(Self::TRUE.0 | Self::UNDEFINED.0);
            let undefined = one.may_be(not_false)
                && other.may_be(not_false)
                && (one.may_be(Self::UNDEFINED) || other.may_be(Self::UNDEFINED));
            Self(truth.0 | falsehood.0 | if undefined { Self::UNDEFINED.0 } else { 0 })
        })
    }
}

/// What a filter asks of one attribute of one entry.
struct Item<'a> {
    syntax: Syntax,
    rules: Rules,
    /// Without options.
    plain: Option<&'a Attribute>,
    /// Under options, such as a language, which are subtypes.
    optioned: Vec<&'a Attribute>,
    /// All values that the server compares with are among those.
    is_whole: bool,
    /// Where it is absent it is hidden: all entries have it, or the entry does not even show its classes. It may be found all the same.
    is_hidden: bool,
    asked: bool,
}

impl<'a> Item<'a> {
    /// `None` of an attribute that nothing is known of.
    fn of(name: &str, entry: &'a SearchResultEntry, seen: &Seen<'_>) -> Option<Self> {
        let syntax = known::syntax(name, seen.rules)?;
        let asked = |name: &str| seen.asked.iter().any(|asked| asked.eq_ignore_ascii_case(name));
        let mut item = Self {
            syntax,
            rules: seen.rules,
            plain: None,
            optioned: Vec::new(),
            is_whole: true,
            is_hidden: entry.values("objectClass").is_empty() || !known::is_shown_if_there(name),
            asked: asked(name),
        };
        for attribute in &entry.attributes {
            let (base, options) = attribute.description.split_once(';').unwrap_or((&attribute.description, ""));
            if !base.eq_ignore_ascii_case(name) {
                // Who sends what nobody asked for takes it for a subtype of something: its values count as that's.
                item.is_whole &= asked(base);
                continue;
            }
            let is_part = |option: &str| option.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("range="));
            item.is_whole &= !options.split(';').any(is_part);
            match options {
                "" if item.plain.is_none() => item.plain = Some(attribute),
                _ => item.optioned.push(attribute),
            }
        }
        Some(item)
    }

    fn is_absent(&self) -> bool {
        self.plain.is_none() && self.optioned.is_empty()
    }

    /// Of an attribute that did not come.
    fn absent(&self) -> Truths {
        // Whoever may not read it may not search by it, and the attributes have no subtypes.
        let would_be_shown = self.rules == Rules::Microsoft && self.asked && self.is_whole && !self.is_hidden;
        if would_be_shown { Truths::NOT_TRUE } else { Truths::ANY }
    }

    fn present(&self) -> Truths {
        match self.plain {
            _ if self.is_absent() => self.absent(),
            Some(attribute) if !attribute.values.is_empty() => Truths::TRUE,
            _ => Truths::ANY,
        }
    }

    /// True if one value is alike; `otherwise` if all are certainly different.
    fn any_value(&self, otherwise: Truths, like: impl Fn(&[u8]) -> Likeness) -> Truths {
        if self.is_absent() {
            return self.absent();
        }
        let plain = || self.plain.iter().flat_map(|attribute| &attribute.values);
        let optioned = self.optioned.iter().flat_map(|attribute| &attribute.values);
        if plain().any(|value| like(value) == Likeness::Same) {
            return Truths::TRUE;
        }
        let empty = plain().next().is_none() && self.optioned.is_empty();
        let different = self.is_whole && !empty && plain().chain(optioned).all(|it| like(it) == Likeness::Different);
        if different { otherwise } else { Truths::ANY }
    }

    fn equal(&self, asserted: &[u8]) -> Truths {
        match self.syntax {
            Syntax::Class => self.class(asserted),
            Syntax::Category => self.any_value(Truths::FALSE, |value| known::category(value, asserted)),
            Syntax::Text => self.any_value(Truths::FALSE, |value| compare::texts(value, asserted)),
            // What is no number by its syntax makes the item Undefined.
            Syntax::Phone => self.any_value(Truths::NOT_TRUE, |value| compare::texts(value, asserted)),
            // And so may the name of nobody.
            Syntax::Name => self.any_value(Truths::NOT_TRUE, |value| compare::names(value, asserted)),
            Syntax::Boolean => self.any_value(Truths::FALSE, |value| compare::booleans(value, asserted)),
            Syntax::Integer(_) | Syntax::Time => self.numbers(asserted, i64::eq),
            Syntax::Opaque => Truths::ANY,
        }
    }

    fn class(&self, asserted: &[u8]) -> Truths {
        let Some(attribute) = self.plain.filter(|attribute| !attribute.values.is_empty()) else { return Truths::ANY };
        let Ok(asserted) = std::str::from_utf8(asserted) else { return Truths::ANY };
        if attribute.values.iter().any(|value| value.eq_ignore_ascii_case(asserted.as_bytes())) {
            return Truths::TRUE;
        }
        let listed = attribute.values.iter().map(|value| std::str::from_utf8(value).unwrap_or_default());
        match self.is_whole && known::is_not_of(asserted, listed, self.rules) {
            true if self.rules == Rules::Microsoft => Truths::FALSE,
            // A server need not have the class.
            true => Truths::NOT_TRUE,
            false => Truths::ANY,
        }
    }

    fn substrings(&self, parts: &compare::Parts<'_>) -> Truths {
        match self.syntax {
            Syntax::Text => self.any_value(Truths::FALSE, |value| parts.are_in(value)),
            Syntax::Phone => self.any_value(Truths::NOT_TRUE, |value| parts.are_in(value)),
            _ => Truths::ANY,
        }
    }

    fn ordered(&self, asserted: &[u8], holds: fn(&i64, &i64) -> bool) -> Truths {
        // Elsewhere the schema says whether an attribute has an order.
        if self.rules == Rules::Microsoft { self.numbers(asserted, holds) } else { Truths::ANY }
    }

    fn numbers(&self, asserted: &[u8], holds: fn(&i64, &i64) -> bool) -> Truths {
        let read: fn(&[u8]) -> Option<i64> = match self.syntax {
            Syntax::Integer(Number::Bits32) => |it| compare::integer(it).filter(|it| i32::try_from(*it).is_ok()),
            Syntax::Integer(Number::Bits64) => compare::integer,
            Syntax::Time => compare::time,
            _ => return Truths::ANY,
        };
        let Some(asserted) = read(asserted) else { return Truths::ANY };
        self.any_value(Truths::FALSE, |value| Likeness::of(read(value).map(|value| holds(&value, &asserted))))
    }

    fn bits(&self, rule: &str, asserted: &[u8]) -> Truths {
        let Syntax::Integer(number) = self.syntax else { return Truths::ANY };
        if self.rules != Rules::Microsoft {
            return Truths::ANY;
        }
        let holds: fn(u64, u64) -> bool = match rule {
            BIT_AND => |value, wanted| value & wanted == wanted,
            BIT_OR => |value, wanted| value & wanted != 0,
            _ => return Truths::ANY,
        };
        let Some(wanted) = number.bits(asserted) else { return Truths::ANY };
        self.any_value(Truths::FALSE, |value| Likeness::of(number.bits(value).map(|value| holds(value, wanted))))
    }
}
