//! A ticket for a service, asked for with the first one (RFC 4120 section 3.3).

use crate::crypto::{Encryption, Random};
use crate::error::{KdcError, ReplyError};
use crate::login::{Ticket, nonce};
use crate::message::{
    Authenticator, Body, Fault, Part, Principal, Reply, Timestamp, ap_request, kind, padata, request, usage,
};

/// One question in progress.
pub struct ServiceAsked<'a> {
    granting: &'a Ticket,
    service: Principal,
    nonce: u32,
}

impl<'a> ServiceAsked<'a> {
    /// And what to ask the KDC.
    pub fn new(granting: &'a Ticket, service: Principal, now: Timestamp, random: Random) -> (Self, Vec<u8>) {
        let nonce = nonce(random);
        let body = Body { client: None, service: &service, nonce, encryptions: &Encryption::ALL }.written();
        let key = &granting.key;
        let checksum = key.checksum(usage::TGS_REQ_CHECKSUM, &[&body]);
        let checksum = (key.encryption().checksum_number(), checksum.as_slice());
        let authenticator = Authenticator { client: &granting.client, checksum, now, subkey: None, number: None };
        let authenticator = key.encrypt(usage::TGS_REQ_AUTHENTICATOR, &authenticator.written(), random);
        let proof = ap_request(false, &granting.octets, key.encryption(), &authenticator);
        let question = request(kind::TGS_REQ, Some((padata::TGS_REQ, &proof)), &body);
        (Self { granting, service, nonce }, question)
    }

    /// `now` is ours.
    pub fn read(self, reply: &[u8], now: Timestamp) -> Result<Ticket, KdcError> {
        if let Some(fault) = Fault::parse(reply)? {
            return Err(KdcError::of(fault.code, fault.servers_time, now));
        }
        let reply = Reply::parse(kind::TGS_REP, reply)?;
        let part = reply.part.open(&self.granting.key, usage::TGS_REP)?;
        if !reply.client.is_same(&self.granting.client) {
            return Err(ReplyError::OtherQuestion.into());
        }
        Ok(Ticket::of(&reply, Part::parse(&part)?, &self.service, self.nonce)?)
    }
}
