//! Against a real domain controller. What a broken helper says is played by a script.

use super::*;
use futures::future::join_all;
use lab::{Pki, Samba, password_of};
use radius_wire::ms_chap::{Client, PasswordHash};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

struct Domain {
    samba: Samba,
    winbind: Winbind,
    dir: TempDir,
}

fn domain() -> Domain {
    let dir = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(&dir.path().join("tls")).expect("certificates");
    let samba = Samba::start(dir.path(), &pki).expect("Samba starts");
    samba.wrapped("wbinfo").expect("wbinfo is there");
    let winbind = Winbind::new(samba.wrapped("ntlm_auth").expect("ntlm_auth is there"), None);
    Domain { samba, winbind, dir }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// The outcome in one word.
fn word<T>(outcome: Result<T, WinbindError>) -> &'static str {
    match outcome {
        Ok(_) => "yes",
        Err(WinbindError::Refused(reason)) => reason.code(),
        Err(WinbindError::NotJoined) => "not joined",
        Err(WinbindError::Domain(_)) => "domain",
        Err(WinbindError::TimedOut) => "timed out",
        Err(WinbindError::Helper(_)) => "helper",
        Err(WinbindError::Garbled) => "garbled",
    }
}

async fn pap(winbind: &Winbind, name: &str, password: &str) -> &'static str {
    word(winbind.password(name, &Secret::from(password), soon()).await)
}

/// The response of a client, and whether what comes back convinces it.
async fn chap(winbind: &Winbind, name: &str, password: &str) -> &'static str {
    let client =
        Client { user_name: name, challenge: [3; 16], peer_challenge: [4; 16], hash: PasswordHash::of(password) };
    let nt_response = client.nt_response();
    let v2 = radius_wire::ms_chap::V2 {
        ident: 7,
        challenge: &client.challenge,
        peer_challenge: &client.peer_challenge,
        nt_response: &nt_response,
    };
    let outcome = winbind.ms_chap2(name, &v2.challenge_hash(name), &nt_response, soon()).await;
    if let Ok(hash) = &outcome {
        assert!(client.accepts(7, &v2.success(name, hash)), "the key of the domain is the one the client expects");
        assert!(*v2.keys(hash).send == *client.keys().send);
    }
    word(outcome)
}

