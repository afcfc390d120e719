//! Which part may call which method (V-72). The name of a part is in its certificate; a call that is not listed is
//! refused at the mutual-TLS edge, before any code of the service runs.

/// The parts of the product, as they stand in certificates (`<part>.twinlock.internal`).
pub mod part {
    pub const LDAP_GATEWAY: &str = "ldap-gateway";
    pub const RADIUS_GATEWAY: &str = "radius-gateway";
    pub const VERIFICATION: &str = "verification";
    pub const USER_STORE: &str = "user-store";
    pub const DIRECTORY_SYNC: &str = "directory-sync";
    pub const PORTAL: &str = "portal";
    /// The command line, on the host or with an administrator's certificate.
    pub const ADMIN: &str = "admin";

    pub const ALL: [&str; 7] = [LDAP_GATEWAY, RADIUS_GATEWAY, VERIFICATION, USER_STORE, DIRECTORY_SYNC, PORTAL, ADMIN];
}

use part::{ADMIN, DIRECTORY_SYNC, LDAP_GATEWAY, PORTAL, RADIUS_GATEWAY, VERIFICATION};

/// gRPC path and who may call it. A path that ends in `/` stands for every method of the service.
pub const TABLE: &[(&str, &[&str])] = &[
    ("/twinlock.verification.v1.Verification/", &[LDAP_GATEWAY, RADIUS_GATEWAY, PORTAL]),
    ("/twinlock.verification.v1.WaitingCalls/", &[LDAP_GATEWAY, RADIUS_GATEWAY]),
    ("/twinlock.verification.v1.Enrolment/", &[PORTAL, ADMIN]),
    ("/twinlock.verification.v1.Phone/", &[PORTAL]),
    ("/twinlock.verification.v1.Callback/", &[PORTAL]),
    ("/twinlock.directory.v1.PasswordCheck/Check", &[PORTAL]),
    ("/twinlock.directory.v1.PasswordCheck/Resolve", &[PORTAL, ADMIN]),
    ("/twinlock.directory.v1.PasswordCheck/Probe", &[PORTAL, ADMIN]),
    ("/twinlock.directory.v1.Directories/", &[PORTAL, ADMIN]),
    ("/twinlock.user_store.v1.Settings/Fetch", &[LDAP_GATEWAY, RADIUS_GATEWAY, VERIFICATION, DIRECTORY_SYNC, PORTAL]),
    ("/twinlock.user_store.v1.Settings/PinServiceAccount", &[LDAP_GATEWAY]),
    ("/twinlock.user_store.v1.Settings/LearnClient", &[RADIUS_GATEWAY]),
    ("/twinlock.user_store.v1.Settings/KeyRing", &[LDAP_GATEWAY, RADIUS_GATEWAY, VERIFICATION]),
    ("/twinlock.user_store.v1.Facts/", &[VERIFICATION]),
    ("/twinlock.user_store.v1.Commit/", &[VERIFICATION]),
    ("/twinlock.user_store.v1.Outbox/", &[VERIFICATION]),
    ("/twinlock.user_store.v1.Radius/", &[RADIUS_GATEWAY]),
    ("/twinlock.user_store.v1.FailOpen/", &[LDAP_GATEWAY, RADIUS_GATEWAY]),
    ("/twinlock.user_store.v1.PasswordTries/", &[LDAP_GATEWAY, RADIUS_GATEWAY]),
    ("/twinlock.user_store.v1.Standing/", &[LDAP_GATEWAY]),
    ("/twinlock.user_store.v1.Sync/", &[DIRECTORY_SYNC]),
    ("/twinlock.user_store.v1.PortalData/", &[PORTAL]),
    ("/twinlock.user_store.v1.Admin/", &[PORTAL, ADMIN]),
    ("/grpc.health.v1.Health/", &part::ALL),
];

/// Which keys of a ring a part may ask for: its own.
pub fn may_use_key_ring(part: &str, purpose: &str) -> bool {
    matches!(
        (part, purpose),
        (RADIUS_GATEWAY, "radius-state" | "requests" | "passwords")
            | (LDAP_GATEWAY, "passwords")
            | (VERIFICATION, "challenges" | "codes" | "remembered")
    )
}

/// May this part call this gRPC path (`/package.Service/Method`)? What is not listed is refused.
pub fn allowed(part: &str, path: &str) -> bool {
    TABLE.iter().any(|(listed, parts)| {
        let matches = if listed.ends_with('/') { path.starts_with(listed) } else { path == *listed };
        matches && parts.contains(&part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stolen_gateway_key_reads_no_seeds_lists_no_users_and_writes_no_decision() {
        // V-72, B-90
        for gateway in [LDAP_GATEWAY, RADIUS_GATEWAY] {
            for path in [
                "/twinlock.user_store.v1.Facts/Login",
                "/twinlock.user_store.v1.Commit/Allow",
                "/twinlock.user_store.v1.Admin/ListUsers",
                "/twinlock.user_store.v1.Sync/ApplyBatch",
                "/twinlock.verification.v1.Enrolment/StartCode",
            ] {
                assert!(!allowed(gateway, path), "{gateway} {path}");
            }
            assert!(allowed(gateway, "/twinlock.verification.v1.Verification/Begin"));
        }
    }

    #[test]
    fn nobody_unlisted_calls_anything_and_nothing_unlisted_is_called() {
        for (path, _) in TABLE {
            assert!(!allowed("mallory", path));
            assert!(!allowed("", path));
        }
        for part in part::ALL {
            assert!(!allowed(part, "/twinlock.user_store.v1.Facts"));
            assert!(!allowed(part, "/unknown.v1.Service/Method"));
        }
    }
}
