//! Search (RFC 4511 section 4.5): the request and what comes back.

use crate::ber::{self, Reader, Writer};
use crate::control::Control;
use crate::filter;
use crate::message::{self, DecodeError, Limit, Message, MessageId, Op};
use crate::result::LdapResult;
use bytes::Bytes;

/// L-03.
pub const ATTRIBUTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRequest {
    pub base: Bytes,
    pub scope: Scope,
    /// 0 never, 1 in searching, 2 finding the base, 3 always.
    pub dereference: u32,
    /// Entries; 0 for no limit.
    pub size_limit: u32,
    /// 0 for no limit.
    pub time_limit_seconds: u32,
    pub types_only: bool,
    /// BER, as `Filter::to_ber` makes it; unknown kinds of filter survive.
    pub filter: Bytes,
    pub attributes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Base,
    One,
    Subtree,
    /// The enumeration is open; 3 is the subordinate scope of some servers.
    Other(u32),
}

impl SearchRequest {
    /// Never dereferences, has no limits; `attributes` empty means all user attributes.
    pub fn new(base: impl Into<Bytes>, scope: Scope, filter: &filter::Filter, attributes: &[&str]) -> Self {
        Self {
            base: base.into(),
            scope,
            dereference: 0,
            size_limit: 0,
            time_limit_seconds: 0,
            types_only: false,
            filter: filter.to_ber(),
            attributes: attributes.iter().map(|attribute| (*attribute).to_owned()).collect(),
        }
    }

    /// Checks the filter against the bounds of L-03, too.
    pub fn decode(message: &Message) -> Result<Self, DecodeError> {
        let octets = message.content_of(Op::SearchRequest)?;
        let mut attributes = Vec::new();
        let parts = Parts::read(octets, |name| attributes.push(name.to_owned()))?;
        Ok(Self {
            base: octets.slice_ref(parts.base),
            scope: parts.scope,
            dereference: parts.dereference,
            size_limit: parts.size_limit,
            time_limit_seconds: parts.time_limit_seconds,
            types_only: parts.types_only,
            filter: octets.slice_ref(parts.filter),
            attributes,
        })
    }

    /// Checks as much as `decode`, and keeps nothing.
    pub(crate) fn head(message: &Message) -> Result<SearchHead, DecodeError> {
        let parts = Parts::read(message.content_of(Op::SearchRequest)?, |_| ())?;
        Ok(SearchHead {
            root_dse: is_root_dse(parts.base, parts.scope),
            size_limit: parts.size_limit,
            time_limit_seconds: parts.time_limit_seconds,
        })
    }

    pub fn encode(&self, id: MessageId, controls: &[Control]) -> Bytes {
        message::build(id, controls, |w| {
            w.nested(Op::SearchRequest.tag(), |w| {
                w.octet_string(&self.base);
                w.integer(ber::ENUMERATED, self.scope.number().into());
                w.integer(ber::ENUMERATED, self.dereference.into());
                w.integer(ber::INTEGER, self.size_limit.into());
                w.integer(ber::INTEGER, self.time_limit_seconds.into());
                w.boolean(ber::BOOLEAN, self.types_only);
                w.raw(&self.filter);
                w.nested(ber::SEQUENCE, |w| self.attributes.iter().for_each(|name| w.octet_string(name.as_bytes())));
            });
        })
    }

    /// Is it the root DSE that is asked for (RFC 4512 section 5.1)?
    pub fn is_root_dse(&self) -> bool {
        is_root_dse(&self.base, self.scope)
    }
}

/// A name of spaces is none to some servers (RFC 2253 section 4).
fn is_root_dse(base: &[u8], scope: Scope) -> bool {
    scope == Scope::Base && base.iter().all(|octet| *octet == b' ')
}

impl Scope {
    pub fn number(self) -> u32 {
        match self {
            Self::Base => 0,
            Self::One => 1,
            Self::Subtree => 2,
            Self::Other(number) => number,
        }
    }
}

/// What a search that is passed on is looked at for.
#[derive(Clone, Copy)]
pub(crate) struct SearchHead {
    /// Is it the root DSE that is asked for?
    pub root_dse: bool,
    pub size_limit: u32,
    pub time_limit_seconds: u32,
}

