//! The values of content synchronisation (RFC 4533 section 2). What they mean together is for whoever follows a session.

use crate::ber::{self, BerError, Element, Reader, Writer};
use crate::control::Control;
use crate::extended::IntermediateResponse;
use crate::message::DecodeError;
use crate::oid;
use bytes::Bytes;

/// An entryUUID as it travels here: octets, in the order of its text.
pub type SyncUuid = [u8; 16];

/// UUIDs of one syncIdSet. OpenLDAP sends 50 at a time.
pub const UUIDS_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    RefreshOnly,
    RefreshAndPersist,
}

/// Asks for what changed since a cookie; without one, for everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    pub mode: SyncMode,
    pub cookie: Option<Bytes>,
    pub reload_hint: bool,
}

impl SyncRequest {
    /// Always critical: a server that ignored it would answer as if everything had changed.
    pub fn to_control(&self) -> Control {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::ENUMERATED, if self.mode == SyncMode::RefreshOnly { 1 } else { 3 });
            if let Some(cookie) = &self.cookie {
                w.octet_string(cookie);
            }
            if self.reload_hint {
                w.boolean(ber::BOOLEAN, true);
            }
        });
        Control::new(oid::SYNC_REQUEST, true, Some(writer.into_vec().into()))
    }

    /// Out of the controls of a request.
    pub fn find(controls: &[Control]) -> Result<Option<Self>, DecodeError> {
        let Some(value) = value_of(controls, oid::SYNC_REQUEST, "sync request")? else { return Ok(None) };
        let mut reader = sequence(&value)?;
        let mode = match reader.integer(ber::ENUMERATED)? {
            1 => SyncMode::RefreshOnly,
            3 => SyncMode::RefreshAndPersist,
            _ => return Err(DecodeError::Value("mode of a sync request")),
        };
        let cookie = cookie(&value, &mut reader)?;
        let reload_hint = flag(&mut reader, false)?;
        reader.finish()?;
        Ok(Some(Self { mode, cookie, reload_hint }))
    }
}

/// What an entry of the answer is here for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncState {
    pub kind: SyncStateKind,
    pub uuid: SyncUuid,
    pub cookie: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStateKind {
    Present,
    Add,
    Modify,
    Delete,
}

impl SyncState {
    /// Out of the controls of an entry.
    pub fn find(controls: &[Control]) -> Result<Option<Self>, DecodeError> {
        let Some(value) = value_of(controls, oid::SYNC_STATE, "sync state")? else { return Ok(None) };
        let mut reader = sequence(&value)?;
        let kind = match reader.integer(ber::ENUMERATED)? {
            0 => SyncStateKind::Present,
            1 => SyncStateKind::Add,
            2 => SyncStateKind::Modify,
            3 => SyncStateKind::Delete,
            _ => return Err(DecodeError::Value("sync state")),
        };
        let uuid = uuid(reader.octet_string()?)?;
        let cookie = cookie(&value, &mut reader)?;
        reader.finish()?;
        Ok(Some(Self { kind, uuid, cookie }))
    }

    pub fn to_control(&self) -> Control {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            let kind = match self.kind {
                SyncStateKind::Present => 0,
                SyncStateKind::Add => 1,
                SyncStateKind::Modify => 2,
                SyncStateKind::Delete => 3,
            };
            w.integer(ber::ENUMERATED, kind);
            w.octet_string(&self.uuid);
            if let Some(cookie) = &self.cookie {
                w.octet_string(cookie);
            }
        });
        Control::new(oid::SYNC_STATE, false, Some(writer.into_vec().into()))
    }
}

/// The end of a refresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncDone {
    pub cookie: Option<Bytes>,
    /// False: what is there was named, so that what was not named is gone. True: what is gone was named.
    pub refresh_deletes: bool,
}

impl SyncDone {
    /// Out of the controls of a SearchResultDone.
    pub fn find(controls: &[Control]) -> Result<Option<Self>, DecodeError> {
        let Some(value) = value_of(controls, oid::SYNC_DONE, "sync done")? else { return Ok(None) };
        let mut reader = sequence(&value)?;
        let cookie = cookie(&value, &mut reader)?;
        let refresh_deletes = flag(&mut reader, false)?;
        reader.finish()?;
        Ok(Some(Self { cookie, refresh_deletes }))
    }

    pub fn to_control(&self) -> Control {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            if let Some(cookie) = &self.cookie {
                w.octet_string(cookie);
            }
            if self.refresh_deletes {
                w.boolean(ber::BOOLEAN, true);
            }
        });
        Control::new(oid::SYNC_DONE, false, Some(writer.into_vec().into()))
    }
}

