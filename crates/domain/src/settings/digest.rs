//! What of the settings a complete read depends on, as text that is compared: another text = what was read before says nothing
//! about now.

use super::{Directory, Settings, SyncState};
use crate::ObjectId;
use serde::Serialize;
use sha2::{Digest, Sha256};

impl Settings {
    /// The items of a directory that are on, in their order: after a change of them the next run is asked for by hand (FS-09).
    pub fn items_digest(&self, directory: &str) -> String {
        let items: Vec<_> = self
            .sync_items
            .iter()
            .filter(|item| item.directory.as_str() == directory && item.state == SyncState::On)
            .collect();
        digest(&items)
    }

    /// What is read of each entry of a directory, and how it is understood: another one says something else of who has not changed, too,
    /// so that the next run reads everything (S-30). Empty for a directory that is not there.
    pub fn mapping_digest(&self, directory: &str) -> String {
        let Some(directory) = self.directory(directory) else { return String::new() };
        // A new setting does not compile before somebody has decided about it.
        let Directory {
            preset,
            country,
            netbios_domain,
            sign_in_by_mail,
            attributes,
            // Whose entries they are, see `source_digest`.
            base: _,
            query_bind: _,
            sync_bind: _,
            user_filter: _,
            group_filter: _,
            container_filter: _,
            // How they are asked for.
            name: _,
            urls: _,
            server_order: _,
            authentication_bind: _,
            ca: _,
            pinned_certificates: _,
            danger_clear_text: _,
            windows_mechanism: _,
            connect_timeout_seconds: _,
            timeout_seconds: _,
            page_size: _,
            feed: _,
            full_every_hours: _,
            size_limit: _,
            trusted_domains: _,
            trusted: _,
            attribute_scope_queries: _,
            // What names mean at a login.
            lockout_guard: _,
            default_domain: _,
            strip_domain: _,
            alternate_directories: _,
        } = directory;
        // FS-29: one without a country of its own has that of verification.
        let country = if country.is_empty() { &self.verification.country } else { country };
        digest(&(preset, country, netbios_domain, sign_in_by_mail, attributes))
    }
}

impl Directory {
    /// Where users come from as far as the settings say: account, base, filters, id and its type (S-44). The server's own identity is added by
    /// whoever reads it.
    pub fn source_digest(&self) -> String {
        let of_every_directory = (
            self.preset,
            self.base.to_lowercase(),
            (self.query_bind.kind, self.query_bind.name.to_lowercase()),
            (self.user_filter(), self.group_filter()),
            self.id_attribute().to_lowercase(),
        );
        // By themselves, so that who has neither is read on as before they counted.
        let id_type = ObjectId::known_type(self.id_attribute()).is_none().then(|| self.id_type());
        match (self.container_filter.as_str(), id_type) {
            ("", None) => digest(&of_every_directory),
            further => digest(&(of_every_directory, further)),
        }
    }
}

fn digest(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("settings came from a document and can be written again");
    Sha256::digest(text).iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdType;

    fn settings(text: &str) -> Settings {
        let directory = "[[directory]]\nname = \"corp\"\nurls = [\"ldaps://dc\"]\nbase = \"DC=corp\"\nquery_bind = { kind = \"anonymous\" }\n";
        toml::from_str(&format!("{directory}{text}")).expect("valid")
    }

    fn item(name: &str, rest: &str) -> String {
        format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\n{rest}\nsource = {{ kind = \"domain\" }}\n")
    }

    #[test]
    fn only_what_changes_who_is_read_changes_the_digest() {
        // FS-09
        let of = |text: &str| settings(text).items_digest("corp");
        let (a, b) = (item("a", ""), item("b", ""));
        assert_eq!(of(&(a.clone() + &b)), of(&(a.clone() + &b)));
        assert_ne!(of(&(a.clone() + &b)), of(&(b.clone() + &a)), "order");
        assert_ne!(of(&a), of(&item("a", "filter = \"(l=x)\"")));
        assert_eq!(of(&a), of(&(a.clone() + &item("c", "state = \"off\""))), "one that is off counts for nothing");
        assert_eq!(of(""), settings("").items_digest("other"));
    }

    #[test]
    fn another_map_or_form_of_names_is_another_mapping() {
        // S-30, FD-17, FS-29
        let before = settings("");
        let with = |change: fn(&mut Settings)| {
            let mut after = before.clone();
            change(&mut after);
            after.mapping_digest("corp") != before.mapping_digest("corp")
        };
        assert!(with(|it| it.directories[0].attributes.first_name = Some("displayName".into())));
        assert!(with(|it| it.directories[0].attributes.username = Some(vec!["uid".into()])));
        assert!(with(|it| it.directories[0].preset = super::super::Preset::OpenLdap));
        assert!(with(|it| it.directories[0].netbios_domain = "CORP".into()));
        assert!(with(|it| it.directories[0].sign_in_by_mail = Some(true)));
        assert!(with(|it| it.directories[0].country = "DE".into()));
        assert!(with(|it| it.verification.country = "DE".into()));
        assert!(!with(|it| it.directories[0].urls = vec!["ldaps://other".into()]));
        assert!(!with(|it| it.directories[0].page_size = 10));
        assert_eq!(before.mapping_digest("other"), "");
    }

    #[test]
    fn another_account_base_or_filter_is_another_source() {
        // S-44
        let before = settings("").directories.remove(0);
        let with = |change: fn(&mut Directory)| {
            let mut directory = before.clone();
            change(&mut directory);
            directory.source_digest() == before.source_digest()
        };
        assert!(with(|it| it.base = "dc=CORP".into()), "case means nothing");
        assert!(with(|it| it.urls = vec!["ldaps://other".into()]), "another server of the same directory");
        assert!(!with(|it| it.base = "ou=x,dc=corp".into()));
        assert!(!with(|it| it.query_bind.name = "cn=other".into()));
        assert!(!with(|it| it.user_filter = "(uid=*)".into()));
        assert!(!with(|it| it.group_filter = "(cn=*)".into()));
        assert!(!with(|it| it.container_filter = "(ou=*)".into()));
        assert!(!with(|it| it.attributes.id = Some("entryUUID".into())));
        let typed = |directory: &mut Directory, id_type| {
            directory.attributes.id = Some("employeeNumber".into());
            directory.attributes.id_type = id_type;
            directory.source_digest()
        };
        let mut directory = before.clone();
        assert_ne!(typed(&mut directory, None), typed(&mut directory, Some(IdType::String)));
    }
}