/// A search where it lies.
struct Parts<'a> {
    base: &'a [u8],
    scope: Scope,
    dereference: u32,
    size_limit: u32,
    time_limit_seconds: u32,
    types_only: bool,
    filter: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Each attribute selector is shown to `attribute`.
    fn read(octets: &'a [u8], mut attribute: impl FnMut(&str)) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let base = reader.octet_string()?;
        let scope = match message::unsigned(reader.integer(ber::ENUMERATED)?, "scope")? {
            0 => Scope::Base,
            1 => Scope::One,
            2 => Scope::Subtree,
            other => Scope::Other(other),
        };
        let dereference = match reader.integer(ber::ENUMERATED)? {
            value @ 0..=3 => value.unsigned_abs(),
            _ => return Err(DecodeError::Value("derefAliases")),
        };
        let size_limit = message::unsigned(reader.integer(ber::INTEGER)?, "sizeLimit")?;
        let time_limit_seconds = message::unsigned(reader.integer(ber::INTEGER)?, "timeLimit")?;
        let types_only = reader.boolean()?;
        let filter = reader.element()?.whole;
        filter::check(filter)?;
        let mut selection = reader.expect(ber::SEQUENCE)?.reader();
        let mut count = 0;
        while !selection.is_empty() {
            if count == ATTRIBUTES_MAX {
                return Err(DecodeError::Limit(Limit::Attributes));
            }
            count += 1;
            let name = std::str::from_utf8(selection.octet_string()?);
            attribute(name.map_err(|_| DecodeError::Value("attribute selector"))?);
        }
        reader.finish()?;
        Ok(Self { base, scope, dereference, size_limit, time_limit_seconds, types_only, filter })
    }
}

/// One entry found. Values are octets: GUIDs, SIDs and photos are not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchResultEntry {
    pub dn: Bytes,
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// With options and ranges as the server wrote them, such as `member;range=0-1499`.
    pub description: String,
    pub values: Vec<Bytes>,
}

impl SearchResultEntry {
    pub fn decode(message: &Message) -> Result<Self, DecodeError> {
        let octets = message.content_of(Op::SearchResultEntry)?;
        let mut reader = Reader::new(octets);
        let dn = octets.slice_ref(reader.octet_string()?);
        let mut list = reader.expect(ber::SEQUENCE)?.reader();
        reader.finish()?;
        let mut attributes = Vec::new();
        while !list.is_empty() {
            let mut fields = list.expect(ber::SEQUENCE)?.reader();
            let description = message::text(fields.octet_string()?, "attribute description")?;
            let mut set = fields.expect(ber::SET)?.reader();
            fields.finish()?;
            let mut values = Vec::new();
            while !set.is_empty() {
                values.push(octets.slice_ref(set.octet_string()?));
            }
            attributes.push(Attribute { description, values });
        }
        Ok(Self { dn, attributes })
    }

    pub fn encode(&self, id: MessageId, controls: &[Control]) -> Bytes {
        message::build(id, controls, |w| {
            w.nested(Op::SearchResultEntry.tag(), |w| {
                w.octet_string(&self.dn);
                w.nested(ber::SEQUENCE, |w| self.attributes.iter().for_each(|attribute| attribute.write(w)));
            });
        })
    }

    pub fn dn_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.dn).ok()
    }

    /// The attribute of this name, in any case, without options.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.description.eq_ignore_ascii_case(name))
    }

    /// All values of the attribute; none if it is absent.
    pub fn values(&self, name: &str) -> &[Bytes] {
        self.attribute(name).map_or(&[], |attribute| &attribute.values)
    }

    pub fn first(&self, name: &str) -> Option<&Bytes> {
        self.values(name).first()
    }

    /// The first value, if it is UTF-8.
    pub fn first_text(&self, name: &str) -> Option<&str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl Attribute {
    pub fn new(description: impl Into<String>, values: Vec<Bytes>) -> Self {
        Self { description: description.into(), values }
    }

    fn write(&self, w: &mut Writer) {
        w.nested(ber::SEQUENCE, |w| {
            w.octet_string(self.description.as_bytes());
            w.nested(ber::SET, |w| self.values.iter().for_each(|value| w.octet_string(value)));
        });
    }
}

/// The end of a search.
pub fn search_result_done(id: MessageId, result: &LdapResult, controls: &[Control]) -> Bytes {
    result.encode(id, Op::SearchResultDone, controls)
}

/// The URLs of a SearchResultReference.
pub fn search_result_reference(message: &Message) -> Result<Vec<Bytes>, DecodeError> {
    let octets = message.content_of(Op::SearchResultReference)?;
    let mut reader = Reader::new(octets);
    let mut urls = Vec::new();
    while !reader.is_empty() {
        urls.push(octets.slice_ref(reader.octet_string()?));
    }
    Ok(urls)
}
