//! Passkeys for signing in to the portal (FV-08).

use crate::phone::{Passkey, settings};
use crate::prompts::{USER, World};
use proto::verification::enrolment_server::Enrolment;
use proto::verification::{ConfirmPasskeyRequest, ConfirmReply, StartPasskeyReply, StartPasskeyRequest};
use serde_json::Value;
use tonic::Request;
use verification::Service;

async fn start(node: &Service) -> StartPasskeyReply {
    let request = StartPasskeyRequest { user_id: USER.into(), actor: "self".into() };
    node.start_passkey(Request::new(request)).await.expect("answered").into_inner()
}

async fn confirm(node: &Service, passkey_id: &str, credential: &Value) -> ConfirmReply {
    let request = ConfirmPasskeyRequest {
        user_id: USER.into(),
        passkey_id: passkey_id.into(),
        name: "Laptop".into(),
        credential_json: credential.to_string(),
        actor: "self".into(),
    };
    node.confirm_passkey(Request::new(request)).await.expect("answered").into_inner()
}

#[tokio::test]
async fn a_passkey_is_kept_that_was_made_for_this_ceremony_in_time() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let started = start(&node).await;
    let made = Passkey::new(1).create(&started.options_json);
    assert!(confirm(&node, &started.passkey_id, &made).await.confirmed);
    let kept = world.store.lock().passkeys[0].clone();
    assert_eq!(kept.name, "Laptop");
    assert!(kept.credential_json.contains("public_key"));
    // An authenticator that holds it makes no second one.
    let second = start(&node).await;
    let options: Value = serde_json::from_str(&second.options_json).expect("JSON");
    assert_eq!(options["excludeCredentials"][0]["id"], made["id"]);
    // Of the first ceremony, for the second passkey.
    let refused = confirm(&node, &second.passkey_id, &made).await;
    assert_eq!((refused.confirmed, refused.reason.as_str()), (false, "challenge_gone"));
    let late = Passkey::new(2).create(&second.options_json);
    world.clock.advance(301_000);
    assert!(!confirm(&node, &second.passkey_id, &late).await.confirmed);
}
