//! What a client may do, by its settings.

use crate::oid;
use crate::referral::Referrals;
use crate::result::Style;

/// The rules of one client, from its settings. The default is the strict side of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub style: Style,
    /// We have a certificate, so StartTLS can be offered.
    pub start_tls: bool,
    /// The upstream connection is encrypted.
    pub upstream_tls: bool,
    /// Nothing but StartTLS without TLS: who the client is, its certificate says (FL-22).
    pub tls_first: bool,
    /// Take passwords without TLS (L-07).
    pub danger_allow_cleartext: bool,
    pub anonymous: Anonymous,
    pub operations: Operations,
    pub referrals: Referrals,
    /// PLAIN inside TLS reaches `Action::Bind`, as the simple bind that it is (L-36).
    pub sasl_plain: bool,
    /// EXTERNAL inside TLS reaches `Action::Bind`: whose the certificate is, the gateway knows. All others are refused with 7.
    pub sasl_external: bool,
    /// OIDs of extended operations that are forwarded (L-14). StartTLS is always ours; fast bind and batch never pass.
    pub extended_operations: Vec<String>,
    /// OIDs of controls that do not pass: refused unless trusted (L-15).
    pub refused_controls: Vec<String>,
    /// Leave names of real servers in the root DSE (L-16).
    pub keep_server_names: bool,
    /// Operations outstanding at once; the next is answered with 51 (L-05).
    pub pending_max: usize,
    /// Entries of a search, and its seconds, at most: whoever asks for more gets no more, and then 11 (L-18). 0 = no limit of ours.
    pub size_limit: u32,
    pub time_limit_seconds: u32,
}

/// What a client may do without a bind (L-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    #[default]
    RootDse,
    Refuse,
    Forward,
}

/// What a client may do after a bind (FL-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operations {
    #[default]
    All,
    /// Search, compare and Who am I.
    Read,
    Bind,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            style: Style::default(),
            start_tls: false,
            upstream_tls: false,
            tls_first: false,
            danger_allow_cleartext: false,
            anonymous: Anonymous::default(),
            operations: Operations::default(),
            referrals: Referrals::default(),
            sasl_plain: false,
            sasl_external: false,
            extended_operations: [oid::WHO_AM_I, oid::PASSWORD_MODIFY, oid::CANCEL].map(str::to_owned).into(),
            refused_controls: REFUSED_CONTROLS.map(str::to_owned).into(),
            keep_server_names: false,
            pending_max: 64,
            size_limit: 0,
            time_limit_seconds: 0,
        }
    }
}

impl Policy {
    pub(crate) fn forwards_extended_operation(&self, oid: &str) -> bool {
        const NEVER: [&str; 3] = [oid::START_TLS, oid::FAST_BIND, oid::BATCH_REQUEST];
        !NEVER.contains(&oid) && self.extended_operations.iter().any(|allowed| allowed == oid)
    }
}

/// Controls that make somebody else of whoever is bound, or are about server and connection instead of entries: for trusted clients
/// only.
const REFUSED_CONTROLS: [&str; 3] = [oid::PROXIED_AUTHORIZATION, oid::PROXIED_AUTHORIZATION_V1, oid::SHUTDOWN_NOTIFY];
