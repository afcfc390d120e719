//! The pages, through `run()`'s own server over TLS: the whole story, and everything that must not work.

mod support;

use domain::settings::FirstEnrolment::{Invitation, Off, Open};
use http::StatusCode;
use http::header::ORIGIN;
use proto::verification::{Allow, outcome};
use std::sync::atomic::Ordering;
use support::{FakeVerification, PASSWORD, RIGHT_CODE, SEED, World};

#[tokio::test]
async fn a_person_enrols_with_the_password_where_the_settings_say_open_and_signs_in_with_a_code() {
    let world = World::new(Open).await;
    let mut browser = world.browser();
    let page = browser.get("/").await;
    assert_eq!(page.title(), "Sign in · Example &#38; Sons");
    let page = browser.sign_in("ann", PASSWORD).await;
    assert_eq!((page.status, page.path.as_str()), (StatusCode::OK, "/enrol"));
    assert_eq!(world.directory.checks(), 1, "one bind");

    let page = browser.submit("/enrol/start", &[]).await.clone();
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.html.contains("<svg") && page.html.contains("<path d=\"M4 4h7v1h-7z"), "a QR code");
    assert!(page.html.contains("JBSW Y3DP EHPK 3PXP"), "the secret as text");
    assert!(!page.html.contains("style="), "no inline style");
    assert!(page.html.contains("inputmode=\"numeric\" autocomplete=\"one-time-code\""));

    let page = browser.submit("/enrol/confirm", &[("code", "000000")]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.html.contains("That code was not right") && page.reference().is_some());
    assert!(!page.html.contains("JBSW"), "the secret is shown once");
    assert!(!world.store.user("ann").expect("ann").has_factor(), "nothing counts before it worked once");

    let page = browser.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await;
    assert_eq!((page.status, page.path.as_str()), (StatusCode::OK, "/enrol/done"));
    assert!(world.store.user("ann").expect("ann").has_factor());
    assert!(world.store.calls().contains(&"confirm pending-1 by self".to_owned()));
    let page = browser.get("/account").await;
    assert!(page.html.contains("Ann Archer") && page.html.contains("20 November 2026"), "{}", page.html);

    let before = browser.cookies.clone();
    let page = browser.submit("/sign-out", &[]).await;
    assert!(page.html.contains("You have signed out"));
    assert_eq!(browser.session_cookie(), None);
    assert_eq!(world.store.sessions(), 0, "ended on the server");
    // V-80: the old cookie is worth nothing.
    browser.cookies = before;
    assert_eq!(browser.get("/account").await.title(), "Sign in · Example &#38; Sons");

    let page = browser.sign_in("ann", PASSWORD).await;
    assert_eq!(page.path, "/code", "now there is a method, and it is asked for");
    let page = browser.submit("/code", &[("code", RIGHT_CODE)]).await;
    assert_eq!(page.path, "/account");
    let seen = world.verification.begun.lock().expect("a lock").last().cloned().expect("an attempt");
    assert_eq!((seen.client.as_str(), seen.protocol.as_str(), seen.can_challenge), ("portal", "portal", true));
}

