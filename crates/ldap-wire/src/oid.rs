//! The object identifiers this crate knows by name.

/// Extended operation, RFC 4511 section 4.14.
pub const START_TLS: &str = "1.3.6.1.4.1.1466.20037";
/// Unsolicited notification, RFC 4511 section 4.4.1.
pub const NOTICE_OF_DISCONNECTION: &str = "1.3.6.1.4.1.1466.20036";
/// Extended operation, RFC 4532.
pub const WHO_AM_I: &str = "1.3.6.1.4.1.4203.1.11.3";
/// Extended operation, RFC 3062.
pub const PASSWORD_MODIFY: &str = "1.3.6.1.4.1.4203.1.11.1";
/// Extended operation, RFC 3909.
pub const CANCEL: &str = "1.3.6.1.1.8";
/// Extended operation of Active Directory: binds without becoming bound, so it would authenticate beside our state machine.
pub const FAST_BIND: &str = "1.2.840.113556.1.4.1781";
/// Extended operation of Active Directory: operations inside an operation.
pub const BATCH_REQUEST: &str = "1.2.840.113556.1.4.2212";

/// Control, RFC 2696.
pub const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
/// Control, RFC 4370: act as somebody else.
pub const PROXIED_AUTHORIZATION: &str = "2.16.840.1.113730.3.4.18";
/// Control: the draft before RFC 4370, still served by some.
pub const PROXIED_AUTHORIZATION_V1: &str = "2.16.840.1.113730.3.4.12";
/// Control of Active Directory, MS-ADTS 3.1.1.3.4.1: a search that stays open until the server goes down.
pub const SHUTDOWN_NOTIFY: &str = "1.2.840.113556.1.4.1907";
/// Control: password policy, request and response.
pub const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";
/// Control, RFC 3829 section 3: whoever binds wants to hear who they are.
pub const AUTHORIZATION_IDENTITY: &str = "2.16.840.1.113730.3.4.16";

/// Control, RFC 4533 section 2.2: with a search.
pub const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";
/// Control, RFC 4533 section 2.3: with each entry of the answer.
pub const SYNC_STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
/// Control, RFC 4533 section 2.4: with its end.
pub const SYNC_DONE: &str = "1.3.6.1.4.1.4203.1.9.1.3";
/// Intermediate response, RFC 4533 section 2.5.
pub const SYNC_INFO: &str = "1.3.6.1.4.1.4203.1.9.1.4";
/// Control of Active Directory, MS-ADTS 3.1.1.3.4.1.3.
pub const DIRSYNC: &str = "1.2.840.113556.1.4.841";
/// Control of Active Directory, MS-ADTS 3.1.1.3.4.1.14: tombstones too.
pub const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";
/// Control of Active Directory, MS-ADTS 3.1.1.3.4.1.5: DNs with GUID and SID.
pub const EXTENDED_DN: &str = "1.2.840.113556.1.4.529";
/// Control of Active Directory, MS-ADTS 3.1.1.3.4.1.18: a search of what an attribute names.
pub const SCOPE_QUERY: &str = "1.2.840.113556.1.4.1504";

/// Capability of Active Directory: it is one, MS-ADTS 3.1.1.3.4.3.
pub const CAPABILITY_ACTIVE_DIRECTORY: &str = "1.2.840.113556.1.4.800";
/// Capability of AD LDS: it is one.
pub const CAPABILITY_AD_LDS: &str = "1.2.840.113556.1.4.1851";
/// Capability of Active Directory: signs and seals after a SASL bind.
pub const CAPABILITY_SIGNING: &str = "1.2.840.113556.1.4.1791";
/// Capability of AD LDS: accepts DIGEST-MD5.
pub const CAPABILITY_DIGEST: &str = "1.2.840.113556.1.4.1880";
