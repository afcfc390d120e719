//! Values of content synchronisation and DirSync: the first octet says of which (RFC 4533 section 2, MS-ADTS 3.1.1.3.4.1.3).
//!
//! Property: what was understood is the same when it is written and read again.
#![no_main]

use bytes::Bytes;
use ldap_wire::sync::UUIDS_MAX;
use ldap_wire::{Control, DirSync, SyncDone, SyncInfo, SyncRequest, SyncState, dirsync, oid};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else { return };
    let value = Bytes::copy_from_slice(input);
    let sent = |oid: &str| [Control::new(oid, true, Some(value.clone()))];
    match kind % 6 {
        0 => {
            let Ok(Some(request)) = SyncRequest::find(&sent(oid::SYNC_REQUEST)) else { return };
            assert_eq!(SyncRequest::find(&[request.to_control()]), Ok(Some(request)));
        }
        1 => {
            let Ok(Some(state)) = SyncState::find(&sent(oid::SYNC_STATE)) else { return };
            assert_eq!(SyncState::find(&[state.to_control()]), Ok(Some(state)));
        }
        2 => {
            let Ok(Some(done)) = SyncDone::find(&sent(oid::SYNC_DONE)) else { return };
            assert_eq!(SyncDone::find(&[done.to_control()]), Ok(Some(done)));
        }
        3 => {
            let Ok(info) = SyncInfo::decode(&value) else { return };
            if let SyncInfo::IdSet { uuids, .. } = &info {
                assert!(uuids.len() <= UUIDS_MAX);
            }
            assert_eq!(SyncInfo::decode(&info.encode()), Ok(info));
        }
        4 => {
            let Ok(Some(value)) = DirSync::find(&sent(oid::DIRSYNC)) else { return };
            assert_eq!(DirSync::find(&[value.to_control()]), Ok(Some(value)));
        }
        _ => {
            let Ok(text) = std::str::from_utf8(input) else { return };
            assert!(text.ends_with(dirsync::plain_dn(text)));
        }
    }
});