#[tokio::test]
async fn an_invitation_opens_the_first_enrolment_once_and_guesses_are_counted_by_the_store() {
    // V-86, B-95
    let world = World::new(Invitation).await;
    world.store.invite("ann", "K7QM-2Z9P");
    let mut browser = world.browser();
    browser.get("/").await;
    let page = browser.sign_in("ann", PASSWORD).await;
    assert_eq!(page.path, "/invitation");
    let before = browser.session_cookie().cloned();
    // The password alone opens nothing.
    assert_eq!(browser.get("/enrol").await.path, "/invitation");
    let token = browser.page.token("/invitation").expect("a token");
    assert_eq!(browser.post("/enrol/start", &[("csrf", &token)]).await.path, "/invitation");
    assert_eq!(world.verification.seeds_made.load(Ordering::SeqCst), 0);

    let page = browser.submit("/invitation", &[("invitation", "AAAA-AAAA")]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.html.contains("was not accepted") && page.reference().is_some());
    let page = browser.submit("/invitation", &[("invitation", "K7QM-2Z9P")]).await;
    assert_eq!(page.path, "/enrol");
    assert_ne!(browser.session_cookie().cloned(), before, "more rights, new id");
    browser.submit("/enrol/start", &[]).await;
    assert_eq!(browser.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await.path, "/enrol/done");

    // Ben guesses: five tries, then the right one is refused too.
    world.store.invite("ben", "RIGHT-ONE");
    let mut browser = world.browser();
    browser.get("/").await;
    browser.sign_in("ben", PASSWORD).await;
    for _ in 0..5 {
        browser.submit("/invitation", &[("invitation", "GUESS")]).await;
    }
    let page = browser.submit("/invitation", &[("invitation", "RIGHT-ONE")]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn where_first_enrolment_is_off_the_page_says_whom_to_ask_and_there_is_no_session() {
    let world = World::new(Off).await;
    let mut browser = world.browser();
    browser.get("/").await;
    let page = browser.sign_in("ann", PASSWORD).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.html.contains("Ask your administrator or help desk"));
    assert_eq!((browser.session_cookie(), world.store.sessions()), (None, 0));
}

#[tokio::test]
async fn every_failure_before_the_second_factor_reads_the_same() {
    // V-87
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    world.store.give_factor("ben");
    let mut pages = Vec::new();
    let mut browser = world.browser();
    browser.get("/").await;
    let cases = [
        ("ann", "wrong", None, "bad_password"),
        ("ann", PASSWORD, Some("account_locked"), "account_locked"),
        ("ann", PASSWORD, Some("password_expired"), "password_expired"),
        // A reason nobody knows, and one that is no refusal at all.
        ("ann", PASSWORD, Some("brand_new"), "internal_error"),
        ("ann", PASSWORD, Some("valid_code"), "internal_error"),
    ];
    for (name, password, refused, reported) in cases {
        *world.directory.refuse_with.lock().expect("a lock") = refused;
        let page = browser.sign_in(name, password).await.clone();
        assert_eq!(world.verification.reports().last().expect("a report").1, reported);
        pages.push(page);
    }
    *world.directory.refuse_with.lock().expect("a lock") = None;
    let unknown = browser.sign_in("nobody", PASSWORD).await.clone();
    assert_eq!(world.verification.reports().last().expect("a report").1, "unknown_user");
    let text = |page: &support::Page, name: &str| {
        let reference = page.reference().expect("a reference").to_owned();
        assert!(reference.len() == 9 && reference.is_char_boundary(4), "{reference}");
        page.html.replace(&reference, "REF").replace(&format!("value=\"{name}\""), "value=\"NAME\"")
    };
    for page in &pages {
        assert_eq!(text(page, "ann"), text(&unknown, "nobody"));
    }
    let failed = |page: &support::Page| page.status == StatusCode::FORBIDDEN;
    assert!(failed(&unknown) && pages[..3].iter().all(failed));
    assert_eq!(world.verification.begun.lock().expect("a lock").len(), 0, "no second factor after a wrong password");
    assert_eq!(world.store.sessions(), 0);
}

#[tokio::test]
async fn an_empty_password_never_reaches_the_directory() {
    // L-10
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    for (name, password, reason) in
        [("ann", "", "empty_password"), ("", PASSWORD, "unknown_user"), ("a\0nn", PASSWORD, "unknown_user")]
    {
        let page = browser.sign_in(name, password).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        assert_eq!(world.verification.reports().last().expect("a report").1, reason);
    }
    assert_eq!(world.directory.checks(), 0);
}

#[tokio::test]
async fn a_person_who_is_in_the_directory_only_or_disabled_does_not_get_in() {
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    let page = browser.sign_in("stranger", PASSWORD).await;
    assert!(page.html.contains("Sign-in failed. Check"), "no word about being unknown");
    world.store.set_state("ann", "disabled");
    let page = browser.sign_in("ann", PASSWORD).await;
    assert!(page.html.contains("Your account is blocked here"), "after the right password the person may know");
    assert_eq!((page.status, world.store.sessions()), (StatusCode::FORBIDDEN, 0));
}

#[tokio::test]
async fn a_wrong_code_can_be_corrected_until_the_tries_are_used_up() {
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    browser.sign_in("ann", PASSWORD).await;
    let page = browser.submit("/code", &[("code", "000000")]).await.clone();
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.html.contains("That code was not right"));
    assert_eq!(page.title(), "Error: Enter your code · Example &#38; Sons");
    let reference = page.reference().expect("a reference").to_owned();
    let page = browser.submit("/code", &[("code", "000001")]).await;
    assert_eq!(page.reference(), Some(reference.as_str()), "one attempt, one reference");
    let page = browser.submit("/code", &[("code", "000002")]).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(page.html.contains("too many wrong codes") && page.token("/sign-in").is_some());
    assert_eq!(world.store.sessions(), 0);
    assert_eq!(browser.get("/code").await.title(), "Sign in · Example &#38; Sons");
}

