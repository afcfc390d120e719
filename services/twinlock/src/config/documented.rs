//! `docs/reference/configuration.md` names every key that a process reads, with its variable, and no other.

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::cell::Cell;
use std::collections::BTreeSet;

type Refused = serde::de::value::Error;
type Fields = &'static [&'static str];

/// Has no values: it notes what fields the struct at the end of a path asks for.
struct Spy<'a> {
    path: &'a [&'static str],
    asked: &'a Cell<Fields>,
}

impl<'de> Deserializer<'de> for Spy<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        Err(Refused::custom("no value"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: Fields,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if self.path.is_empty() {
            self.asked.set(fields);
            return self.deserialize_any(visitor);
        }
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Spy<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        seed.deserialize(self.path[0].into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(Spy { path: &self.path[1..], asked: self.asked })
    }
}

/// Adds `section.key` of every value that the configuration `T` has.
fn keys_of<T: DeserializeOwned>(path: &[&'static str], keys: &mut BTreeSet<String>) {
    let asked: Cell<Fields> = Cell::new(&[]);
    assert!(T::deserialize(Spy { path, asked: &asked }).is_err(), "there are no values");
    if asked.get().is_empty() {
        keys.insert(path.join("."));
    }
    for field in asked.get() {
        keys_of::<T>(&[path, &[*field]].concat(), keys);
    }
}

#[test]
fn the_reference_names_every_key_of_every_part_and_no_other() {
    let mut keys = BTreeSet::new();
    keys_of::<super::Config>(&[], &mut keys);
    keys_of::<user_store::Config>(&[], &mut keys);
    keys_of::<verification::Config>(&[], &mut keys);
    keys_of::<ldap_gateway::Config>(&[], &mut keys);
    keys_of::<radius_gateway::Config>(&[], &mut keys);
    keys_of::<directory_sync::Config>(&[], &mut keys);
    keys_of::<portal::Config>(&[], &mut keys);

    let page = include_str!("../../../../docs/reference/configuration.md");
    let mut named = BTreeSet::new();
    for chapter in page.split("\n## ").skip(1) {
        let section = chapter.split(['[', ']']).nth(1).expect("a heading names a section");
        for row in chapter.lines().filter(|line| line.starts_with("| `")) {
            let key = format!("{section}.{}", row.split('`').nth(1).expect("a row names a key"));
            let variable = format!("`TWINLOCK_{}` |", key.replace('.', "__").to_uppercase());
            assert!(row.ends_with(&variable), "docs/reference/configuration.md: the row of {key} ends with {variable}");
            named.insert(key);
        }
    }
    assert_eq!(named, keys);
}
