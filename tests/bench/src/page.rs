//! The page that the figures are shown on.

use anyhow::{Context, Result};
use std::{fs, io::Write as _, path::Path};

/// Into the page, or onto stdout where there is none.
pub fn show(page: Option<&Path>, name: &str, table: &str) -> Result<()> {
    match page {
        Some(page) => splice(page, name, table),
        None => Ok(writeln!(std::io::stdout(), "{table}")?),
    }
}

/// Puts a table between the two marks that the page has for it.
pub fn splice(page: &Path, name: &str, table: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let missing = || format!("{} has no mark {begin:?} or {end:?}", page.display());
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(fs::write(page, format!("{before}{begin}{table}{end}{after}"))?)
}
