//! Apps that speak the protocol of the privacyIDEA Authenticator: they ask, nobody wakes them
//! (docs/operating/authenticator-push.md). What they will be shown is made and signed here, once.

use crate::budget::Budget;
use crate::phone::pi::challenge::{self, Asked, Shown};
use crate::phone::pi::keys::ServerKey;
use catalogue::Catalogue;
use domain::{Language, Secret};
use proto::user_store::{Prompt, PushDevice, UpdatePromptRequest};
use std::sync::LazyLock;
use uuid::Uuid;

/// Others write to the same record: a user's other devices.
const TRIES: usize = 8;

static TEXTS: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../../../texts/en/pi.ftl")),
        ("de", include_str!("../../../texts/de/pi.ftl")),
    ])
});

/// Makes the prompt ready to be asked for. `true`: this device will find it.
pub async fn offer(shared: &super::Shared, prompt: &Prompt, device: &PushDevice) -> bool {
    // The app cannot ask for a PIN of ours.
    if prompt.pin_asked {
        return false;
    }
    let Some(shown) = sign(shared, prompt, device).await else {
        tracing::error!(
            prompt = prompt.prompt_id,
            device = device.device_id,
            "a prompt could not be signed for a token"
        );
        return false;
    };
    let budget = Budget::usual();
    let mut prompt = prompt.clone();
    for _ in 0..TRIES {
        if challenge::shown(&prompt, &device.device_id).is_some() {
            return true;
        }
        let update = UpdatePromptRequest {
            prompt_id: prompt.prompt_id.clone(),
            expected_revision: prompt.revision,
            state_json: challenge::with_shown(&prompt, &device.device_id, &shown),
        };
        match budget.ask("update prompt", update, |request| shared.commit.update_prompt(request)).await {
            Ok(reply) if reply.updated => return true,
            // As somebody else left it.
            Ok(reply) => match reply.prompt {
                Some(now) if now.outcome.is_empty() => prompt = now,
                _ => return false,
            },
            Err(_) => return false,
        }
    }
    false
}

async fn sign(shared: &super::Shared, prompt: &Prompt, device: &PushDevice) -> Option<Shown> {
    let known = shared.settings.known().ok()?;
    let prompt_id = Uuid::parse_str(&prompt.prompt_id).ok()?;
    let url = challenge::endpoint(&known.portal_url)?;
    let mut random = [0; 24];
    (shared.randomness)(&mut random).ok()?;
    let title = known.settings.portal.company.clone();
    let language = Language::new(&prompt.language).unwrap_or_else(|_| known.settings.verification.language.clone());
    let question = question(prompt, &language);
    let (serial, number) = (device.serial.clone(), prompt.number.clone());
    let key: Secret = device.server_key.clone()?.into();
    // Some milliseconds of arithmetic.
    let signed = tokio::task::spawn_blocking(move || {
        let key = ServerKey::from_pkcs8(key.expose()).ok()?;
        let asked = Asked {
            prompt_id,
            url: &url,
            serial: &serial,
            title: &title,
            question: &question,
            number: &number,
            random,
        };
        asked.sign(&key).ok()
    });
    signed.await.ok().flatten()
}

fn question(prompt: &Prompt, language: &Language) -> String {
    let key = match (prompt.device_id.is_empty(), prompt.place.is_empty()) {
        (false, _) => "pi-activation",
        (true, true) => "pi-question",
        (true, false) => "pi-question-place",
    };
    let variables = [
        ("application", prompt.application.as_str()),
        ("username", prompt.username.as_str()),
        ("place", prompt.place.as_str()),
    ];
    TEXTS.text(language, key, &variables).expect("the key ships: a test asks for each")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_who_signs_in_where_and_from_where() {
        // FM-08
        assert_eq!(TEXTS.gaps(), Vec::<String>::new());
        let prompt = |place: &str, device_id: &str| Prompt {
            application: "VPN".into(),
            username: "ann".into(),
            place: place.into(),
            device_id: device_id.into(),
            ..Prompt::default()
        };
        let english = Language::english();
        assert_eq!(question(&prompt("203.0.113.9", ""), &english), "Sign in to VPN as ann from 203.0.113.9?");
        assert_eq!(question(&prompt("", ""), &english), "Sign in to VPN as ann?");
        assert!(question(&prompt("", "d1"), &Language::new("de").expect("valid")).contains("Telefon"));
    }
}
