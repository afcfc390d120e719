//! What verification is told of a bind beside the name: the word after the password, the person's address, and what stands for the
//! password.

use crate::support::{Lab, Wanted, client, comparable};
use anyhow::Result;
use domain::settings::{Appended, AppendedForm, Client, PersonAddress, Remember};
use lab::password_of;

const ANN: &str = "ann.archer";

fn words() -> Client {
    let remember: Remember = serde_json::from_value(serde_json::json!({})).expect("all keys have defaults");
    Client { appended_keywords: true, remember: Some(remember), ..client("gitlab") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_after_the_password_chooses_the_method_and_costs_one_bind() -> Result<()> {
    // L-50, L-51, L-52 (a), B-62, FL-13
    let lab = Lab::start(Wanted { client: words(), ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    // Typed behind the password; wanted, where it reaches verification; binds.
    for (word, wanted, binds) in [
        (",push", Some("push"), 1),
        (",PUSH ", Some("push"), 1),
        (",auto", Some(""), 1),
        (",sms", None, 0),
        ("", None, 0),
    ] {
        let before = (lab.client_binds(), lab.gateway.verification.attempts().len());
        let code = lab.connect().await?.bind(ANN, &format!("{}{word}", password_of(ANN))).await?;
        assert_eq!((code, lab.client_binds() - before.0), (49, binds), "{word}");
        let begun = lab.gateway.verification.attempts().split_off(before.1);
        let begun: Vec<&str> = begun.iter().map(|(_, wanted)| wanted.as_str()).collect();
        assert_eq!(begun, wanted.into_iter().collect::<Vec<_>>(), "{word}");
    }
    assert_eq!(lab.connect().await?.bind(ANN, ",push").await?, 49);
    lab.gateway.change_settings(|it| it.clients[0].appended_keywords = false).await?;
    let before = lab.client_binds();
    assert_eq!(lab.connect().await?.bind(ANN, &format!("{},push", password_of(ANN))).await?, 49);
    assert_eq!(lab.client_binds(), before, "a code is demanded, and a word is none");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_is_told_where_the_person_comes_from_and_what_stands_for_the_password() -> Result<()> {
    // V-32, V-54
    let lab = Lab::start(Wanted { client: words(), ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let told = async || -> Result<proto::verification::Attempt> {
        lab.connect().await?.bind(ANN, &format!("{},999999", password_of(ANN))).await?;
        Ok(lab.gateway.verification.attempts().pop().expect("it was asked").0)
    };
    let mut first = told().await?;
    // The key comes beside the settings, and a login does not wait for it.
    while first.password_digest.is_empty() {
        first = told().await?;
    }
    assert_eq!((first.person_ip.as_str(), first.password_digest.len()), ("127.0.0.1", 32));
    assert_eq!(told().await?.password_digest, first.password_digest);
    lab.gateway
        .change_settings(|it| {
            it.clients[0].person_address = PersonAddress::CallingStationId;
            it.clients[0].remember = None;
        })
        .await?;
    let other = told().await?;
    assert_eq!(
        (other.person_ip.as_str(), other.password_digest.len()),
        ("", 0),
        "nothing to read, nothing to remember"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_needs_no_code_types_the_password_alone_where_one_is_demanded() -> Result<()> {
    // FV-28, FV-42, V-54: one bind with all that was typed; verification decides, and the answer to a wrong password is the same
    let lab = Lab::start(Wanted::default()).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let refused = lab.connect().await?.bind_answer(ANN, &password_of(ANN)).await?;
    assert_eq!((lab.client_binds(), lab.gateway.verification.attempts().len()), (0, 0));
    lab.gateway.verification.needs_no_code_from("127.0.0.1");
    let wrong = lab.connect().await?.bind_answer(ANN, "wrong").await?;
    assert_eq!(comparable(&wrong), comparable(&refused));
    assert_eq!((lab.client_binds(), lab.gateway.verification.attempts().len()), (1, 0));
    // The fake lets nobody in without a code.
    assert_eq!(lab.connect().await?.bind(ANN, &password_of(ANN)).await?, 49);
    assert_eq!((lab.client_binds(), lab.gateway.verification.attempts().len()), (2, 1));
    assert_eq!(
        lab.connect().await?.bind(ANN, &format!("{},111111", password_of(ANN))).await?,
        0,
        "a code still counts"
    );
    // From elsewhere one is needed.
    lab.gateway.verification.needs_no_code_from("203.0.113.9");
    assert_eq!(lab.connect().await?.bind(ANN, &password_of(ANN)).await?, 49);
    assert_eq!(lab.client_binds(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_password_looks_like_a_code_behind_it_costs_one_bind_at_most() -> Result<()> {
    // L-50, L-52, L-55, B-62
    let lab = Lab::start(Wanted::default()).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333", "444444", "555555", "666666"]);
    let comma = AppendedForm::Separator { sign: ',' };
    let (demanded, optional) = (Appended::Required, Appended::Optional);
    // Form and rule; the password at the directory; what is typed; the answer, and binds. The fake lets nobody in without a code.
    for (form, appended, password, typed, answer, binds) in [
        (AppendedForm::LastDigits, demanded, "winter-2024", "winter-2024111111", 0, 1),
        (AppendedForm::LastDigits, demanded, "Sesame778899", "Sesame778899", 49, 1),
        (AppendedForm::LastDigits, demanded, "Sesame778899", "Sesame778899222222", 0, 1),
        (AppendedForm::LastDigits, demanded, "123456", "123456", 49, 0),
        (AppendedForm::LastDigits, optional, "Sesame778899", "Sesame778899", 49, 1),
        (AppendedForm::LastDigits, optional, "Sesame778899", "Sesame778899333333", 0, 1),
        (comma, demanded, "p,123456", "p,123456", 49, 1),
        (comma, demanded, "p,123456", "p,123456,444444", 0, 1),
        (comma, demanded, "p,", "p,,555555", 0, 1),
        (comma, demanded, "p,push", "p,push", 49, 0),
        (comma, demanded, "p", "p,PUSH ", 49, 0),
        (comma, demanded, "q", "q,１２３４５６", 49, 1),
        (comma, demanded, "123456", ",123456", 49, 0),
        (comma, demanded, "123456", "123456", 49, 0),
        (comma, optional, "p,123456", "p,123456", 49, 1),
        (comma, optional, "p,push", "p,push", 49, 1),
        (comma, optional, "p,123456", "p,123456,666666", 0, 1),
    ] {
        let dn = lab.person(ANN);
        let change = format!("dn: {dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: {password}\n");
        lab.slapd.modify(&change)?;
        lab.gateway
            .change_settings(|it| (it.clients[0].appended_form, it.clients[0].appended) = (form, appended))
            .await?;
        let before = lab.client_binds();
        let code = lab.connect().await?.bind(ANN, typed).await?;
        assert_eq!((code, lab.client_binds() - before), (answer, binds), "{form:?} {appended:?} {password}: {typed}");
    }
    Ok(())
}
