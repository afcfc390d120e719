//! What of an Active Directory is watched: objects that may be users, groups or containers, and what matters of them.

use crate::directory::Core;
use domain::settings::{Preset, each_once};
use ldap_wire::Filter;
use std::collections::BTreeSet;

/// By object class alone: a tombstone keeps nothing else, and who leaves the administrator's filter must match this one still (S-14).
pub(super) fn objects(core: &Core) -> Filter {
    const CLASSES: [&str; 5] = ["user", "group", "organizationalUnit", "container", "foreignSecurityPrincipal"];
    let mut classes: BTreeSet<Vec<u8>> = CLASSES.iter().map(|class| class.as_bytes().to_vec()).collect();
    for filter in [core.user_filter(), core.group_filter(), core.container_filter()] {
        let named = filter.values_of("objectClass").into_iter();
        classes.extend(
            named
                .filter(|class| !CLASSES.iter().any(|it| it.as_bytes().eq_ignore_ascii_case(class)))
                .map(<[u8]>::to_vec),
        );
    }
    Filter::or(classes.into_iter().map(|class| Filter::equal("objectClass", class)))
}

/// Nothing at all.
pub(super) fn nothing() -> Filter {
    Filter::not(Filter::present("objectClass"))
}

/// DirSync tells of an object only if one of the attributes asked for has changed (S-14).
const OF_EVERY_OBJECT: [&str; 6] = ["objectClass", "name", "parentGUID", "isDeleted", "instanceType", "objectGUID"];
const OF_USERS_AND_GROUPS: [&str; 9] = [
    "member",
    "primaryGroupID",
    "userAccountControl",
    "accountExpires",
    "pwdLastSet",
    "groupType",
    "sAMAccountName",
    "userPrincipalName",
    "uid",
];

/// Those of the settings, those their filters speak of, and `more`.
pub(super) fn attributes(core: &Core, more: &[String]) -> Vec<String> {
    let settings = &core.settings;
    let mut wanted: Vec<&str> = OF_EVERY_OBJECT.into_iter().chain(OF_USERS_AND_GROUPS).collect();
    if settings.preset == Preset::AdLds {
        wanted.push(settings.preset.disabled_attribute());
    }
    wanted.extend(settings.attributes_of_people().into_iter().map(|(_, attribute)| attribute));
    wanted.extend(settings.group_name_attributes());
    wanted.extend(core.user_filter().attributes());
    wanted.extend(core.group_filter().attributes());
    wanted.extend(core.container_filter().attributes());
    wanted.extend(more.iter().map(String::as_str));
    each_once(wanted).into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::{core, settings};

    #[test]
    fn every_name_that_people_sign_in_with_is_watched() {
        // S-14, FD-34: the names that synchronisation keeps of a user of Active Directory
        let mut settings = settings(&["ldap://dc1"]);
        settings.attributes.alternate = Some("employeeNumber".into());
        let attributes = attributes(&core(settings).expect("sound settings"), &[]);
        for attribute in ["sAMAccountName", "userPrincipalName", "uid", "mail", "employeeNumber"] {
            assert!(attributes.iter().any(|it| it.eq_ignore_ascii_case(attribute)), "{attribute}: {attributes:?}");
        }
        // S-22: wrong passwords disable nobody here, and whoever guesses is not to make the sync read.
        assert!(!attributes.iter().any(|it| it == "lockoutTime"), "{attributes:?}");
    }

    #[test]
    fn whatever_the_filters_call_a_user_a_group_or_a_container_is_watched() {
        // S-14, S-16
        let mut settings = settings(&["ldap://dc1"]);
        settings.user_filter = "(&(objectClass=staff)(l=Berlin))".into();
        settings.group_filter = "(&(objectClass=team)(c=DE))".into();
        settings.container_filter = "(|(objectClass=locality)(&(objectClass=CONTAINER)(st=Bavaria)))".into();
        let core = core(settings).expect("sound settings");
        let objects = objects(&core);
        let classes = objects.values_of("objectClass");
        for class in ["staff", "team", "locality", "container", "organizationalUnit"] {
            assert!(classes.contains(&class.as_bytes()), "{class}: {objects}");
        }
        assert_eq!(classes.len(), 8, "each once: {objects}");
        let attributes = attributes(&core, &["title".into()]);
        for attribute in ["l", "c", "st", "title"] {
            assert!(attributes.iter().any(|it| it == attribute), "{attribute}: {attributes:?}");
        }
    }
}