#[tokio::test]
async fn a_form_sent_twice_is_evaluated_once_and_does_not_undo_the_sign_in() {
    // B-91
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    browser.sign_in("ann", PASSWORD).await;
    let (page, before) = (browser.page.clone(), browser.cookies.clone());
    assert_eq!(browser.submit("/code", &[("code", RIGHT_CODE)]).await.path, "/account");
    let signed_in = browser.session_cookie().cloned();
    // The second click carries the old cookie, whose session is over.
    let after = std::mem::replace(&mut browser.cookies, before);
    browser.page = page;
    let page = browser.submit("/code", &[("code", RIGHT_CODE)]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert_eq!(world.verification.answers.load(Ordering::SeqCst), 1);
    assert!(!browser.cookie_lines.last().expect("a cookie").contains("Max-Age=0"));
    browser.cookies = after;
    assert_eq!(browser.session_cookie().cloned(), signed_in);
    assert_eq!(browser.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_session_has_a_new_id_at_sign_in_and_at_the_second_factor_and_no_id_is_taken_from_outside() {
    // V-80, B-91: fixation
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let mut browser = world.browser();
    let planted = data_encoding::BASE64URL_NOPAD.encode(&[7; 32]);
    browser.cookies.insert("__Host-twinlock".into(), planted.clone());
    browser.get("/").await;
    browser.sign_in("ann", PASSWORD).await;
    let at_password = browser.session_cookie().cloned().expect("a session");
    assert_ne!(at_password, planted);
    browser.submit("/code", &[("code", RIGHT_CODE)]).await;
    let full = browser.session_cookie().cloned().expect("a session");
    assert_ne!(full, at_password);
    assert_eq!(world.store.sessions(), 1, "the first is gone");
    for old in [planted, at_password] {
        let mut other = world.browser();
        other.cookies.insert("__Host-twinlock".into(), old);
        assert_eq!(other.get("/account").await.path, "/", "an old id opens nothing");
    }
    // Signing in again ends the session the browser had.
    browser.get("/account").await;
    let token = browser.page.token("/sign-out").expect("a token");
    let page = browser.post("/sign-in", &[("csrf", &token), ("name", "ann"), ("password", PASSWORD)]).await;
    assert_eq!((page.path.as_str(), world.store.sessions()), ("/code", 1));
}

#[tokio::test]
async fn cookies_are_closed_to_scripts_other_sites_and_plain_http_and_the_store_cannot_use_what_it_holds() {
    // V-80
    let world = World::new(Open).await;
    let browser = world.signed_in().await;
    assert!(browser.cookie_lines.len() >= 3, "the form's and two of sessions");
    for line in &browser.cookie_lines {
        assert!(line.starts_with("__Host-twinlock"), "{line}");
        for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
            assert!(line.contains(flag), "{line}");
        }
        assert!(!line.contains("Domain"), "{line}");
    }
    let value = browser.session_cookie().expect("a session");
    assert_eq!(data_encoding::BASE64URL_NOPAD.decode(value.as_bytes()).expect("base64").len(), 32);
    for hash in world.store.session_hashes() {
        assert_ne!(hash, value.as_bytes());
        assert_ne!(hash, data_encoding::BASE64URL_NOPAD.decode(value.as_bytes()).expect("base64"));
    }
}

#[tokio::test]
async fn a_change_without_token_or_from_another_origin_is_refused() {
    // V-81, B-91
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    let form = [("name", "ann"), ("password", PASSWORD)];
    let token = browser.page.token("/sign-in").expect("a token");
    let with = |token: &'static str| [("csrf", token), form[0], form[1]];
    assert_eq!(browser.post("/sign-in", &form).await.status, StatusCode::FORBIDDEN, "no token");
    assert_eq!(browser.post("/sign-in", &with("")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.post("/sign-in", &with("0123456789abcdef")).await.status, StatusCode::FORBIDDEN);
    // The token of another browser.
    let mut other = world.browser();
    other.get("/").await;
    let foreign = other.page.token("/sign-in").expect("a token");
    let sent = [("csrf", foreign.as_str()), form[0], form[1]];
    assert_eq!(browser.post("/sign-in", &sent).await.status, StatusCode::FORBIDDEN);
    // The right token, but no cookie, or not from here.
    let right = [("csrf", token.as_str()), form[0], form[1]];
    let cookies = std::mem::take(&mut browser.cookies);
    assert_eq!(browser.post("/sign-in", &right).await.status, StatusCode::FORBIDDEN);
    browser.cookies = cookies;
    for origin in [None, Some("null"), Some("https://evil.example"), Some("http://portal.example")] {
        browser.origin.remove(ORIGIN);
        if let Some(origin) = origin {
            browser.origin.insert(ORIGIN, origin.parse().expect("a value"));
        }
        assert_eq!(browser.post("/sign-in", &right).await.status, StatusCode::FORBIDDEN, "{origin:?}");
    }
    for site in ["cross-site", "same-site", "none"] {
        browser.origin.insert("sec-fetch-site", site.parse().expect("a value"));
        browser.origin.insert(ORIGIN, "https://portal.example".parse().expect("a value"));
        assert_eq!(browser.post("/sign-in", &right).await.status, StatusCode::FORBIDDEN, "{site}");
    }
    assert_eq!(world.directory.checks(), 0, "not one of them was looked at");
    browser.origin.insert("sec-fetch-site", "same-origin".parse().expect("a value"));
    assert_eq!(browser.post("/sign-in", &right).await.path, "/enrol");
}

#[tokio::test]
async fn a_get_changes_nothing_and_a_form_of_another_kind_is_refused() {
    // V-81
    let world = World::new(Open).await;
    let mut browser = world.signed_in().await;
    for path in ["/sign-in", "/sign-out", "/enrol/start", "/enrol/confirm"] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(world.store.sessions(), 1);
    assert_eq!(world.verification.seeds_made.load(Ordering::SeqCst), 0);
    let http = world.http();
    let json = http
        .post(world.url("/sign-out"))
        .header("origin", "https://portal.example")
        .header("content-type", "text/plain")
        .body("csrf=x");
    assert_eq!(json.send().await.expect("an answer").status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = http
        .post(world.url("/sign-in"))
        .header("origin", "https://portal.example")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={}", "x".repeat(20_000)));
    assert_eq!(large.send().await.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn every_answer_has_the_headers_of_the_policy() {
    // V-85, V-87
    let world = World::new(Open).await;
    let http = world.http();
    for path in ["/", "/code", "/nothing", "/assets/portal.css", "/api/v1/users", "/api/v1/openapi.json"] {
        let response = http.get(world.url(path)).send().await.expect("an answer");
        let value = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(
            value("content-security-policy"),
            "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            "{path}"
        );
        assert!(value("strict-transport-security").starts_with("max-age=31536000"), "{path}");
        assert_eq!(value("x-content-type-options"), "nosniff");
        assert_eq!(value("x-frame-options"), "DENY");
        assert!(value("access-control-allow-origin").is_empty(), "CORS is closed");
        let cached = if path.starts_with("/assets") { "no-cache" } else { "no-store" };
        assert_eq!(value("cache-control"), cached, "{path}");
    }
}

#[tokio::test]
async fn pages_have_no_script_no_inline_style_and_only_our_own_files() {
    let world = World::new(Open).await;
    let mut browser = world.signed_in().await;
    let mut pages = vec![browser.page.clone(), browser.get("/enrol").await.clone()];
    pages.push(browser.submit("/enrol/start", &[]).await.clone());
    pages.push(world.browser().get("/").await.clone());
    for page in pages {
        for forbidden in ["<script", "style=", "<style", " on", "http://", "javascript:"] {
            let shown = page.html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "").replace("From now on", "");
            let found = shown
                .split('<')
                .filter(|tag| !tag.starts_with('/'))
                .any(|tag| tag.split('>').next().is_some_and(|tag| format!("<{tag}").contains(forbidden)));
            assert!(!found, "{forbidden} in {}", page.html);
        }
        assert!(page.html.contains("<html lang=\"en\">"));
    }
    let asset = world.http().get(world.url("/assets/portal.css")).send().await.expect("an answer");
    assert_eq!(asset.headers()["content-type"], "text/css; charset=utf-8");
    let tag = asset.headers()["etag"].clone();
    let again = world.http().get(world.url("/assets/portal.css")).header("if-none-match", tag).send().await;
    assert_eq!(again.expect("an answer").status(), StatusCode::NOT_MODIFIED);
    for path in ["/assets/../Cargo.toml", "/assets/%2e%2e%2fCargo.toml", "/assets/x.css"] {
        let response = world.http().get(world.url(path)).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn names_from_directories_and_forms_are_text_never_markup() {
    // V-85, B-93
    let world = World::new(Open).await;
    let evil = "\"><script>alert(1)</script><img src=x onerror=alert(2)>";
    let mut browser = world.browser();
    browser.get("/").await;
    let page = browser.sign_in(evil, "wrong").await;
    assert!(!page.html.contains("<script>") && !page.html.contains("<img"), "{}", page.html);
    assert!(page.html.contains("&#60;script&#62;") || page.html.contains("&lt;script&gt;"), "{}", page.html);
    world.store.add("eve'<b>", "<i onclick=x>Eve</i>");
    world.store.give_factor("eve'<b>");
    browser.sign_in("eve'<b>", PASSWORD).await;
    let page = browser.submit("/code", &[("code", RIGHT_CODE)]).await;
    assert_eq!(page.path, "/account");
    assert!(!page.html.contains("<i ") && !page.html.contains("<b></b>"), "{}", page.html);
    assert!(!page.html.contains("eve'<b>"), "{}", page.html);
}

#[tokio::test]
async fn the_password_alone_adds_no_method_to_somebody_who_has_one() {
    // V-86, B-95
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    assert_eq!(browser.sign_in("ann", PASSWORD).await.path, "/code");
    let token = browser.page.token("/code").expect("a token");
    for path in ["/enrol", "/enrol/done", "/account"] {
        assert_eq!(browser.get(path).await.path, "/code", "{path}");
    }
    for path in ["/enrol/start", "/enrol/confirm", "/invitation"] {
        let page = browser.post(path, &[("csrf", &token), ("code", RIGHT_CODE)]).await;
        assert_eq!(page.path, "/code", "{path}");
    }
    assert_eq!(world.verification.seeds_made.load(Ordering::SeqCst), 0);

    // Ben began without a method in two windows; he finished in one. The other is worth nothing any more.
    let (mut first, mut second) = (world.browser(), world.browser());
    for browser in [&mut first, &mut second] {
        browser.get("/").await;
        assert_eq!(browser.sign_in("ben", PASSWORD).await.path, "/enrol");
    }
    second.submit("/enrol/start", &[]).await;
    let stale = second.page.clone();
    first.submit("/enrol/start", &[]).await;
    assert_eq!(first.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await.path, "/enrol/done");
    second.page = stale.clone();
    assert_eq!(second.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await.status, StatusCode::FORBIDDEN);
    second.page = stale;
    let seeds = world.verification.seeds_made.load(Ordering::SeqCst);
    let page = second.submit("/enrol/start", &[]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(!page.html.contains(SEED) && !page.html.contains("JBSW"));
    assert_eq!(world.verification.seeds_made.load(Ordering::SeqCst), seeds);
    assert_eq!(world.store.user("ben").expect("ben").factors.len(), 1);
}

#[tokio::test]
async fn with_both_locks_open_another_app_can_be_added() {
    let world = World::new(Off).await;
    let mut browser = world.signed_in().await;
    assert_eq!(browser.get("/enrol").await.status, StatusCode::OK);
    browser.submit("/enrol/start", &[]).await;
    let before = browser.session_cookie().cloned();
    assert_eq!(browser.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await.path, "/enrol/done");
    assert_ne!(browser.session_cookie().cloned(), before);
    let page = browser.get("/account").await;
    assert_eq!(page.html.matches("<h3>Authenticator app</h3>").count(), 2);
}

#[tokio::test]
async fn a_session_whose_method_was_revoked_brings_no_other_one() {
    // V-86: somebody with the password enrolled first; the administrator takes the method away, the session is still there
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    assert_eq!(browser.sign_in("ben", PASSWORD).await.path, "/enrol");
    browser.submit("/enrol/start", &[]).await;
    assert_eq!(browser.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await.path, "/enrol/done");
    world.store.set_first_enrolment(Off);
    world.store.revoke_factors("ben");
    assert_eq!(browser.get("/enrol").await.status, StatusCode::OK);
    assert_eq!(browser.submit("/enrol/start", &[]).await.status, StatusCode::FORBIDDEN);
    assert!(world.store.user("ben").expect("ben").factors.is_empty());
}

#[tokio::test]
async fn what_was_allowed_at_sign_in_is_looked_at_again_before_it_is_used() {
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    assert_eq!(browser.sign_in("ben", PASSWORD).await.path, "/enrol");
    browser.submit("/enrol/start", &[]).await;
    world.store.set_state("ben", "disabled");
    assert_eq!(browser.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await.status, StatusCode::FORBIDDEN);
    assert!(!world.store.user("ben").expect("ben").has_factor());

    let mut browser = world.signed_in().await;
    world.store.set_state("ann", "disabled");
    assert_eq!(browser.get("/account").await.path, "/", "a disabled person is signed out");
    assert!(browser.page.token("/sign-in").is_some());
}

#[tokio::test]
async fn only_an_allow_for_this_attempt_this_client_and_this_person_opens_the_second_lock() {
    // V-02, B-89
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let ann = world.store.user("ann").expect("ann").id;
    let ben = world.store.user("ben").expect("ben").id;
    let mut browser = world.browser();
    let allow = || FakeVerification::allow(&ann);
    let wrong = [
        Allow { client: "vpn".into(), ..allow() },
        Allow { expires_unix_ms: support::NOW_MS, ..allow() },
        Allow { user_id: ben, ..allow() },
        Allow { user_id: String::new(), ..allow() },
        Allow { reason: "wrong_code".into(), ..allow() },
        Allow { reason: "let_him_in".into(), ..allow() },
        // Nobody enters the portal by a rule.
        Allow { reason: "not_enrolled_passed".into(), ..allow() },
        Allow { reason: "service_account".into(), ..allow() },
    ];
    for (place, wrong) in wrong.into_iter().enumerate() {
        browser.get("/").await;
        assert_eq!(browser.sign_in("ann", PASSWORD).await.path, "/code");
        world.verification.say(outcome::Result::Allow(wrong));
        let page = browser.submit("/code", &[("code", "1")]).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "case {place}");
        assert_eq!(browser.get("/account").await.path, "/", "case {place}");
    }
    browser.sign_in("ann", PASSWORD).await;
    *world.verification.wrong_transaction.lock().expect("a lock") = Some(uuid::Uuid::nil().to_string());
    let page = browser.submit("/code", &[("code", RIGHT_CODE)]).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.store.sessions(), 0);
}

#[tokio::test]
async fn nobody_gets_in_with_the_password_alone_whatever_verification_says() {
    // V-84, V-86
    let world = World::new(Off).await;
    let ann = world.store.user("ann").expect("ann").id;
    let mut browser = world.browser();
    browser.get("/").await;
    world.verification.say(outcome::Result::Allow(FakeVerification::allow(&ann)));
    let page = browser.sign_in("ann", PASSWORD).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    world.verification.say(outcome::Result::CodeAccepted(proto::verification::CodeAccepted {}));
    let page = browser.sign_in("ann", PASSWORD).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.store.sessions(), 0);
}

#[tokio::test]
async fn when_another_part_is_away_the_answer_is_no_and_tells_nothing_of_the_inside() {
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    let quiet = |page: &support::Page| {
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.reference().is_some(), "{}", page.html);
        assert!(!page.html.contains("10.0.0") && !page.html.contains("inside"));
    };
    *world.directory.fail_next.lock().expect("a lock") = Some(tonic::Code::Unavailable);
    quiet(browser.sign_in("ann", PASSWORD).await);
    world.verification.fail(tonic::Code::Unavailable);
    quiet(browser.sign_in("ann", PASSWORD).await);
    assert_eq!(world.store.sessions(), 0);
    assert_eq!(browser.sign_in("ann", PASSWORD).await.path, "/code");
    world.verification.fail(tonic::Code::Unavailable);
    quiet(browser.submit("/code", &[("code", RIGHT_CODE)]).await);
    browser.sign_in("ann", PASSWORD).await;
    world.store.down.store(true, Ordering::SeqCst);
    quiet(browser.submit("/code", &[("code", RIGHT_CODE)]).await);
    assert_eq!(world.verification.answers.load(Ordering::SeqCst), 1, "no session, no answer");
    world.store.down.store(false, Ordering::SeqCst);
    assert_eq!(browser.get("/").await.path, "/code", "it goes on when the store is back");
}

#[tokio::test]
async fn a_session_ends_after_15_minutes_without_use_and_after_8_hours_in_any_case() {
    // V-80
    let world = World::new(Open).await;
    let mut browser = world.signed_in().await;
    for _ in 0..47 {
        world.clock.advance(10 * 60_000);
        assert_eq!(browser.get("/account").await.path, "/account");
    }
    world.clock.advance(10 * 60_000);
    assert_eq!(browser.get("/account").await.path, "/", "8 hours");
    let mut browser = world.signed_in().await;
    world.clock.advance(15 * 60_000);
    assert_eq!(browser.get("/account").await.path, "/", "15 minutes");
}

#[tokio::test]
async fn tries_are_limited_by_name_and_by_place_and_are_not_a_bind_then() {
    // V-87
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    for _ in 0..10 {
        assert_eq!(browser.sign_in("ann", "wrong").await.status, StatusCode::FORBIDDEN);
    }
    let page = browser.sign_in("ANN", PASSWORD).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(page.html.contains("Sign-in failed. Check"), "the same words");
    assert_eq!(world.directory.checks(), 10);
    let mut limited = 0;
    for number in 0..80 {
        let page = browser.sign_in(&format!("user{number}"), "wrong").await;
        limited += u32::from(page.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(limited >= 10, "{limited}");
}

#[tokio::test]
async fn giving_up_at_the_code_ends_the_attempt() {
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    browser.sign_in("ann", PASSWORD).await;
    let page = browser.submit("/sign-out", &[]).await;
    assert!(page.token("/sign-in").is_some() && !page.html.contains("You have signed out"));
    assert_eq!((world.verification.cancelled.load(Ordering::SeqCst), world.store.sessions()), (1, 0));
}

#[tokio::test]
async fn behind_a_proxy_the_person_comes_from_where_the_proxy_says() {
    // B-94
    let world = World::behind_proxy().await;
    let mut browser = world.browser();
    browser.origin.insert("x-forwarded-for", "10.9.9.9, 203.0.113.9".parse().expect("a value"));
    browser.get("/").await;
    browser.sign_in("ann", PASSWORD).await;
    let seen = world.verification.begun.lock().expect("a lock")[0].clone();
    assert_eq!(seen.client_ip, "203.0.113.9");

    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.origin.insert("x-forwarded-for", "203.0.113.9".parse().expect("a value"));
    browser.get("/").await;
    browser.sign_in("ann", PASSWORD).await;
    let seen = world.verification.begun.lock().expect("a lock")[0].clone();
    assert_eq!(seen.client_ip, "127.0.0.1", "without a proxy nobody may say so");
}

#[tokio::test]
async fn the_portal_speaks_http_2_and_stops_with_its_process() {
    let world = World::new(Open).await;
    let http = world.http();
    let response = http.get(world.url("/")).send().await.expect("an answer");
    assert_eq!(response.version(), http::Version::HTTP_2);
    world.process.shutdown().begin();
    tokio::time::timeout(std::time::Duration::from_secs(10), world.process.finish()).await.expect("it stops");
    assert!(http.get(world.url("/")).send().await.is_err());
}

fn asks(user_id: &str, ask: proto::verification::Ask) -> outcome::Result {
    let expires_unix_ms = support::NOW_MS + 120_000;
    outcome::Result::Ask(proto::verification::Ask { step: 1, expires_unix_ms, user_id: user_id.into(), ..ask })
}

fn approval(number: &str) -> proto::verification::Ask {
    proto::verification::Ask {
        method: "push".into(),
        kind: proto::verification::AskKind::Approval.into(),
        number: number.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_approval_shows_its_number_and_is_waited_for_with_and_without_script() {
    // V-22
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let user_id = world.store.user_id("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    world.verification.say(asks(&user_id, approval("42")));
    let page = browser.sign_in("ann", PASSWORD).await.clone();
    assert_eq!(page.path, "/code");
    assert!(page.html.contains("Choose this number") && page.html.contains(">42</p>"), "{}", page.html);
    assert!(!page.html.contains("style=") && page.html.contains("/assets/wait.js"));
    // The page can be loaded again: the question is kept.
    assert!(browser.get("/code").await.html.contains(">42</p>"));
    // Not answered yet: the same page.
    world.verification.say(asks(&user_id, approval("42")));
    assert!(browser.submit("/code/wait", &[]).await.html.contains(">42</p>"));
    world.verification.say(outcome::Result::Allow(FakeVerification::allow(&user_id)));
    assert_eq!(browser.submit("/code/wait", &[]).await.path, "/account");

    // By script: what to do next, and the new cookie.
    let mut browser = world.browser();
    browser.get("/").await;
    world.verification.say(asks(&user_id, approval("17")));
    browser.sign_in("ann", PASSWORD).await;
    let before = browser.session_cookie().cloned();
    let token = browser.page.token("/code/wait").expect("a token");
    browser.origin.insert(http::header::ACCEPT, "application/json".parse().expect("a value"));
    world.verification.say(asks(&user_id, approval("17")));
    assert_eq!(browser.post("/code/wait", &[("csrf", &token)]).await.html, r#"{"next":""}"#);
    // What cannot be written is a fault, not an answer: the script must not ask again at once.
    world.store.read_only.store(true, Ordering::Relaxed);
    world.verification.say(asks(&user_id, approval("18")));
    let page = browser.post("/code/wait", &[("csrf", &token)]).await;
    assert_eq!((page.status, page.html.as_str()), (StatusCode::SERVICE_UNAVAILABLE, r#"{"next":""}"#));
    world.store.read_only.store(false, Ordering::Relaxed);
    world.verification.say(outcome::Result::Allow(FakeVerification::allow(&user_id)));
    assert_eq!(browser.post("/code/wait", &[("csrf", &token)]).await.html, r#"{"next":"/account"}"#);
    assert_ne!(browser.session_cookie().cloned(), before, "V-80: a new id");
    assert_eq!(browser.get("/account").await.path, "/account");
}

#[tokio::test]
async fn a_refusal_on_the_phone_ends_the_sign_in_and_says_so() {
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let user_id = world.store.user_id("ann");
    for (reason, sentence) in [
        ("user_denied", "refused on the phone"),
        ("reported_fraud", "reported as not yours"),
        ("wrong_number", "Another number"),
    ] {
        let mut browser = world.browser();
        browser.get("/").await;
        world.verification.say(asks(&user_id, approval("")));
        browser.sign_in("ann", PASSWORD).await;
        let denied = proto::verification::Deny { reason: reason.into(), method: "push".into(), ..Default::default() };
        world.verification.say(outcome::Result::Deny(denied));
        let page = browser.submit("/code/wait", &[]).await.clone();
        assert!(page.html.contains(sentence), "{reason}: {}", page.html);
        assert_eq!(browser.get("/account").await.path, "/", "no session is left: the sign-in form");
        assert!(browser.page.title().starts_with("Sign in"));
    }
}

#[tokio::test]
async fn a_choice_a_new_pin_and_questions_are_asked_on_pages_of_their_own() {
    use proto::verification::{Ask, AskKind};
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let user_id = world.store.user_id("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    let choices = vec!["push".into(), "sms".into(), "smoke_signals".into()];
    world.verification.say(asks(&user_id, Ask { kind: AskKind::Choice.into(), choices, ..Ask::default() }));
    let page = browser.sign_in("ann", PASSWORD).await.clone();
    assert!(page.html.contains("value=\"push\"") && page.html.contains("Text message"), "{}", page.html);
    assert!(!page.html.contains("smoke"), "V-75: what nobody knows is not offered");
    let sms =
        Ask {
            method: "sms".into(), destination: "•••• 4321".into(), kind: AskKind::Code.into(), ..Ask::default()
        };
    world.verification.say(asks(&user_id, sms));
    let page = browser.submit("/code", &[("code", "sms")]).await.clone();
    assert!(page.html.contains("•••• 4321") && page.html.contains("Send a new code"), "{}", page.html);
    world.verification.say(asks(&user_id, Ask { kind: AskKind::NewPin.into(), ..Ask::default() }));
    let page = browser.submit("/code", &[("code", RIGHT_CODE)]).await.clone();
    assert!(page.html.contains("Choose a new PIN") && page.html.contains("type=\"password\""), "{}", page.html);
    let questions = vec!["First <school>?".to_owned(), "Pet?".to_owned()];
    world.verification.say(asks(&user_id, Ask { kind: AskKind::Questions.into(), questions, ..Ask::default() }));
    let page = browser.submit("/code", &[("code", "2580")]).await.clone();
    assert!(page.html.contains("First &#60;school&#62;?") && page.html.matches("name=\"answer\"").count() == 2);
    world.verification.say(outcome::Result::Allow(FakeVerification::allow(&user_id)));
    assert_eq!(browser.submit("/code", &[("answer", "north"), ("answer", "rex")]).await.path, "/account");
}

#[tokio::test]
async fn security_answers_open_the_account_and_add_no_method() {
    // V-86 ★, B-95
    use proto::verification::{Allow, Ask, AskKind};
    let world = World::new(Open).await;
    for (with_method, way_on) in [(true, "Sign in with one of the methods above"), (false, "href=\"/invitation\"")] {
        world.store.give_factor("ann");
        let user_id = world.store.user_id("ann");
        let mut browser = world.browser();
        browser.get("/").await;
        let questions = vec!["Town of birth?".to_owned()];
        world.verification.say(asks(&user_id, Ask { kind: AskKind::Questions.into(), questions, ..Ask::default() }));
        browser.sign_in("ann", PASSWORD).await;
        if !with_method {
            world.store.revoke_factors("ann");
        }
        world.verification.say(outcome::Result::Allow(Allow {
            reason: "valid_answers".into(),
            method: "questions".into(),
            assurance: "none".into(),
            ..FakeVerification::allow(&user_id)
        }));
        let account = browser.submit("/code", &[("answer", "ulm")]).await.clone();
        assert_eq!(account.path, "/account");
        assert!(account.html.contains(way_on) && !account.html.contains("href=\"/enrol\""), "{}", account.html);
        assert_eq!(browser.get("/enrol").await.path, "/account");
        let token = account.token("/sign-out").expect("signed in is signed out");
        for path in ["/enrol/start", "/enrol/device", "/enrol/phone/sms", "/enrol/recovery"] {
            let fields = [("csrf", token.as_str()), ("kind", "web"), ("number", "+49 30 901820")];
            let page = browser.post(path, &fields).await.clone();
            assert_eq!(page.title(), account.title(), "{path}: {}", page.html);
        }
        assert_eq!(world.verification.seeds_made.load(Ordering::SeqCst), 0);
        if !with_method {
            // What the help desk hands out is enough.
            world.store.invite("ann", "ABCD-EFGH");
            browser.get("/invitation").await;
            assert_eq!(browser.submit("/invitation", &[("invitation", "nope")]).await.path, "/invitation");
            assert_eq!(browser.submit("/invitation", &[("invitation", "ABCD-EFGH")]).await.path, "/enrol");
        }
    }
}

#[tokio::test]
async fn a_phone_counts_after_it_was_connected_and_approved_once() {
    // V-20, FM-04
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    assert_eq!(browser.sign_in("ann", PASSWORD).await.path, "/enrol");
    let page = browser.submit("/enrol/device", &[("kind", "web")]).await.clone();
    assert!(page.html.contains("https://portal.example/phone#web-of-") && page.html.contains("<svg"), "{}", page.html);
    let page = browser.submit("/enrol/device/check", &[]).await.clone();
    assert!(page.html.contains("has not been connected yet") && !page.html.contains("phone#web"), "shown once");
    "redeemed".clone_into(&mut world.verification.device_state.lock().expect("a lock"));
    let page = browser.submit("/enrol/device/check", &[]).await.clone();
    assert!(page.html.contains("Prompt me now"));
    let page = browser.submit("/enrol/device/prove", &[]).await.clone();
    assert!(page.html.contains("refused on the phone") && page.status == StatusCode::FORBIDDEN, "{}", page.html);
    "user_approved".clone_into(&mut world.verification.tried.lock().expect("a lock"));
    let page = browser.submit("/enrol/device/prove", &[]).await.clone();
    assert_eq!(page.path, "/enrol/done");
    assert!(page.html.contains("your phone asks you"), "{}", page.html);
}

#[tokio::test]
async fn a_number_counts_after_its_code_came_back() {
    // FP-11
    let world = World::new(Open).await;
    let mut browser = world.browser();
    browser.get("/").await;
    browser.sign_in("ann", PASSWORD).await;
    browser.get("/enrol/phone/sms").await;
    let page = browser.submit("/enrol/phone/sms", &[("number", "12")]).await.clone();
    assert!(page.html.contains("no phone number we can use"), "{}", page.html);
    browser.submit("/enrol/phone/sms", &[("number", "+49 30 901820")]).await;
    let page = browser.submit("/enrol/phone/sms/confirm", &[("code", "000000")]).await.clone();
    assert!(page.html.contains("That code was not right"), "{}", page.html);
    let page = browser.submit("/enrol/phone/sms/confirm", &[("code", RIGHT_CODE)]).await.clone();
    assert_eq!(page.path, "/enrol/done");
    assert!(page.html.contains("confirm a sign-in with this phone"), "{}", page.html);
    browser.get("/enrol").await;
    let token = browser.page.token("/enrol/start").expect("a token");
    for path in ["/enrol/confirm", "/enrol/phone/sms/confirm"] {
        let page = browser.post(path, &[("csrf", &token), ("code", RIGHT_CODE)]).await;
        assert_eq!((page.status, page.path.as_str()), (StatusCode::OK, "/account"), "{path}: nothing is pending");
    }
    for path in ["/enrol/phone/telegram", "/enrol/phone/push", "/enrol/phone/SMS"] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(browser.post(path, &[("csrf", &token)]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    // With both locks open recovery codes can be had, once on the screen.
    browser.get("/enrol").await;
    world.store.give_factor("ann");
    let page = browser.submit("/enrol/recovery", &[]).await.clone();
    assert_eq!(page.html.matches("ABCDE-1234").count(), 10, "{}", page.html);
}

#[tokio::test]
async fn whoever_has_a_language_of_their_own_is_answered_in_it_once_the_password_is_right() {
    // FS-32
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    for (language, code, account) in [
        ("de-CH", "<html lang=\"de\">", "Abmelden"),
        ("tlh", "<html lang=\"en\">", "Sign out"),
        ("", "<html lang=\"en\">", "Sign out"),
    ] {
        world.store.change("ann", |user| user.more.language_portal = language.into());
        let mut browser = world.browser_that_speaks("en");
        assert!(browser.get("/").await.html.contains("<html lang=\"en\">"));
        assert!(browser.sign_in("ann", PASSWORD).await.html.contains(code), "{language}");
        let page = browser.submit("/code", &[("code", RIGHT_CODE)]).await;
        assert!(page.path == "/account" && page.html.contains(account), "{language} {}", page.html);
        browser.submit("/sign-out", &[]).await;
    }
}

#[tokio::test]
async fn a_browser_that_speaks_german_is_answered_in_german() {
    let world = World::new(Open).await;
    let mut browser = world.browser_that_speaks("de-AT,de;q=0.9,en;q=0.5");
    let page = browser.get("/").await.clone();
    assert!(page.html.contains("<html lang=\"de\">") && page.html.contains("Kennwort"), "{}", page.html);
    let page = browser.sign_in("ann", "wrong").await.clone();
    assert!(page.html.contains("Anmeldung fehlgeschlagen"));
}
