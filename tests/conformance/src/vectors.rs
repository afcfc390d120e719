//! The text files in tests/vectors, which say themselves what their form is.

use anyhow::{Context, Result, bail, ensure};
use std::{collections::BTreeMap, fs};

/// A block of radius.vec.
#[derive(Debug, Clone)]
pub struct RadiusVector {
    pub name: String,
    keys: BTreeMap<String, String>,
}

/// The client's rules a packet is meant for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    pub message_authenticator: String,
    pub limit_proxy_state: String,
}

impl RadiusVector {
    pub fn key(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    pub fn packet(&self) -> Result<Vec<u8>> {
        octets(self.key("packet").unwrap_or_default()).with_context(|| self.name.clone())
    }

    pub fn rules(&self) -> Rules {
        let or = |key, default: &str| self.key(key).unwrap_or(default).to_owned();
        Rules {
            message_authenticator: or("message_authenticator", "yes"),
            limit_proxy_state: or("limit_proxy_state", "auto"),
        }
    }

    /// `B-01` of a packet that belongs to a row of the catalogue.
    pub fn row(&self) -> Option<&str> {
        self.name.get(..4).filter(|row| row.starts_with("B-"))
    }
}

pub fn radius_vectors() -> Result<Vec<RadiusVector>> {
    let mut vectors: Vec<RadiusVector> = Vec::new();
    let mut last = String::new();
    for line in read("radius.vec")?.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            vectors.push(RadiusVector { name: name.into(), keys: BTreeMap::new() });
            continue;
        }
        let keys = &mut vectors.last_mut().context("a key before the first block")?.keys;
        if line.starts_with(' ') {
            let value = keys.get_mut(&last).context("a line that continues nothing")?;
            value.push(' ');
            value.push_str(line.trim());
        } else {
            let (key, value) = line.split_once(':').with_context(|| line.to_owned())?;
            last = key.trim().to_owned();
            keys.insert(last.clone(), value.trim().to_owned());
        }
    }
    ensure!(vectors.len() > 150, "only {} vectors were found", vectors.len());
    Ok(vectors)
}

/// A client's message of ldap.vec.
#[derive(Debug, Clone)]
pub struct LdapVector {
    /// The comment above it: its source.
    pub source: String,
    pub octets: Vec<u8>,
    /// What is understood, or why it is refused.
    pub expected: String,
}

pub fn ldap_vectors() -> Result<Vec<LdapVector>> {
    let mut source = String::new();
    let mut vectors = Vec::new();
    for line in read("ldap.vec")?.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            source = comment.trim().to_owned();
        } else if let Some(rest) = line.strip_prefix("client ") {
            let (hex, expected) = rest.split_once(" => ").with_context(|| line.to_owned())?;
            let octets = octets(hex).with_context(|| source.clone())?;
            vectors.push(LdapVector { source: source.clone(), octets, expected: expected.to_owned() });
        }
    }
    ensure!(vectors.len() > 50, "only {} vectors were found", vectors.len());
    Ok(vectors)
}

/// Hex, where `(..)xN` repeats.
pub fn octets(text: &str) -> Result<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(repeated) = rest.strip_prefix('(') {
            let (inside, after) = repeated.split_once(")x").context("a bracket without )x")?;
            let digits = after.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(after.len());
            found.extend(octets(inside)?.repeat(after[..digits].parse()?));
            rest = after[digits..].trim_start();
        } else {
            let Some(pair) = rest.get(..2) else { bail!("half an octet: {rest}") };
            found.push(u8::from_str_radix(pair, 16).with_context(|| pair.to_owned())?);
            rest = rest[2..].trim_start();
        }
    }
    Ok(found)
}

fn read(file: &str) -> Result<String> {
    let path = lab::repository().join("tests/vectors").join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}
