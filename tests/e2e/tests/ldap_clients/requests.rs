//! Requests of all kinds, octet by octet (RFC 4511), with whatever controls.

use anyhow::{Context, Result};
use bytes::Bytes;
use ldap_wire::{Control, Filter, MessageId, ber, ber::Writer};

/// All of a message but its id.
#[derive(Clone)]
pub struct Request {
    operation: Vec<u8>,
    controls: Vec<Control>,
}

impl Request {
    pub fn new(operation: impl FnOnce(&mut Writer)) -> Self {
        Self { operation: written(operation), controls: Vec::new() }
    }

    pub fn with(mut self, control: Control) -> Self {
        self.controls.push(control);
        self
    }

    pub fn encode(&self, id: u32) -> Vec<u8> {
        written(|w| {
            w.nested(ber::SEQUENCE, |w| {
                w.integer(ber::INTEGER, id.into());
                w.raw(&self.operation);
                if !self.controls.is_empty() {
                    w.nested(0xa0, |w| self.controls.iter().for_each(|control| write_control(w, control)));
                }
            });
        })
    }
}

fn write_control(w: &mut Writer, control: &Control) {
    w.nested(ber::SEQUENCE, |w| {
        w.octet_string(control.oid.as_bytes());
        if control.critical {
            w.boolean(ber::BOOLEAN, true);
        }
        if let Some(value) = &control.value {
            w.octet_string(value);
        }
    });
}

pub fn written(content: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    content(&mut writer);
    writer.into_vec()
}

pub fn bind(version: i64, name: &str, password: &str) -> Request {
    Request::new(|w| {
        w.nested(0x60, |w| {
            w.integer(ber::INTEGER, version);
            w.octet_string(name.as_bytes());
            w.octets(0x80, password.as_bytes());
        });
    })
}

pub fn sasl_bind(mechanism: &str, credentials: &[u8]) -> Request {
    Request::new(|w| {
        w.nested(0x60, |w| {
            w.integer(ber::INTEGER, 3);
            w.octet_string(b"");
            w.nested(0xa3, |w| {
                w.octet_string(mechanism.as_bytes());
                w.octet_string(credentials);
            });
        });
    })
}

pub fn unbind() -> Request {
    Request::new(|w| w.octets(0x42, b""))
}

pub fn abandon(id: u32) -> Request {
    Request::new(|w| w.integer(0x50, id.into()))
}

pub fn extended(oid: &str, value: Option<&[u8]>) -> Request {
    Request::new(|w| {
        w.nested(0x77, |w| {
            w.octets(0x80, oid.as_bytes());
            value.into_iter().for_each(|value| w.octets(0x81, value));
        });
    })
}

/// RFC 3909 section 2.
pub fn cancel(id: u32) -> Request {
    let value = written(|w| w.nested(ber::SEQUENCE, |w| w.integer(ber::INTEGER, id.into())));
    extended(ldap_wire::oid::CANCEL, Some(&value))
}

/// RFC 3062 section 2.
pub fn password_modify(user: &str, old: Option<&str>, new: &str) -> Request {
    let value = written(|w| {
        w.nested(ber::SEQUENCE, |w| {
            w.octets(0x80, user.as_bytes());
            old.into_iter().for_each(|old| w.octets(0x81, old.as_bytes()));
            w.octets(0x82, new.as_bytes());
        });
    });
    extended(ldap_wire::oid::PASSWORD_MODIFY, Some(&value))
}

pub fn add(dn: &str, attributes: &[(&str, &[&[u8]])]) -> Request {
    Request::new(|w| {
        w.nested(0x68, |w| {
            w.octet_string(dn.as_bytes());
            w.nested(ber::SEQUENCE, |w| attributes.iter().for_each(|(name, values)| attribute(w, name, values)));
        });
    })
}

fn attribute(w: &mut Writer, name: &str, values: &[&[u8]]) {
    w.nested(ber::SEQUENCE, |w| {
        w.octet_string(name.as_bytes());
        w.nested(ber::SET, |w| values.iter().for_each(|value| w.octet_string(value)));
    });
}

/// RFC 4511 section 4.6; the last is RFC 4525.
#[derive(Clone, Copy)]
pub enum Change {
    Add,
    Delete,
    Replace,
    Increment,
}

pub fn modify(dn: &str, changes: &[(Change, &str, &[&[u8]])]) -> Request {
    Request::new(|w| {
        w.nested(0x66, |w| {
            w.octet_string(dn.as_bytes());
            w.nested(ber::SEQUENCE, |w| {
                for (change, name, values) in changes {
                    w.nested(ber::SEQUENCE, |w| {
                        w.integer(ber::ENUMERATED, *change as i64);
                        attribute(w, name, values);
                    });
                }
            });
        });
    })
}

pub fn delete(dn: &str) -> Request {
    Request::new(|w| w.octets(0x4a, dn.as_bytes()))
}

pub fn compare(dn: &str, name: &str, value: &[u8]) -> Request {
    Request::new(|w| {
        w.nested(0x6e, |w| {
            w.octet_string(dn.as_bytes());
            w.nested(ber::SEQUENCE, |w| {
                w.octet_string(name.as_bytes());
                w.octet_string(value);
            });
        });
    })
}

