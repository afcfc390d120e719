//! What of an Active Directory is watched: objects that may be users, groups or containers, and what matters of them.

use crate::directory::Core;
use domain::settings::PhoneKind;
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
    "lockoutTime",
    "groupType",
    "sAMAccountName",
    "userPrincipalName",
];

/// Those of the settings, those their filters speak of, and `more`.
pub(super) fn attributes(core: &Core, more: &[String]) -> Vec<String> {
    let settings = &core.settings;
    let mut wanted: Vec<&str> = OF_EVERY_OBJECT.into_iter().chain(OF_USERS_AND_GROUPS).collect();
    wanted.extend([settings.first_name_attribute(), settings.last_name_attribute(), settings.mail_attribute()]);
    wanted.extend(settings.username_attributes());
    wanted.extend(settings.alternate_attribute());
    wanted.extend(PhoneKind::ALL.into_iter().filter_map(|kind| settings.phone_attribute(kind)));
    let map = &settings.attributes;
    let texts = [&map.distinguished_name, &map.user_group, &map.extension];
    wanted.extend(texts.into_iter().filter_map(|name| name.as_deref()));
    wanted.extend(map.languages.all());
    wanted.extend([settings.description_attribute(), settings.group_name_attribute()]);
    wanted.extend(core.user_filter().attributes());
    wanted.extend(core.group_filter().attributes());
    wanted.extend(core.container_filter().attributes());
    wanted.extend(more.iter().map(String::as_str));
    let mut seen = BTreeSet::new();
    wanted.retain(|name| !name.is_empty());
    wanted.into_iter().filter(|name| seen.insert(name.to_ascii_lowercase())).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::{core, settings};

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
