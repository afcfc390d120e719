//! Whether somebody is in a group that a reply rule names (FB-06, R-69). Pure.

use domain::ObjectId;
use domain::settings::GroupForm;
use ldap_wire::Dn;

/// `groups`: of the user, directly or not, each by its id, its DN as [`Dn::key`] writes it, and its SID.
pub fn is_member(groups: &[String], wanted: &str) -> bool {
    let any = |is: &dyn Fn(&str) -> bool| groups.iter().any(|group| is(group));
    match GroupForm::of(wanted) {
        GroupForm::Id(id) => any(&|group| group == id.as_str()),
        GroupForm::Guid(guid) => {
            let guid = guid.to_string();
            // A group may have a DN that looks alike: only an id has this form.
            any(&|group| group.ends_with(&guid) && is_guid(group, &guid))
        }
        GroupForm::Sid(sid) => any(&|group| group == sid),
        GroupForm::Dn(dn) => {
            let Ok(dn) = dn.parse::<Dn>() else { return false };
            any(&|group| group == dn.key().as_str())
        }
        GroupForm::Name(name) => {
            let first = Dn::default().child("cn", name.as_bytes()).key();
            let rest =
                |group: &str| group.strip_prefix(first.as_str()).map(|rest| rest.is_empty() || rest.starts_with(','));
            any(&|group| rest(group) == Some(true))
        }
    }
}

fn is_guid(group: &str, guid: &str) -> bool {
    let value = group.split_once(':').map(|(_, value)| value);
    value == Some(guid) && group.parse::<ObjectId>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_met_by_id_sid_and_whole_dn_and_a_bare_name_is_a_cn() {
        // FB-06, R-69: whoever may make groups somewhere grants nothing by an id, a SID or a DN; by a bare name only with a cn
        const GUID: &str = "7f1c2d3e-0000-4000-8000-00000000000a";
        let key = |dn: &str| dn.parse::<Dn>().expect("a DN").key().as_str().to_owned();
        let groups = [
            format!("objectGUID:{GUID}"),
            key("CN=VPN Admins,OU=Groups,DC=corp"),
            "S-1-5-21-1-1104".to_owned(),
            key("CN=a\\,b,DC=corp"),
            key("OU=Operators,OU=Delegated,DC=corp"),
            key("CN=One+OU=Two,DC=corp"),
            key("CN=x:11111111-0000-4000-8000-00000000000a"),
        ];
        for (wanted, found) in [
            (&*format!("objectGUID:{GUID}"), true),
            (&*format!("OBJECTGUID:{}", GUID.to_uppercase()), true),
            (&*format!("entryUUID:{GUID}"), false),
            (GUID, true),
            ("11111111-0000-4000-8000-00000000000a", false),
            ("S-1-5-21-1-1104", true),
            ("s-1-5-21-1-1104", true),
            ("S-1-5-21-1-110", false),
            ("cn = vpn admins, OU=groups,dc=corp", true),
            ("CN=VPN Admins,OU=Delegated,DC=corp", false),
            ("CN=VPN Admins", false),
            ("CN=VPN Admins,OU=Groups", false),
            ("VPN Admins", true),
            ("vpn admins", true),
            ("VPN", false),
            ("Groups", false),
            ("Operators", false),
            ("One", false),
            ("a,b", true),
            ("7f1c2d3e", false),
            ("=", false),
            ("", false),
        ] {
            assert_eq!(is_member(&groups, wanted), found, "{wanted}");
        }
    }
}