#[tokio::test]
async fn the_domain_decides_about_passwords_and_responses_and_says_why_not() {
    // FR-08, R-56, R-57
    let Domain { samba, winbind, dir: _dir } = domain();
    assert_eq!(word(winbind.is_joined(soon()).await), "yes");
    samba.lock("ben.baker").expect("locked");
    samba.add("paul", r#"a\$b %s "q` 'ü'"#).expect("added");
    for (name, password, expected) in [
        ("ann.archer", "", "yes"),
        (r"LAB\ann.archer", "", "yes"),
        ("ann.archer@lab.test", "", "yes"),
        ("ANN.ARCHER", "", "yes"),
        ("jörg.groß", "", "yes"),
        ("dol$lar", "", "yes"),
        ("with space", "", "yes"),
        ("paul", r#"a\$b %s "q` 'ü'"#, "yes"),
        ("paul", r#"a$b %s "q` 'ü'"#, "bad_password"),
        ("ann.archer", "wrong", "bad_password"),
        ("ann.archer@lab.test", "wrong", "bad_password"),
        ("nobody", "", "unknown_user"),
        (r"NOPE\ann.archer", "", "unknown_user"),
        ("dora.disabled", "", "account_disabled"),
        ("eric.expired", "", "account_expired"),
        ("hugo.hours", "", "logon_restricted"),
        ("max.mustchange", "", "must_change_password"),
        ("paula.passwordexpired", "", "password_expired"),
        ("ben.baker", "", "account_locked"),
    ] {
        let account = radius_wire::ms_chap::without_domain(name).trim_end_matches("@lab.test").to_lowercase();
        let password = if password.is_empty() { password_of(&account) } else { password.to_owned() };
        assert_eq!(pap(&winbind, name, &password).await, expected, "PAP as {name}");
        assert_eq!(chap(&winbind, name, &password).await, expected, "MS-CHAPv2 as {name}");
    }
    let helpers = winbind.idle.lock().expect("not poisoned").len();
    assert_eq!(helpers, 1, "one after the other takes one helper");
}

#[tokio::test]
async fn what_samba_would_cut_or_read_otherwise_is_refused_before_it_is_asked() {
    // No program: nobody is asked.
    let winbind = Winbind::new("/nonexistent/ntlm_auth".into(), Some("LAB".to_owned()));
    assert_eq!(pap(&winbind, "ann", "").await, "empty_password"); // R-27
    assert_eq!(pap(&winbind, "ann", &"p".repeat(256)).await, "bad_password");
    assert_eq!(pap(&winbind, "ann", "p\0").await, "bad_password");
    for name in ["", r"LAB\", "ann\n.", "ann\0", &"a".repeat(252), &format!(r"{}\ann", "D".repeat(252))] {
        assert_eq!(pap(&winbind, name, "sesame").await, "unknown_user", "{name:?}");
        assert_eq!(chap(&winbind, name, "sesame").await, "unknown_user", "{name:?}");
    }
    assert_eq!(pap(&winbind, "ann", "sesame").await, "helper");
    assert_eq!(word(winbind.is_joined(soon()).await), "helper");
}

#[tokio::test]
async fn two_hundred_at_once_each_get_their_own_answer() {
    let Domain { samba: _samba, winbind, dir: _dir } = domain();
    let winbind = &winbind;
    let people = ["ann.archer", "carla.cook", "jörg.groß", "with space"];
    let logins = (0..200).map(|number| async move {
        let name = people[number % people.len()];
        let right = number % 3 != 0;
        let password = if right { password_of(name) } else { password_of("another") };
        // Wrong ones for nobody: theirs would be locked.
        let (name, expected) = if right { (name, "yes") } else { ("nobody", "unknown_user") };
        let found =
            if number % 2 == 0 { pap(winbind, name, &password).await } else { chap(winbind, name, &password).await };
        assert_eq!(found, expected, "login {number} as {name}");
    });
    join_all(logins).await;
    assert!(winbind.idle.lock().expect("not poisoned").len() <= HELPERS_MAX);
}

#[tokio::test]
async fn a_helper_that_was_killed_is_replaced() {
    let Domain { samba: _samba, winbind, dir: _dir } = domain();
    let ann = password_of("ann.archer");
    assert_eq!(pap(&winbind, "ann.archer", &ann).await, "yes");
    let killed = {
        let mut idle = winbind.idle.lock().expect("not poisoned");
        let helper = idle.first_mut().expect("one helper");
        helper.process.start_kill().expect("it runs");
        helper.process.id()
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(chap(&winbind, "ann.archer", &ann).await, "yes");
    let now = winbind.idle.lock().expect("not poisoned").first().expect("one helper").process.id();
    assert_ne!(killed, now);
}

#[tokio::test]
async fn without_winbind_nobody_is_refused_and_nobody_gets_in() {
    // FR-08: not joined is the target's fault.
    let Domain { mut samba, winbind, dir: _dir } = domain();
    let ann = password_of("ann.archer");
    assert_eq!(pap(&winbind, "ann.archer", &ann).await, "yes");
    samba.stop();
    assert_eq!(word(winbind.is_joined(soon()).await), "not joined");
    assert_eq!(pap(&winbind, "ann.archer", &ann).await, "not joined");
    let refused = winbind.password("ann.archer", &Secret::from("wrong"), soon()).await;
    assert_eq!(refused.map_err(|error| error.reason()), Err(Reason::TargetError));
    assert_eq!(chap(&winbind, "ann.archer", &ann).await, "not joined");
    let never = Winbind::new(winbind.program.clone(), None);
    assert_eq!(pap(&never, "ann.archer", &ann).await, "not joined", "its domain cannot be known");
    samba.restart().expect("Samba starts again");
    assert_eq!(word(winbind.is_joined(soon()).await), "yes");
    assert_eq!(pap(&winbind, "ann.archer", &ann).await, "yes");
    assert_eq!(chap(&never, "ann.archer", &ann).await, "yes");
}

/// A helper that reads up to the dot and does as the script says.
fn scripted(dir: &Path, does: &str) -> Winbind {
    let file = dir.join("ntlm_auth");
    let script = format!("#!/bin/sh\nwhile read -r line; do [ \"$line\" = . ] || continue\n{does}\ndone\n");
    std::fs::write(&file, script).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Winbind::new(file, Some("LAB".to_owned()))
}

#[tokio::test]
async fn an_answer_that_is_none_lets_nobody_in() {
    let dir = tempfile::tempdir().expect("a folder");
    for (does, expected) in [
        ("echo 'Authenticated: Yes'; echo .", "garbled"), // without a key
        ("echo 'Authenticated: Yes'; echo 'User-Session-Key: 00'; echo .", "garbled"),
        ("echo 'Error: Parameter not found!'; echo .", "garbled"),
        ("echo 'Authenticated: No'; echo .", "garbled"), // without a why
        ("echo 'Authenticated: Yes, perhaps'; echo .", "garbled"),
        ("echo .; echo .; exit", "helper"),
        ("echo 'Authenticated: No'; echo 'Authentication-Error: Something new'; echo .; echo .", "domain"),
        ("echo 'Authenticated: No'; echo 'Authentication-Error: Account locked out'; echo .; echo .", "account_locked"),
        ("printf 'Authenticated: No\\n.\\nAuthenticated: Yes\\n.\\n'", "garbled"),
        ("exit 0", "helper"),
        ("yes", "garbled"),
    ] {
        let winbind = scripted(dir.path(), does);
        assert_eq!(chap(&winbind, "ann", "sesame").await, expected, "{does}");
        let kept = winbind.idle.lock().expect("not poisoned").len();
        assert_eq!(kept, usize::from(matches!(expected, "domain" | "account_locked")), "{does}");
    }
    for (does, expected) in [
        ("echo 'X: y (0xc0000234)' >&2; echo 'Authenticated: No'; echo .", "account_locked"),
        ("echo 'X: y (0xc000005e)' >&2; echo 'Authenticated: No'; echo .", "domain"), // no logon servers
        ("echo 'Authenticated: No'; echo .", "garbled"),
        ("echo ':  (0x0)' >&2; echo 'Authenticated: Yes'; echo .", "yes"),
    ] {
        assert_eq!(pap(&scripted(dir.path(), does), "ann", "sesame").await, expected, "{does}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_nobodys() {
    let dir = tempfile::tempdir().expect("a folder");
    // The first one is asked answers yes to the next.
    let does = "sleep 1; echo ':  (0x0)' >&2; echo 'Authenticated: Yes'; echo .";
    let winbind = scripted(dir.path(), does);
    let deadline = Instant::now() + Duration::from_millis(200);
    let late = winbind.password("ann", &Secret::from("sesame"), deadline).await;
    assert_eq!(late.map_err(|error| error.reason()), Err(Reason::TargetTimeout));
    assert!(winbind.idle.lock().expect("not poisoned").is_empty(), "its helper is gone");
    assert_eq!(winbind.turns.available_permits(), HELPERS_MAX);
    // So is one that nobody waits for.
    let asked = winbind.password("ann", &Secret::from("sesame"), soon()).await;
    assert_eq!(word(asked), "yes");
}
