//! The merged values with their origins, and the reader that turns them into a typed configuration. It is a reader of its own
//! because an error must know where a value was written, and because text from the environment has no type until it is read.
//! The `config` crate was tried: it turns `"yes"` and 2 into true, and forgets which words an enum allows.

use super::{ConfigError, Origin, Sources};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The newest form of the file that this program knows.
const VERSION: i64 = 1;

pub(super) fn load<T: DeserializeOwned>(sources: &Sources) -> Result<T, ConfigError> {
    let mut root = match &sources.file {
        Some(path) => read(path)?,
        None => Node { origin: Origin::Default, value: Value::Table(BTreeMap::new()) },
    };
    check_version(&mut root)?;
    for (variable, value) in &sources.environment {
        // A single underscore belongs to other uses (TWINLOCK_CONFIG, a container platform's service variables).
        if let Some(path) = variable.strip_prefix("TWINLOCK_").filter(|path| path.contains("__")) {
            let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            root.put(&path, value, &Origin::Environment { variable: variable.clone() })?;
        }
    }
    for (key, value) in &sources.overrides {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        root.put(&path, value, &Origin::CommandLine)?;
    }
    let origin = root.origin.clone();
    T::deserialize(Reader(root)).map_err(|fault| ConfigError::Key {
        origin: fault.origin.unwrap_or(origin),
        key: fault.path.join("."),
        problem: fault.problem,
    })
}

fn check_version(root: &mut Node) -> Result<(), ConfigError> {
    let Value::Table(table) = &mut root.value else { return Ok(()) };
    let Some(node) = table.remove("version") else { return Ok(()) };
    match node.value {
        Value::Integer(1..=VERSION) => Ok(()),
        ref value => Err(ConfigError::Key {
            problem: format!(
                "found {}; allowed: a whole number up to {VERSION}; a newer file needs a newer program",
                value.unexpected()
            ),
            origin: node.origin,
            key: "version".to_owned(),
        }),
    }
}

struct Node {
    origin: Origin,
    value: Value,
}

enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    String(String),
    /// From the environment or the command line: its reader decides what it is.
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    /// Writes a text over what was there. A path through something that is no table is a mistake in the path.
    fn put(&mut self, path: &[String], text: &str, origin: &Origin) -> Result<(), ConfigError> {
        let mut node = self;
        for (depth, name) in path.iter().enumerate() {
            let Value::Table(table) = &mut node.value else {
                let problem = format!("{} holds a value, not a section", path[..depth].join("."));
                return Err(ConfigError::Key { origin: origin.clone(), key: path.join("."), problem });
            };
            let fresh = || Node { origin: origin.clone(), value: Value::Table(BTreeMap::new()) };
            node = table.entry(name.clone()).or_insert_with(fresh);
        }
        *node = Node { origin: origin.clone(), value: Value::Text(text.to_owned()) };
        Ok(())
    }
}

// ---- the file

fn read(path: &Path) -> Result<Node, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::File { path: path.to_owned(), cause })?;
    let file = File { path, text: &text };
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: file.line(error.span().map_or(0, |span| span.start)),
        found: error.message().to_owned(),
    })?;
    Ok(Node { origin: file.origin(0), value: file.table(table.into_inner()) })
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|octet| *octet == b'\n').count()
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line: self.line(offset) }
    }

    fn table(&self, table: DeTable<'_>) -> Value {
        let node = |(key, value): (toml::Spanned<_>, toml::Spanned<DeValue<'_>>)| {
            let origin = self.origin(key.span().start);
            let key: toml::de::DeString<'_> = key.into_inner();
            (key.into_owned(), Node { origin, value: self.value(value.into_inner()) })
        };
        Value::Table(table.into_iter().map(node).collect())
    }

    fn value(&self, value: DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => Value::Integer(value),
                Err(_) => Value::String(number.as_str().to_owned()),
            },
            DeValue::Float(number) => number.as_str().parse().map_or(Value::String(number.to_string()), Value::Float),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(list) => {
                let node = |item: toml::Spanned<DeValue<'_>>| Node {
                    origin: self.origin(item.span().start),
                    value: self.value(item.into_inner()),
                };
                Value::List(list.into_iter().map(node).collect())
            }
            DeValue::Table(table) => self.table(table),
        }
    }
}

// ---- the typed reading

struct Reader(Node);

/// What is wrong, on its way up to whoever knows where it stands.
#[derive(Debug)]
struct Fault {
    origin: Option<Origin>,
    path: Vec<String>,
    problem: String,
}

