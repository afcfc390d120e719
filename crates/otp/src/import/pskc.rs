//! `pskc`: Portable Symmetric Key Container (RFC 6030), in clear, under a pre-shared key or under a password.
//!
//! ```text
//! XML (no DTD) -> KeyContainer -> EncryptionKey, MACMethod -> a Key each: MAC, decrypt, algorithm, policy -> Token
//! ```
//!
//! Elements are known by their local names: files of before the RFC, and of makers who read it in a hurry, have other namespaces.
//! The hash comes from `Suite`, else it is SHA-1; never from the length of the seed.

mod cipher;
mod policy;

use super::{FileError, Kind, Opening, Parts, Row, RowError, Token, push, values};
use cipher::Keys;
use domain::{CodeAlgorithm, Secret};
use roxmltree::{Document, Node, ParsingOptions};

/// A key of the richest kind has some forty, with the white space between them.
const NODES_MAX: u32 = 4_000_000;

pub fn read(text: &str, opening: Opening<'_>, now_unix_ms: i64) -> Result<Vec<Row<Token>>, FileError> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| {
        let position = error.pos();
        FileError::Xml { line: position.row, column: position.col }
    })?;
    let container = document.root_element();
    let version = container.attribute("Version").unwrap_or("1.0");
    if container.tag_name().name() != "KeyContainer" || !matches!(version, "1" | "1.0") {
        return Err(FileError::NotPskc);
    }
    let keys = Keys::of(container, opening)?;
    let mut rows = Vec::new();
    for package in children(container, "KeyPackage") {
        let device = child(package, "DeviceInfo");
        for key in children(package, "Key") {
            // The PIN that a token asks for itself is no token (RFC 6030, figure 5).
            if algorithm_name(key) == "pin" {
                continue;
            }
            let row = u32::try_from(rows.len() + 1).unwrap_or(u32::MAX);
            let name = values::shown(serial(device, key));
            push(&mut rows, Row { row, name, content: token(device, key, &keys, now_unix_ms) })?;
        }
    }
    Ok(rows)
}

fn token(device: Option<Node<'_, '_>>, key: Node<'_, '_>, keys: &Keys, now_unix_ms: i64) -> Result<Token, RowError> {
    let kind = match algorithm_name(key).as_str() {
        "hotp" => Kind::Hotp,
        "totp" => Kind::Totp,
        _ => return Err(RowError::Kind),
    };
    policy::allows(key, now_unix_ms)?;
    let parameters = child(key, "AlgorithmParameters");
    let format = parameters.and_then(|parameters| child(parameters, "ResponseFormat"));
    if format.and_then(|format| format.attribute("Encoding")).is_some_and(|encoding| encoding != "DECIMAL") {
        return Err(RowError::NotDecimal);
    }
    let suite = parameters.and_then(|parameters| child(parameters, "Suite")).map_or("", text);
    let data = child(key, "Data").ok_or(RowError::Missing("the secret"))?;
    let number = |what: &'static str, otherwise| integer(data, what, keys, otherwise);
    let of_device = |name| device.and_then(|device| child(device, name)).map_or("", text);
    Parts {
        serial: serial(device, key),
        seed: secret(data, keys)?,
        kind,
        algorithm: hash(suite)?,
        digits: values::number(
            "the number of digits",
            format.and_then(|format| format.attribute("Length")).unwrap_or_default(),
            6,
        )?,
        period_seconds: match kind {
            Kind::Totp => u32::try_from(number("TimeInterval", 30)?).map_err(|_| RowError::Number("TimeInterval"))?,
            Kind::Hotp => 0,
        },
        counter: if kind == Kind::Hotp { number("Counter", 0)? } else { 0 },
        username: child(key, "UserId").map_or("", text),
        manufacturer: of_device("Manufacturer"),
        model: of_device("Model"),
    }
    .token()
}

/// `hotp` of `urn:ietf:params:xml:ns:keyprov:pskc:hotp`, of `...pskc#hotp` as drafts had it, and of a bare `hotp`.
fn algorithm_name(key: Node<'_, '_>) -> String {
    let identifier = key.attribute("Algorithm").unwrap_or_default().trim();
    identifier.rsplit([':', '#']).next().unwrap_or_default().to_ascii_lowercase()
}

/// What is printed on the token; where the file does not say, the key's own name.
fn serial<'a>(device: Option<Node<'a, '_>>, key: Node<'a, '_>) -> &'a str {
    let printed = device.and_then(|device| child(device, "SerialNo")).map_or("", text);
    if printed.trim().is_empty() { key.attribute("Id").unwrap_or_default() } else { printed }
}

/// RFC 6030 section 4.3.4: what a suite is called, it leaves to the algorithm. Makers write the hash, or a name that holds it.
fn hash(suite: &str) -> Result<CodeAlgorithm, RowError> {
    values::algorithm(suite.rsplit([':', '#', '/']).next().unwrap_or_default())
}

fn secret(data: Node<'_, '_>, keys: &Keys) -> Result<Secret, RowError> {
    let secret = child(data, "Secret").ok_or(RowError::Missing("the secret"))?;
    match (child(secret, "PlainValue"), child(secret, "EncryptedValue")) {
        (Some(plain), _) => values::base64(text(plain)),
        (None, Some(encrypted)) => keys.open(encrypted, child(secret, "ValueMAC")),
        (None, None) => Err(RowError::Missing("the secret")),
    }
}

/// Plain digits; encrypted, it is the number's octets, the most significant first (RFC 6030 section 6.1).
fn integer(data: Node<'_, '_>, what: &'static str, keys: &Keys, otherwise: u64) -> Result<u64, RowError> {
    let Some(value) = child(data, what) else { return Ok(otherwise) };
    match (child(value, "PlainValue"), child(value, "EncryptedValue")) {
        (Some(plain), _) => values::number(what, text(plain), otherwise),
        (None, Some(encrypted)) => {
            let opened = keys.open(encrypted, child(value, "ValueMAC"))?;
            match opened.expose() {
                octets if octets.len() <= 8 => {
                    Ok(octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
                }
                _ => Err(RowError::Number(what)),
            }
        }
        (None, None) => Ok(otherwise),
    }
}

fn children<'a, 'd: 'a>(node: Node<'a, 'd>, name: &'static str) -> impl Iterator<Item = Node<'a, 'd>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

fn child<'a, 'd: 'a>(node: Node<'a, 'd>, name: &'static str) -> Option<Node<'a, 'd>> {
    children(node, name).next()
}

/// The first piece of text; a comment in the middle of a value would be one to wonder about.
fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default()
}