/// What a server says between entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncInfo {
    NewCookie(Bytes),
    /// The end of a delete phase, and of the refresh stage where `done`.
    RefreshDelete {
        cookie: Option<Bytes>,
        done: bool,
    },
    /// The end of a present phase, and of the refresh stage where `done`.
    RefreshPresent {
        cookie: Option<Bytes>,
        done: bool,
    },
    /// These are gone (`deletes`), or there and unchanged.
    IdSet {
        cookie: Option<Bytes>,
        deletes: bool,
        uuids: Vec<SyncUuid>,
    },
}

const NEW_COOKIE: u8 = 0x80;
const REFRESH_DELETE: u8 = 0xa1;
const REFRESH_PRESENT: u8 = 0xa2;
const ID_SET: u8 = 0xa3;

impl SyncInfo {
    /// `None` if the message is another's.
    pub fn of(response: &IntermediateResponse) -> Result<Option<Self>, DecodeError> {
        if response.oid.as_deref() != Some(oid::SYNC_INFO) {
            return Ok(None);
        }
        let value = response.value.as_ref().ok_or(DecodeError::Value("sync info"))?;
        Self::decode(value).map(Some)
    }

    pub fn decode(value: &Bytes) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(value);
        let choice = outer.element()?;
        outer.finish()?;
        match choice.tag {
            NEW_COOKIE => Ok(Self::NewCookie(value.slice_ref(choice.content))),
            REFRESH_DELETE => phase_end(value, choice).map(|(cookie, done)| Self::RefreshDelete { cookie, done }),
            REFRESH_PRESENT => phase_end(value, choice).map(|(cookie, done)| Self::RefreshPresent { cookie, done }),
            ID_SET => {
                let mut reader = choice.reader();
                let cookie = cookie(value, &mut reader)?;
                let deletes = flag(&mut reader, false)?;
                let mut set = reader.expect(ber::SET)?.reader();
                reader.finish()?;
                let mut uuids = Vec::new();
                while !set.is_empty() {
                    if uuids.len() == UUIDS_MAX {
                        return Err(DecodeError::Value("number of syncUUIDs"));
                    }
                    uuids.push(uuid(set.octet_string()?)?);
                }
                Ok(Self::IdSet { cookie, deletes, uuids })
            }
            found => Err(BerError::UnexpectedTag { expected: NEW_COOKIE, found }.into()),
        }
    }

    /// As the value of an intermediate response.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        let phase_end = |w: &mut Writer, cookie: &Option<Bytes>, done: bool| {
            if let Some(cookie) = cookie {
                w.octet_string(cookie);
            }
            if !done {
                w.boolean(ber::BOOLEAN, false); // DEFAULT TRUE
            }
        };
        match self {
            Self::NewCookie(cookie) => writer.octets(NEW_COOKIE, cookie),
            Self::RefreshDelete { cookie, done } => writer.nested(REFRESH_DELETE, |w| phase_end(w, cookie, *done)),
            Self::RefreshPresent { cookie, done } => writer.nested(REFRESH_PRESENT, |w| phase_end(w, cookie, *done)),
            Self::IdSet { cookie, deletes, uuids } => writer.nested(ID_SET, |w| {
                if let Some(cookie) = cookie {
                    w.octet_string(cookie);
                }
                if *deletes {
                    w.boolean(ber::BOOLEAN, true);
                }
                w.nested(ber::SET, |w| uuids.iter().for_each(|uuid| w.octet_string(uuid)));
            }),
        }
        writer.into_vec().into()
    }
}

fn phase_end(value: &Bytes, choice: Element<'_>) -> Result<(Option<Bytes>, bool), DecodeError> {
    let mut reader = choice.reader();
    let cookie = cookie(value, &mut reader)?;
    let done = flag(&mut reader, true)?;
    reader.finish()?;
    Ok((cookie, done))
}

fn value_of(controls: &[Control], oid: &str, what: &'static str) -> Result<Option<Bytes>, DecodeError> {
    match controls.iter().find(|control| control.oid == oid) {
        None => Ok(None),
        Some(control) => control.value.clone().map(Some).ok_or(DecodeError::Value(what)),
    }
}

fn sequence(value: &Bytes) -> Result<Reader<'_>, BerError> {
    let mut outer = Reader::new(value);
    let reader = outer.expect(ber::SEQUENCE)?.reader();
    outer.finish()?;
    Ok(reader)
}

fn cookie(value: &Bytes, reader: &mut Reader<'_>) -> Result<Option<Bytes>, BerError> {
    Ok(reader.optional(ber::OCTET_STRING)?.map(|element| value.slice_ref(element.content)))
}

fn flag(reader: &mut Reader<'_>, default: bool) -> Result<bool, BerError> {
    reader.optional(ber::BOOLEAN)?.map_or(Ok(default), |element| ber::boolean(element.content))
}

fn uuid(octets: &[u8]) -> Result<SyncUuid, DecodeError> {
    octets.try_into().map_err(|_| DecodeError::Value("syncUUID"))
}
