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
    /// A program that asks whether somebody may log in to it, and nothing else.
    Application,
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
    /// Ask for the second factor of a login, as the client that names the key (FC-05).
    Authenticate,
}

/// FV-28, FV-29: what the help desk gives ends after 15 minutes.
pub const HELP_DESK_BYPASS_SECONDS_MAX: u32 = 900;

impl Role {
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Admin, Self::UserManager, Self::HelpDesk, Self::Auditor, Self::Application];

    pub fn code(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::UserManager => "user_manager",
            Self::HelpDesk => "help_desk",
            Self::Auditor => "auditor",
            Self::Application => "application",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }

    /// Deny by default: what is not listed is not allowed (V-82).
    pub fn may(self, permission: Permission) -> bool {
        use Permission::*;
        match permission {
            UsersRead => !matches!(self, Self::Application),
            UsersEdit => matches!(self, Self::Owner | Self::Admin | Self::UserManager),
            UsersMethods | UsersBlock | UsersBypass | UsersPin | UsersVerifyCaller => {
                !matches!(self, Self::Auditor | Self::Application)
            }
            AuditRead => matches!(self, Self::Owner | Self::Admin | Self::Auditor),
            SettingsRead | SettingsClients | SettingsMessaging | SyncRun | SyncApprove => {
                matches!(self, Self::Owner | Self::Admin)
            }
            Keys | Roles => matches!(self, Self::Owner),
            // Not the owner either: a key that lets people in lies on an application's host.
            Authenticate => matches!(self, Self::Application),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_gives_roles_and_turns_keys_an_auditor_changes_nothing_and_an_application_asks() {
        for role in Role::ALL {
            assert_eq!(role.may(Permission::Roles), role == Role::Owner);
            assert_eq!(role.may(Permission::Keys), role == Role::Owner);
            assert_eq!(Role::from_code(role.code()), Some(role));
        }
        for role in Role::ALL {
            assert_eq!(role.may(Permission::Authenticate), role == Role::Application);
            assert_eq!(role.may(Permission::UsersRead), role != Role::Application);
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
            assert!(!Role::Auditor.may(permission) && !Role::Application.may(permission));
        }
    }
}
