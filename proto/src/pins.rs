//! What sync items name by a DN, known by its id since it was found (FS-21): one rule for who reads and for who decides.

use crate::user_store::SourcePin;
use domain::settings::{SourceKind, SyncItem, SyncSource};

/// What the source names, as a pin has it; `None` = nothing by a DN.
pub fn kind(source: &SyncSource) -> Option<&'static str> {
    match source.kind {
        SourceKind::Container => Some("container"),
        SourceKind::Group => Some("group"),
        SourceKind::Domain | SourceKind::Users => None,
    }
}

impl SourcePin {
    /// Is it of this item as the settings have it now: named by this very DN, and by no id that somebody typed?
    pub fn is_of(&self, item: &SyncItem) -> bool {
        let source = &item.source;
        let named = source.id.is_none() && source.dn == self.distinguished_name;
        named && item.name.as_str() == self.sync_item && kind(source) == Some(&self.kind)
    }
}

/// Names the item by its id, if that is known.
pub fn apply(pins: &[SourcePin], item: &mut SyncItem) {
    if let Some(pin) = pins.iter().find(|pin| pin.is_of(item)) {
        item.source.id = pin.object_id.parse().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_of_the_very_name_and_gives_way_to_an_id_of_the_settings() {
        // FS-21
        const ID: &str = "entryUUID:00000000-0000-0000-0000-000000000001";
        let pin = SourcePin {
            sync_item: "sales".into(),
            kind: "container".into(),
            distinguished_name: "ou=sales,dc=corp".into(),
            object_id: ID.into(),
        };
        let other = "entryUUID:00000000-0000-0000-0000-000000000002";
        for (name, kind, dn, id, known) in [
            ("sales", SourceKind::Container, "ou=sales,dc=corp", None, Some(ID)),
            ("sales", SourceKind::Container, "OU=sales,dc=corp", None, None),
            ("sales", SourceKind::Group, "ou=sales,dc=corp", None, None),
            ("law", SourceKind::Container, "ou=sales,dc=corp", None, None),
            ("sales", SourceKind::Container, "ou=sales,dc=corp", Some(other), Some(other)),
        ] {
            let text = format!("name = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n");
            let mut item: SyncItem = toml::from_str(&text).expect("an item");
            (item.source.kind, item.source.dn) = (kind, dn.to_owned());
            item.source.id = id.map(|id| id.parse().expect("an id"));
            apply(std::slice::from_ref(&pin), &mut item);
            assert_eq!(item.source.id.map(|id| id.to_string()).as_deref(), known, "{name} {kind:?} {dn} {id:?}");
        }
    }
}
