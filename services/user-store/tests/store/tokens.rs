//! Hardware tokens: the stock, its import, and who has one (FV-07, FI-01).

use crate::fixture::{Enrolled, Fixture};
use proto::common::Secret;
use proto::user_store::{
    AssignTokenRequest, ImportReply, ImportTokensRequest, ListTokensRequest, LoginFactsRequest, RevokeTokenRequest,
    TokenRow, TokenSummary, UnassignTokenRequest, admin_server::Admin, facts_server::Facts, login_facts_request::Who,
};
use tonic::{Code, Request, Status};

const BY: &str = "admin:uid=0";
const TOKEN_SEED: &[u8; 20] = b"CANARY-token-a4d9ee0";

fn row(row: u32, serial: &str) -> TokenRow {
    TokenRow { row, serial: serial.into(), seed: Some(Secret { value: TOKEN_SEED.to_vec() }), ..TokenRow::default() }
}

async fn import(lab: &Fixture, rows: Vec<TokenRow>, dry_run: bool, overwrite: bool) -> ImportReply {
    let request = ImportTokensRequest { rows, dry_run, overwrite, actor: BY.into() };
    lab.services.admin.import_tokens(Request::new(request)).await.expect("read").into_inner()
}

async fn list(lab: &Fixture, search: &str, state: &str) -> Vec<TokenSummary> {
    let (mut tokens, mut after) = (Vec::new(), String::new());
    loop {
        let request = ListTokensRequest { search: search.into(), state: state.into(), after, limit: 2 };
        let page = lab.services.admin.list_tokens(Request::new(request)).await.expect("listed").into_inner();
        assert!(page.tokens.len() <= 2);
        tokens.extend(page.tokens);
        after = page.next;
        if after.is_empty() {
            return tokens;
        }
    }
}

async fn seeds(lab: &Fixture, user: &Enrolled) -> Vec<(String, bool, Vec<u8>)> {
    let request = LoginFactsRequest { who: Some(Who::UserId(user.user_id.clone())), ..Default::default() };
    let facts = lab.services.facts.login(Request::new(request)).await.expect("the store answers").into_inner();
    let factors = facts.code_factors.into_iter().filter(|factor| factor.factor_id != user.factor_id);
    factors.map(|factor| (factor.factor_id, factor.pending, factor.seed.expect("with a seed").value.clone())).collect()
}

pub async fn a_file_of_tokens_gets_a_verdict_a_row_and_the_same_file_changes_nothing(lab: Fixture) {
    // FI-01
    let ann = lab.enrolled("ann").await;
    let rows = vec![
        row(2, "GAKT0001"),
        TokenRow { username: "Ann@corp.example".into(), kind: "hotp".into(), counter: 7, ..row(3, "GAKT0002") },
        TokenRow { seed: Some(Secret { value: vec![1; 9] }), ..row(4, "GAKT0003") },
        TokenRow { algorithm: "MD5".into(), ..row(5, "GAKT0004") },
        TokenRow { period_seconds: 45, ..row(6, "GAKT0005") },
        TokenRow { username: "nobody".into(), ..row(7, "GAKT0006") },
        row(8, " gakt0001 "),
        row(9, ""),
        TokenRow { seed: Some(Secret { value: vec![1; 10] }), digits: 8, ..row(10, "OLD-1") },
    ];
    let dry = import(&lab, rows.clone(), true, false).await;
    assert_eq!((dry.added, dry.refused, dry.applied), (3, 6, false));
    assert!(list(&lab, "", "").await.is_empty(), "a dry run changes nothing");
    let done = import(&lab, rows.clone(), false, false).await;
    assert_eq!((done.verdicts.clone(), done.applied), (dry.verdicts, true));
    for (verdict, text) in done.verdicts.iter().filter(|it| it.verdict == "refused").zip([
        "seed: found 9 octets",
        "algorithm: allowed are",
        "found a period of 45",
        "no user has the name \"nobody\"",
        "the serial stands twice",
        "serial: allowed are",
    ]) {
        assert!(verdict.text.starts_with(text), "{verdict:?}");
    }
    let stock = list(&lab, "", "").await;
    assert_eq!(stock.iter().map(|it| it.serial.as_str()).collect::<Vec<_>>(), ["GAKT0001", "GAKT0002", "OLD-1"]);
    assert_eq!((list(&lab, "kt00", "").await.len(), list(&lab, "%", "").await.len()), (2, 0));
    let assigned = list(&lab, "", "assigned").await;
    assert_eq!((assigned.len(), assigned[0].username.as_str(), assigned[0].pending), (1, "ann", true));
    assert_eq!((assigned[0].kind.as_str(), assigned[0].period_seconds), ("hotp", 0));
    assert_eq!(list(&lab, "", "unassigned").await.len(), 2);
    assert_eq!(seeds(&lab, &ann).await[0].2, TOKEN_SEED, "sealed to its user");

    let again = import(&lab, rows.clone(), false, false).await;
    assert_eq!((again.added, again.changed, again.unchanged), (0, 0, 3));
    let other = TokenRow { seed: Some(Secret { value: vec![2; 20] }), ..row(2, "gakt0001") };
    let kept = import(&lab, vec![other.clone()], false, false).await;
    assert_eq!(
        (kept.refused, kept.verdicts[0].text.contains("overwrite")),
        (1, true),
        "nothing overwritten without asking"
    );
    let replaced = import(&lab, vec![other], false, true).await;
    assert_eq!((replaced.changed, replaced.refused), (1, 0));
    let events = lab.events("tokens.imported").await;
    assert_eq!(events.len(), 2, "one event for a file that changed something");
    assert!(events[0].detail.starts_with("9 rows: 3 added, 0 changed, 0 unchanged, 6 refused"), "{}", events[0].detail);
    let dump = lab.dump().await;
    assert!(!dump.windows(TOKEN_SEED.len()).any(|window| window == TOKEN_SEED), "no seed in the clear");
    lab.assert_chain_is_whole().await;
}

