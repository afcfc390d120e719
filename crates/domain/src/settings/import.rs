//! Users of a directory become a sync item's by their ids (FS-16). What comes of it is applied like any other change of the settings.

use super::{
    DisabledInDirectory, ItemLanguages, ItemMail, ItemMethod, Leavers, NewUsers, Returning, Settings, SourceKind,
    SyncItem, SyncSource, SyncState, Updates,
};
use crate::{ObjectId, ObjectName};

/// Somebody who was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub id: ObjectId,
    /// There is a user for the entry already, and not a removed one.
    pub known: bool,
}

/// What becomes of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportVerdict {
    /// The item names them from now on.
    Import,
    /// Left as they are, because they are known and no update was asked for.
    Known,
    /// The item names them already.
    Listed,
}

impl ImportVerdict {
    pub fn code(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Known => "known",
            Self::Listed => "listed",
        }
    }
}

/// Nothing can be imported so. Whoever asks has to name something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error("there is no directory {directory}")]
    NoDirectory { directory: ObjectName },
    #[error("sync item {item} is of directory {directory}")]
    OfAnother { item: ObjectName, directory: ObjectName },
    #[error("sync item {item} does not hold single users (source.kind = \"users\"); name another one, and it is made")]
    HoldsOthers { item: ObjectName },
    #[error("sync item {item} would hold {users} users; allowed are {}", SourceKind::USERS_MAX)]
    TooMany { item: ObjectName, users: usize },
}

impl Settings {
    /// Adds those to an item whom it does not name yet; what becomes of each, in their order. An item that is not there is made. It
    /// stands first: whoever was chosen by hand is not taken by an item that holds everybody (FS-08).
    pub fn import(
        &mut self,
        directory: &ObjectName,
        item: &ObjectName,
        chosen: &[Chosen],
        update: bool,
    ) -> Result<Vec<ImportVerdict>, ImportError> {
        if self.directory(directory.as_str()).is_none() {
            return Err(ImportError::NoDirectory { directory: directory.clone() });
        }
        let place = self.sync_items.iter().position(|it| it.name == *item);
        let mut ids = match place.map(|place| &self.sync_items[place]) {
            None => Vec::new(),
            Some(known) if known.directory != *directory => {
                return Err(ImportError::OfAnother { item: item.clone(), directory: known.directory.clone() });
            }
            Some(known) if known.source.kind != SourceKind::Users => {
                return Err(ImportError::HoldsOthers { item: item.clone() });
            }
            Some(known) => known.source.ids.clone(),
        };
        let mut listed: std::collections::HashSet<ObjectId> = ids.iter().cloned().collect();
        let verdicts = chosen.iter().map(|it| match () {
            () if listed.contains(&it.id) => ImportVerdict::Listed,
            () if it.known && !update => ImportVerdict::Known,
            () => {
                listed.insert(it.id.clone());
                ids.push(it.id.clone());
                ImportVerdict::Import
            }
        });
        let verdicts: Vec<ImportVerdict> = verdicts.collect();
        if ids.len() > SourceKind::USERS_MAX {
            return Err(ImportError::TooMany { item: item.clone(), users: ids.len() });
        }
        match place {
            Some(place) => self.sync_items[place].source.ids = ids,
            None if ids.is_empty() => {}
            None => self.sync_items.insert(0, of_users(item.clone(), directory.clone(), ids)),
        }
        Ok(verdicts)
    }
}

/// Everything else as an item has it that says nothing of it.
fn of_users(name: ObjectName, directory: ObjectName, ids: Vec<ObjectId>) -> SyncItem {
    SyncItem {
        name,
        directory,
        state: SyncState::On,
        source: SyncSource { kind: SourceKind::Users, dn: String::new(), id: None, ids, subtree: true, nested: true },
        filter: String::new(),
        add: true,
        update: Updates::default(),
        new_users: NewUsers::default(),
        leavers: Leavers::default(),
        returning: Returning::default(),
        disabled_in_directory: DisabledInDirectory::default(),
        primary_phone: super::sync::primary_phone(),
        backup_phone: Vec::new(),
        country: String::new(),
        method: ItemMethod::default(),
        language: ItemLanguages::default(),
        mail: ItemMail::default(),
        user_group: String::new(),
        second_factor: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = "[[directory]]\nname = \"corp\"\npreset = \"openldap\"\nurls = [\"ldaps://dc\"]\nbase = \"dc=corp\"\n\
                            query_bind = { kind = \"anonymous\" }\n\
                            [[sync_item]]\nname = \"all\"\ndirectory = \"corp\"\nsource = { kind = \"domain\" }\n";

    fn settings() -> Settings {
        toml::from_str(SETTINGS).expect("valid")
    }

    fn name(text: &str) -> ObjectName {
        text.parse().expect("a name")
    }

    fn chosen(number: usize, known: bool) -> Chosen {
        Chosen { id: format!("entryUUID:00000000-0000-0000-0000-{number:012}").parse().expect("an id"), known }
    }

    #[test]
    fn an_item_is_made_before_the_others_and_grows_by_who_is_new_to_it() {
        // FS-16, FS-08
        use ImportVerdict::{Import, Known, Listed};
        let mut settings = settings();
        let import = |settings: &mut Settings, who: &[Chosen], update| {
            settings.import(&name("corp"), &name("hand"), who, update)
        };
        let first = import(&mut settings, &[chosen(1, false), chosen(2, true), chosen(1, false)], false);
        assert_eq!(first, Ok(vec![Import, Known, Listed]), "each once");
        assert_eq!(settings.sync_items[0].name, name("hand"), "whoever was chosen belongs to it");
        let again = import(&mut settings, &[chosen(1, true), chosen(2, true), chosen(3, false)], true);
        assert_eq!(again, Ok(vec![Listed, Import, Import]));
        assert_eq!(settings.sync_items[0].source.ids, [1, 2, 3].map(|number| chosen(number, false).id));
        assert!(
            settings.problems().iter().all(|it| it.severity != super::super::Severity::Error),
            "{:?}",
            settings.problems()
        );
        let written = toml::to_string(&settings).expect("it can be written");
        assert_eq!(toml::from_str::<Settings>(&written).expect("and read"), settings);
        let by_hand = "name = \"hand\"\ndirectory = \"corp\"\nsource = { kind = \"users\" }\n";
        let mut by_hand: SyncItem = toml::from_str(by_hand).expect("an item");
        by_hand.source.ids.clone_from(&settings.sync_items[0].source.ids);
        assert_eq!(settings.sync_items[0], by_hand, "every key has its default");
    }

    #[test]
    fn what_cannot_be_imported_into_is_named_and_left_as_it_is() {
        let mut settings = settings();
        let before = settings.clone();
        let mut into = |directory: &str, item: &str, count: usize| {
            let who: Vec<Chosen> = (0..count).map(|number| chosen(number, false)).collect();
            settings.import(&name(directory), &name(item), &who, false)
        };
        assert_eq!(into("other", "hand", 1), Err(ImportError::NoDirectory { directory: name("other") }));
        assert_eq!(into("corp", "all", 1), Err(ImportError::HoldsOthers { item: name("all") }));
        let many = SourceKind::USERS_MAX + 1;
        assert_eq!(into("corp", "hand", many), Err(ImportError::TooMany { item: name("hand"), users: many }));
        assert_eq!(into("corp", "hand", 0), Ok(Vec::new()));
        assert_eq!(settings, before);
    }
}
