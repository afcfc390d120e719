//! The NATS server's configuration: mutual TLS, and one NKey user for each part with an allow-list made from
//! `proto::bus_permissions` (V-71, V-72).

use super::files::{Files, SECRET};
use crate::failure::Failure;
use nkeys::KeyPair;
use proto::bus_permissions::Grants;
use std::{fmt::Write, path::Path};

/// The seed of the part's user, in a file of its own; the public half for the server.
pub fn user(path: &Path, files: &mut Files) -> Result<String, Failure> {
    let broken =
        |error: nkeys::error::Error| Failure::wrong_use(format!("{}: not an NKey seed: {error}", path.display()));
    let seed = files.once(path, SECRET, || KeyPair::new_user().seed().map_err(broken))?;
    Ok(KeyPair::from_seed(seed.trim()).map_err(broken)?.public_key())
}

/// `users`: part and public key.
pub fn server(users: &[(&str, String)], secrets: &str) -> String {
    let mut text = format!(
        "# The NATS server of Twinlock, made by `twinlock init --distributed`. Users are allowed what stands here and
# nothing else. WebSocket, MQTT and leaf nodes stay off; so does every user without a key.
listen: \"0.0.0.0:4222\"
http: \"127.0.0.1:8222\"
max_payload: 262144

jetstream {{
  store_dir: \"/data\"
  max_memory_store: 512MB
  max_file_store: 512MB
}}

tls {{
  cert_file: \"{secrets}/tls.crt\"
  key_file: \"{secrets}/tls.key\"
  ca_file: \"{secrets}/ca.crt\"
  verify: true
  timeout: 5
}}

authorization {{
  timeout: 5
  users: [
"
    );
    for (part, key) in users {
        let grants = Grants::of(part);
        write!(
            text,
            "    # {part}
    {{
      nkey: {key}
      permissions: {{
        publish: {{ allow: [{}] }}
        subscribe: {{ allow: [{}] }}
      }}
    }}
",
            list(&grants.publish),
            list(&grants.subscribe)
        )
        .expect("writing to a string");
    }
    text + "  ]\n}\n"
}

/// A user without a list may do everything: an empty one is written as a subject nobody uses.
fn list(subjects: &[String]) -> String {
    if subjects.is_empty() {
        return "\"nothing\"".into();
    }
    subjects.iter().map(|subject| format!("\n          \"{subject}\"")).collect::<String>() + "\n        "
}