pub async fn a_token_is_one_persons_and_goes_back_to_the_stock_with_its_marks(lab: Fixture) {
    // FV-07, V-11, V-30
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    import(&lab, vec![row(1, "T-1")], false, false).await;
    let assign = async |user: &Enrolled| -> Result<TokenSummary, Status> {
        let request = AssignTokenRequest { serial: " t-1".into(), user_id: user.user_id.clone(), actor: BY.into() };
        Ok(lab.services.admin.assign_token(Request::new(request)).await?.into_inner())
    };
    let unassign = async || -> Result<TokenSummary, Status> {
        let request = UnassignTokenRequest { serial: "T-1".into(), actor: BY.into() };
        Ok(lab.services.admin.unassign_token(Request::new(request)).await?.into_inner())
    };
    assert_eq!(unassign().await.expect_err("nobody has it").code(), Code::FailedPrecondition);
    let shown = assign(&ann).await.expect("assigned");
    assert_eq!((shown.username.as_str(), shown.pending), ("ann", true));
    assert_eq!(assign(&ann).await.expect("the same again"), shown);
    assert_eq!(assign(&bob).await.expect_err("hers").code(), Code::FailedPrecondition);
    let held = seeds(&lab, &ann).await;
    assert_eq!((held.len(), held[0].1, held[0].2.as_slice()), (1, true, TOKEN_SEED.as_slice()), "not yet proven");
    lab.tamper(&format!("UPDATE factors SET pending = FALSE, last_step = 777 WHERE factor_id = '{}'", held[0].0)).await;
    let back = unassign().await.expect("taken back");
    assert_eq!((back.user_id.as_str(), back.pending), ("", false));
    assert!(seeds(&lab, &ann).await.is_empty());
    assign(&bob).await.expect("assigned");
    let request = LoginFactsRequest { who: Some(Who::UserId(bob.user_id.clone())), ..Default::default() };
    let facts = lab.services.facts.login(Request::new(request)).await.expect("the store answers").into_inner();
    let factor = facts.code_factors.iter().find(|it| it.factor_id == held[0].0).expect("his now");
    assert_eq!((factor.pending, factor.last_step), (true, 777), "used codes stay used");
    assert_eq!(factor.seed.as_ref().expect("with a seed").value, TOKEN_SEED);
    let revoke = || Request::new(RevokeTokenRequest { serial: "T-1".into(), actor: BY.into() });
    lab.services.admin.revoke_token(revoke()).await.expect("revoked");
    assert_eq!(lab.services.admin.revoke_token(revoke()).await.expect_err("gone").code(), Code::NotFound);
    assert!(seeds(&lab, &bob).await.is_empty());
    let kinds: Vec<String> = lab.events("").await.into_iter().map(|event| event.kind).collect();
    for (kind, count) in [("token.assigned", 2), ("token.unassigned", 1), ("token.revoked", 1)] {
        assert_eq!(kinds.iter().filter(|it| *it == kind).count(), count, "{kind}");
    }
}

pub async fn a_large_file_is_one_transaction_and_one_too_large_is_refused(lab: Fixture) {
    // FI-01, V-87
    lab.with_settings().await;
    let rows: Vec<TokenRow> = (0..50_000).map(|number| row(number, &format!("B{number:05}"))).collect();
    let done = import(&lab, rows.clone(), false, false).await;
    assert_eq!((done.added, done.refused), (50_000, 0));
    let request =
        ImportTokensRequest { rows: [rows, vec![row(1, "X")]].concat(), actor: BY.into(), ..Default::default() };
    let refused = lab.services.admin.import_tokens(Request::new(request)).await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(lab.events("tokens.imported").await.len(), 1);
}