impl Fault {
    fn at(mut self, name: String, origin: &Origin) -> Self {
        self.path.insert(0, name);
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    /// The standard library's address types only say that they did not understand.
    fn about(mut self, text: &str) -> Self {
        let allowed = match self.problem.as_str() {
            "invalid socket address syntax" => {
                "an IP address and a port up to 65535, such as 127.0.0.1:9090 or [::]:9090"
            }
            "invalid IP address syntax" => "an IP address",
            _ => return self,
        };
        self.problem = format!("found {}; allowed: {allowed}", Unexpected::Str(&shortened(text)));
        self
    }
}

impl Value {
    fn unexpected(&self) -> String {
        match self {
            Self::Boolean(value) => Unexpected::Bool(*value).to_string(),
            Self::Integer(value) => Unexpected::Signed(*value).to_string(),
            Self::Float(value) => Unexpected::Float(*value).to_string(),
            Self::String(text) | Self::Text(text) => Unexpected::Str(&shortened(text)).to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a section".to_owned(),
        }
    }
}

macro_rules! read_number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self.0.value {
                Value::Text(text) => match text.trim().parse::<i64>() {
                    Ok(number) => visitor.visit_i64(number),
                    Err(_) => Err(de::Error::invalid_type(Unexpected::Str(&shortened(text)), &visitor)),
                },
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Integer(value) => visitor.visit_i64(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::String(text) | Value::Text(text) => {
                visitor.visit_str(&text).map_err(|fault: Fault| fault.about(&text))
            }
            Value::List(list) => visitor.visit_seq(Items { items: list.into_iter(), index: 0 }),
            Value::Table(table) => visitor.visit_map(Keys { keys: table.into_iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Text(text) => match text.trim().parse() {
                Ok(value) => visitor.visit_bool(value),
                Err(_) => Err(de::Error::invalid_type(Unexpected::Str(&shortened(text)), &"true or false")),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    read_number! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        if let Value::Text(text) = &self.0.value {
            let origin = &self.0.origin;
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let node = |item: &str| Node { origin: origin.clone(), value: Value::Text(item.to_owned()) };
            self.0.value = Value::List(items.map(node).collect());
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::String(text) | Value::Text(text) => visitor.visit_enum(text.into_deserializer()),
            other => Err(de::Error::custom(format!("found {}; allowed: a word", other.unexpected()))),
        }
    }

    /// A derived struct would take a list, too, and fill its fields by position.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::List(_) => Err(de::Error::custom("found a list; allowed: a section")),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

struct Items {
    items: std::vec::IntoIter<Node>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let (index, origin) = (self.index, node.origin.clone());
        self.index += 1;
        seed.deserialize(Reader(node)).map(Some).map_err(|fault| fault.at(index.to_string(), &origin))
    }
}

struct Keys {
    keys: std::collections::btree_map::IntoIter<String, Node>,
    value: Option<(String, Node)>,
}

impl<'de> de::MapAccess<'de> for Keys {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((key, node)) = self.keys.next() else { return Ok(None) };
        // An unknown key is refused here, by the reader of the name.
        let read = seed.deserialize(key.as_str().into_deserializer());
        let read = read.map_err(|fault: Fault| fault.at(key.clone(), &node.origin));
        self.value = Some((key, node));
        read.map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (key, node) = self.value.take().expect("serde asks for a value after its key");
        let origin = node.origin.clone();
        seed.deserialize(Reader(node)).map_err(|fault| fault.at(key, &origin))
    }
}

impl de::Error for Fault {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { origin: None, path: Vec::new(), problem: message.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        let allowed = match expected.as_str() {
            "u8" => "a whole number from 0 to 255",
            "u16" => "a whole number from 0 to 65535",
            "u32" => "a whole number from 0 to 4294967295",
            "u64" | "usize" => "a whole number from 0",
            "a sequence" => "a list",
            "socket address" => "an IP address and a port up to 65535, such as 127.0.0.1:9090 or [::]:9090",
            other if other.starts_with("struct ") => "a section",
            other => other,
        };
        Self::custom(format!("found {found}; allowed: {allowed}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("found `{}`; {}", shortened(variant), known(variant, expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("unknown key; {}", known(field, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: vec![field.to_owned()], ..Self::custom("missing; a value is required") }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.problem)
    }
}

impl std::error::Error for Fault {}

/// What is allowed and, where a slip of the pen is likely, what was probably meant.
fn known(found: &str, names: &[&str]) -> String {
    let distance = |name: &&&str| strsim::damerau_levenshtein(found, name);
    let nearest = names.iter().min_by_key(distance).filter(|name| distance(name) <= 1 + name.len() / 3);
    let nearest = nearest.map(|name| format!("; nearest known name: {name}"));
    format!("allowed: {}{}", names.join(", "), nearest.unwrap_or_default())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
