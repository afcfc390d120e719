//! Recent logins that still count (FB-03, V-50 to V-52).
//!
//! What must be the same again is in the key: user, client, the rules in force, when the directory says that the password was changed,
//! and what the client's rule names beside them. It is a keyed digest over fields with their lengths, never the fields themselves (V-32).

use super::Login;
use crate::Service;
use crate::attempt::line;
use crate::commit::{Committed, Granted, Proven};
use crate::outcome;
use domain::settings::RememberKind;
use policy::{Grant, Plan, RememberedCheck};
use proto::user_store::RememberLogin;
use proto::verification::outcome::Result as Said;
use std::collections::BTreeSet;
use tonic::Status;

impl Service {
    /// What this login is remembered by. `None`: the client remembers none, or something that its rule names is not known.
    pub(crate) fn remember_key(&self, login: &Login, plan: &Plan) -> Option<Vec<u8>> {
        let rule = login.rules.client.remember.as_ref()?;
        let (source, digest) = (login.origin().source(), &login.attempt.password_digest[..]);
        let (source, digest): (&[u8], &[u8]) = match rule.kind {
            RememberKind::User => (b"", b""),
            RememberKind::UserSource => (source.as_bytes(), b""),
            RememberKind::UserSourcePassword => (source.as_bytes(), digest),
        };
        let known = match rule.kind {
            RememberKind::User => true,
            RememberKind::UserSource => !source.is_empty(),
            RememberKind::UserSourcePassword => !source.is_empty() && !digest.is_empty(),
        };
        let kind: &[u8] = match rule.kind {
            RememberKind::User => b"user",
            RememberKind::UserSource => b"user_source",
            RememberKind::UserSourcePassword => b"user_source_password",
        };
        let keys = &self.remember_keys;
        let epoch = login.user.record.epoch.to_be_bytes();
        // A login that was remembered by another rule is another one.
        let (idle, life) = (rule.idle_seconds.to_be_bytes(), rule.life_seconds.to_be_bytes());
        let methods: BTreeSet<&str> = rule.methods.iter().map(|method| method.code()).collect();
        let methods = methods.into_iter().collect::<Vec<_>>().join(",");
        let fields: &[&[u8]] = &[
            kind,
            login.user.id.as_bytes(),
            login.origin().client.as_bytes(),
            plan.in_force.as_bytes(),
            &epoch,
            &idle,
            &life,
            methods.as_bytes(),
            source,
            digest,
            // Also where the rule names no password: whoever has another one begins anew. Empty where the directory does not say.
            login.attempt.password_stamp.as_bytes(),
        ];
        known.then(|| keys.digest(keys.current()?, fields)).flatten()
    }

    /// Lets in by a recent login, if the store has one. `None`: it has none.
    pub(crate) async fn remembered(&self, login: &Login, check: RememberedCheck) -> Result<Option<Said>, Status> {
        if login.remember_key.is_empty() {
            return Ok(None);
        }
        let grant = check.right(self.clock.now_ms());
        let proven = Proven { remembered_key: login.remember_key.clone(), ..Proven::default() };
        let granted = Granted { proven, ..Granted::by_rule(&grant) };
        Ok(match self.committer.allow(login.origin(), &login.user.id, granted, login.budget).await? {
            Committed::Allowed => Some(outcome::allow(login.origin(), &login.user.id, &grant)),
            Committed::Refused(_) => None,
        })
    }

    /// What the store keeps of a success: of a person's own factor, now, by a method that the rule names (V-50).
    pub(crate) fn remembering(&self, login: &Login, grant: &Grant) -> Option<RememberLogin> {
        let rule = login.rules.client.remember.as_ref()?;
        let method = grant.method()?;
        let counts = rule.methods.is_empty() || rule.methods.contains(&method);
        let remembers = grant.is_live() && counts && !login.remember_key.is_empty();
        remembers.then(|| RememberLogin {
            key: login.remember_key.clone(),
            place: line(login.origin().source(), 64),
            idle_seconds: rule.idle_seconds,
            life_seconds: rule.life_seconds,
            epoch: login.user.record.epoch,
        })
    }
}
