//! What ships: the files of `dictionaries/`, compiled in.

use super::Dictionary;
use std::sync::LazyLock;

pub(super) fn dictionary() -> &'static Dictionary {
    static SHIPPED: LazyLock<Dictionary> = LazyLock::new(|| {
        FILES.iter().fold(Dictionary::default(), |dictionary, (file, text)| {
            dictionary.with(file, text).expect("a test reads every file that ships")
        })
    });
    &SHIPPED
}

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../dictionaries/", $name)))),*]
    };
}

/// The standard comes first, so that a vendor's file cannot be read without it.
pub(super) const FILES: &[(&str, &str)] = files! {
    "dictionary.rfc"
    "dictionary.microsoft"
    "dictionary.cisco"
    "dictionary.cisco.vpn3000"
    "dictionary.cisco.asa"
    "dictionary.airespace"
    "dictionary.fortinet"
    "dictionary.paloalto"
    "dictionary.juniper"
    "dictionary.erx"
    "dictionary.netscreen"
    "dictionary.aruba"
    "dictionary.hp"
    "dictionary.ruckus"
    "dictionary.ubnt"
    "dictionary.mikrotik"
    "dictionary.citrix"
    "dictionary.f5"
    "dictionary.sonicwall"
    "dictionary.checkpoint"
    "dictionary.huawei"
    "dictionary.h3c"
    "dictionary.wispr"
    "dictionary.ascend"
};