pub fn rename(dn: &str, rdn: &str, delete_old: bool, superior: Option<&str>) -> Request {
    Request::new(|w| {
        w.nested(0x6c, |w| {
            w.octet_string(dn.as_bytes());
            w.octet_string(rdn.as_bytes());
            w.boolean(ber::BOOLEAN, delete_old);
            superior.into_iter().for_each(|superior| w.octets(0x80, superior.as_bytes()));
        });
    })
}

pub const BASE: i64 = 0;
pub const ONE: i64 = 1;
pub const SUBTREE: i64 = 2;
/// Of some servers: all below the base, without it.
pub const CHILDREN: i64 = 3;

pub struct Search<'a> {
    pub base: &'a str,
    pub scope: i64,
    pub dereference: i64,
    pub size_limit: i64,
    pub time_limit_seconds: i64,
    pub types_only: bool,
    /// As text; `raw_filter` where that cannot say it.
    pub filter: &'a str,
    pub raw_filter: Option<Vec<u8>>,
    pub attributes: &'a [&'a str],
}

impl<'a> Search<'a> {
    pub fn new(base: &'a str, scope: i64, filter: &'a str, attributes: &'a [&'a str]) -> Self {
        Self {
            base,
            scope,
            filter,
            attributes,
            dereference: 0,
            size_limit: 0,
            time_limit_seconds: 0,
            types_only: false,
            raw_filter: None,
        }
    }

    pub fn request(self) -> Result<Request> {
        let filter = match self.raw_filter {
            Some(raw) => raw,
            None => self.filter.parse::<Filter>().with_context(|| self.filter.to_owned())?.to_ber().to_vec(),
        };
        Ok(Request::new(|w| {
            w.nested(0x63, |w| {
                w.octet_string(self.base.as_bytes());
                w.integer(ber::ENUMERATED, self.scope);
                w.integer(ber::ENUMERATED, self.dereference);
                w.integer(ber::INTEGER, self.size_limit);
                w.integer(ber::INTEGER, self.time_limit_seconds);
                w.boolean(ber::BOOLEAN, self.types_only);
                w.raw(&filter);
                w.nested(ber::SEQUENCE, |w| self.attributes.iter().for_each(|name| w.octet_string(name.as_bytes())));
            });
        }))
    }
}

pub fn search(base: &str, scope: i64, filter: &str, attributes: &[&str]) -> Result<Request> {
    Search::new(base, scope, filter, attributes).request()
}

pub fn control(oid: &str, critical: bool) -> Control {
    Control::new(oid, critical, None)
}

pub fn control_of(oid: &str, critical: bool, value: impl FnOnce(&mut Writer)) -> Control {
    Control::new(oid, critical, Some(Bytes::from(written(value))))
}

/// RFC 2891 section 1.1.
pub fn sort(key: &str, reverse: bool, critical: bool) -> Control {
    control_of("1.2.840.113556.1.4.473", critical, |w| {
        w.nested(ber::SEQUENCE, |w| {
            w.nested(ber::SEQUENCE, |w| {
                w.octet_string(key.as_bytes());
                if reverse {
                    w.boolean(0x81, true);
                }
            });
        });
    })
}

/// A window around a place, from 1 (draft-ietf-ldapext-ldapv3-vlv-09 section 6.1).
pub fn window(before: i64, after: i64, place: i64) -> Control {
    control_of("2.16.840.1.113730.3.4.9", true, |w| {
        w.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, before);
            w.integer(ber::INTEGER, after);
            w.nested(0xa0, |w| {
                w.integer(ber::INTEGER, place);
                w.integer(ber::INTEGER, 0);
            });
        });
    })
}

/// RFC 4533 section 2.2: only what is new since the cookie, or all of it and what comes then.
pub fn sync(persist: bool, cookie: Option<&[u8]>) -> Control {
    control_of("1.3.6.1.4.1.4203.1.9.1.1", true, |w| {
        w.nested(ber::SEQUENCE, |w| {
            w.integer(ber::ENUMERATED, if persist { 3 } else { 1 });
            cookie.into_iter().for_each(|cookie| w.octet_string(cookie));
        });
    })
}

/// RFC 4528 section 3.
pub fn assertion(filter: &str) -> Result<Control> {
    let filter = filter.parse::<Filter>()?.to_ber();
    Ok(Control::new("1.3.6.1.1.12", true, Some(filter)))
}

/// RFC 4527 section 3.
pub fn read(after: bool, attributes: &[&str]) -> Control {
    let oid = if after { "1.3.6.1.1.13.2" } else { "1.3.6.1.1.13.1" };
    control_of(oid, true, |w| {
        w.nested(ber::SEQUENCE, |w| attributes.iter().for_each(|name| w.octet_string(name.as_bytes())));
    })
}

/// RFC 3876 section 2.
pub fn values(filter: &str) -> Result<Control> {
    let filter = filter.parse::<Filter>()?.to_ber();
    Ok(control_of("1.2.826.0.1.3344810.2.3", true, |w| w.nested(ber::SEQUENCE, |w| w.raw(&filter))))
}

/// A message id as the types want it.
pub fn message_id(id: u32) -> Result<MessageId> {
    MessageId::new(id).context("a message id")
}
