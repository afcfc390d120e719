//! Searches anything for secrets, in every form in which one could have slipped out.

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::{Context, Result, ensure};
use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use lab::Standalone;
use std::{fs, path::Path};

/// Every secret of a story, in every form.
#[derive(Default)]
pub struct Secrets {
    patterns: Vec<Pattern>,
}

struct Pattern {
    what: String,
    form: &'static str,
    octets: Vec<u8>,
    /// Digits that stand alone; among other digits and letters they are part of something else.
    alone: bool,
}

impl Secrets {
    pub fn add(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() >= 8, "{what} is too short to be found without finding other things");
        let digits = secret.iter().all(u8::is_ascii_digit);
        for (form, octets) in forms(secret) {
            let alone = digits && form == "plain";
            self.patterns.push(Pattern { what: what.into(), form, octets, alone });
        }
    }

    /// What the log of this machine says, and what it keeps, but for its master key (V-34, T-09).
    pub fn were_not_written_by(&self, twinlock: &Standalone) -> Result<()> {
        let log = twinlock.log().into_bytes();
        let data = read_all(&twinlock.home().join("data"), &["master.key"])?;
        ensure!(log.len() > 1_000 && data.len() > 10_000, "{} octets of log, {} of data", log.len(), data.len());
        let found = [self.found_in("the log", &log)?, self.found_in("the data", &data)?].concat();
        ensure!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }

    /// How many secrets, in all their forms.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What is found: which secret, in which form, between what.
    pub fn found_in(&self, place: &str, content: &[u8]) -> Result<Vec<String>> {
        let all = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(self.patterns.iter().map(|pattern| &pattern.octets))?;
        let mut found = Vec::new();
        for hit in all.find_overlapping_iter(content) {
            let pattern = &self.patterns[hit.pattern().as_usize()];
            let beside = [hit.start().checked_sub(1), Some(hit.end())];
            let part_of_more = beside.iter().flatten().filter_map(|at| content.get(*at)).any(u8::is_ascii_alphanumeric);
            if !(pattern.alone && part_of_more) {
                let context = &content[hit.start().saturating_sub(60)..content.len().min(hit.end() + 20)];
                let context = String::from_utf8_lossy(context).escape_debug().to_string();
                found.push(format!("{place}: {} as {}: {context}", pattern.what, pattern.form));
            }
        }
        found.truncate(20);
        Ok(found)
    }
}

/// A whole folder, but for the files that hold a secret by design.
pub fn read_all(folder: &Path, without: &[&str]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            content.extend(read_all(&entry.path(), without)?);
        } else if kind.is_file() && !without.iter().any(|name| entry.file_name() == *name) {
            content.extend(fs::read(entry.path())?);
        }
    }
    Ok(content)
}

/// A secret as it stands in what is written: as it is, or as somebody's encoding made it.
pub fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8_lossy(secret);
    let debug = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![
        ("plain", secret.to_vec()),
        ("hex", HEXLOWER.encode(secret).into_bytes()),
        ("upper-case hex", HEXUPPER.encode(secret).into_bytes()),
        ("percent", percent(secret, |octet| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)).into_bytes()),
        ("a form's percent", percent(secret, |octet| octet.is_ascii_alphanumeric()).replace("%20", "+").into_bytes()),
        ("percent throughout", percent(secret, |_| false).into_bytes()),
        ("JSON", text.escape_default().to_string().into_bytes()),
        ("escaped octets", secret.escape_ascii().to_string().into_bytes()),
        ("a list of octets", debug.clone().into_bytes()),
        ("a JSON list of octets", debug.replace(", ", ",").into_bytes()),
    ];
    for offset in 0..3 {
        let (standard, url) = (inside_base64(&BASE64, secret, offset), inside_base64(&BASE64URL, secret, offset));
        forms.extend([("base64", standard), ("base64 for URLs", url)]);
    }
    forms.sort_by(|one, other| one.1.cmp(&other.1));
    forms.dedup_by(|one, other| one.1 == other.1);
    // What reads the same in another form is called plain.
    for (form, octets) in &mut forms {
        if octets == secret {
            *form = "plain";
        }
    }
    forms
}

fn percent(octets: &[u8], kept: impl Fn(u8) -> bool) -> String {
    octets.iter().map(|&octet| if kept(octet) { char::from(octet).into() } else { format!("%{octet:02X}") }).collect()
}

/// The signs that a secret makes certain of when it stands so many octets behind a border of three.
fn inside_base64(encoding: &data_encoding::Encoding, secret: &[u8], offset: usize) -> Vec<u8> {
    let encoded = encoding.encode(&[&vec![0; offset], secret].concat()).into_bytes();
    let first = (offset * 8).div_ceil(6);
    let end = (offset + secret.len()) * 8 / 6;
    encoded[first..end].to_vec()
}
