//! What an administrator or an API key may do.

use serde::{Deserialize, Serialize};

/// Roles from the most to the least powerful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Owner,
    Admin,
    UserManager,
    HelpDesk,
    Auditor,
}

/// A single right. A route or a command asks for exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    UsersRead,
    UsersEdit,
    UsersMethods,
    /// Block, and unblock.
    UsersBlock,
    /// A bypass or a temporary code. The help desk: for [`HELP_DESK_BYPASS_SECONDS_MAX`] at most.
    UsersBypass,
    UsersPin,
    /// Ask somebody's phone, to see who is calling.
    UsersVerifyCaller,
    AuditRead,
    SettingsRead,
    SettingsClients,
    SettingsMessaging,
    SyncRun,
    SyncApprove,
    Keys,
    Roles,
}

/// FV-28, FV-29: what the help desk gives ends after 15 minutes.
pub const HELP_DESK_BYPASS_SECONDS_MAX: u32 = 900;

impl Role {
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::UserManager, Self::HelpDesk, Self::Auditor];

    pub fn code(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::UserManager => "user_manager",
            Self::HelpDesk => "help_desk",
            Self::Auditor => "auditor",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }

    /// Deny by default: what is not listed is not allowed (V-82).
    pub fn may(self, permission: Permission) -> bool {
        use Permission::*;
        match permission {
            UsersRead => true,
            UsersEdit => matches!(self, Self::Owner | Self::Admin | Self::UserManager),
            UsersMethods | UsersBlock | UsersBypass | UsersPin | UsersVerifyCaller => !matches!(self, Self::Auditor),
            AuditRead => matches!(self, Self::Owner | Self::Admin | Self::Auditor),
            SettingsRead | SettingsClients | SettingsMessaging | SyncRun | SyncApprove => {
                matches!(self, Self::Owner | Self::Admin)
            }
            Keys | Roles => matches!(self, Self::Owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_gives_roles_and_turns_keys_and_an_auditor_changes_nothing() {
        for role in Role::ALL {
            assert_eq!(role.may(Permission::Roles), role == Role::Owner);
            assert_eq!(role.may(Permission::Keys), role == Role::Owner);
            assert_eq!(Role::from_code(role.code()), Some(role));
        }
        for permission in [
            Permission::UsersEdit,
            Permission::UsersMethods,
            Permission::UsersBlock,
            Permission::UsersBypass,
            Permission::UsersPin,
            Permission::UsersVerifyCaller,
            Permission::SettingsClients,
            Permission::SettingsMessaging,
            Permission::SyncApprove,
        ] {
            assert!(!Role::Auditor.may(permission));
        }
    }
}
