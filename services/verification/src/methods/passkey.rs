//! A passkey, with user verification: the portal's sign-in alone (FV-08).

use crate::Service;
use crate::challenges::Round;
use crate::commit::{Ending, Proven};
use crate::login::{Answered, Login, Step};
use crate::methods::prompt::no_randomness;
use crate::outcome::Previous;
use crate::webauthn::{Credential, Refused, RelyingParty, request_options, verify_assertion};
use domain::{Method, Reason, Secret};
use policy::{Plan, Proof};
use proto::user_store::{Passkey, PasskeyCount};
use tonic::Status;

const CHALLENGE_BYTES: usize = 32;

impl Service {
    pub(crate) async fn ask_passkey(&self, login: &mut Login) -> Result<Step, Status> {
        let (_, credentials) = passkeys(login);
        let Some(party) = RelyingParty::of(&login.rules.known.portal_url).filter(|_| !credentials.is_empty()) else {
            return Ok(Step::Failed(Ending::of(Reason::Unreachable, Method::Passkey)));
        };
        let mut challenge = vec![0; CHALLENGE_BYTES];
        (self.randomness)(&mut challenge).map_err(no_randomness)?;
        let round_ms = login.rules.limits.round_ms;
        let options_json =
            request_options(&party, Some(&challenge), &credentials, u32::try_from(round_ms).unwrap_or(u32::MAX));
        let round = Round::Passkey { challenge, options_json };
        self.ask(login, round, round_ms, Previous::default()).await
    }

    pub(crate) async fn hear_passkey(
        &self,
        login: &Login,
        plan: &Plan,
        challenge: Vec<u8>,
        options_json: String,
        answer: &Secret,
    ) -> Result<Answered, Status> {
        let (kept, credentials) = passkeys(login);
        let party = RelyingParty::of(&login.rules.known.portal_url);
        let check = match plan.way(Method::Passkey).map(|way| &way.proof) {
            Some(Proof::Passkey(check)) => check.clone(),
            _ => return Ok(Answered::Step(Step::Over(Ending::of(Reason::NoUsableMethod, Method::Passkey)))),
        };
        let json = answer.expose_str().unwrap_or_default();
        let verified = party.map(|party| verify_assertion(&party, &challenge, &credentials, json));
        let Some(Ok(assertion)) = verified else {
            if let Some(Err(error)) = verified {
                tracing::info!(error = %error, request_id = %login.origin().transaction, "an assertion was refused");
                // The key may have been copied: the attempt ends, and the audit tells of it.
                if error == Refused::Counter {
                    return Ok(Answered::Step(Step::Over(Ending::of(Reason::WrongCode, Method::Passkey))));
                }
            }
            return Ok(Answered::Again(Round::Passkey { challenge, options_json }, Reason::WrongCode));
        };
        let used = kept[assertion.place];
        let counted = credentials[assertion.place].sign_count() != assertion.credential.sign_count();
        // As it stands in the store, octet by octet.
        let passkey_count = counted.then(|| PasskeyCount {
            before_json: used.credential_json.clone(),
            after_json: assertion.credential.to_json(),
        });
        let proven = Proven { passkey_id: used.passkey_id.clone(), passkey_count, ..Proven::default() };
        self.let_in(login, check.right(self.clock.now_ms()), proven).await.map(Answered::Step)
    }
}

/// The passkeys that can be read, as the store keeps them and as they read.
fn passkeys(login: &Login) -> (Vec<&Passkey>, Vec<Credential>) {
    let passkeys = login.user.passkeys.iter();
    passkeys.filter_map(|passkey| Some((passkey, Credential::from_json(&passkey.credential_json)?))).unzip()
}
