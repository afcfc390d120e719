//! I1 of T-04: whatever a client does in whatever order, the directory sees it as a user only after an Allow for that user that
//! came after the last bind.

use crate::support::{Lab, Wanted, Wire, client, service_account, until};
use anyhow::Result;
use domain::settings::Anonymous;
use lab::{COMPANY_BASE, Slapd, password_of};
use ldap_wire::{ExtendedRequest, ExtendedResponse, Filter, LdapResult, Message, MessageId, Op, Scope, SearchRequest};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

const ANN: &str = "ann.archer";

#[derive(Clone, Debug)]
enum Step {
    ServiceBind,
    UserAllowed,
    /// The password is right, the code is not.
    UserDenied,
    WrongPassword,
    UnknownUser,
    EmptyPassword,
    Nobody,
    /// A search whose answer is not waited for, then the next step.
    SearchUnread,
    Search,
    Disconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::ServiceBind),
        3 => Just(Step::UserAllowed),
        3 => Just(Step::UserDenied),
        2 => Just(Step::WrongPassword),
        1 => Just(Step::UnknownUser),
        1 => Just(Step::EmptyPassword),
        1 => Just(Step::Nobody),
        2 => Just(Step::SearchUnread),
        3 => Just(Step::Search),
        1 => Just(Step::Disconnect),
    ]
}

#[test]
fn the_directory_sees_a_user_only_after_an_allow_for_that_user() -> Result<()> {
    // I1, L-31, L-32; FL-19: any number of binds on one connection
    let runtime = tokio::runtime::Runtime::new()?;
    let listed = domain::settings::Client {
        service_accounts: vec![service_account(Slapd::GITLAB_DN)],
        // So that Who am I reaches the directory for nobody, too: it says whom it sees.
        anonymous: Anonymous::Forward,
        ..client("model")
    };
    let lab = runtime.block_on(Lab::start(Wanted { client: listed, ..Wanted::default() }))?;
    runtime.block_on(until("the id to be kept", || !lab.gateway.settings.pinned().is_empty()))?;
    let codes: Vec<String> = (100_000..101_000).map(|code: u32| code.to_string()).collect();
    lab.gateway.verification.enrol(ANN, &codes.iter().map(String::as_str).collect::<Vec<_>>());
    let next_code = Cell::new(0);
    let strategy = proptest::collection::vec(step(), 1..16);
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let held = runner.run(&strategy, |steps| {
        let run = run_model(&lab, &steps, || {
            next_code.set(next_code.get() + 1);
            codes[next_code.get()].clone()
        });
        runtime.block_on(run).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    held.map_err(|error| anyhow::anyhow!("{error}"))
}

async fn run_model(lab: &Lab, steps: &[Step], mut new_code: impl FnMut() -> String) -> Result<()> {
    let mut wire = lab.connect().await?;
    // Whom the directory has to see now: nobody, or exactly this entry.
    let mut identity = String::new();
    for step in steps {
        match step {
            Step::ServiceBind => {
                bind(&mut wire, Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD, 0).await?;
                identity = format!("dn:{}", Slapd::GITLAB_DN);
            }
            Step::UserAllowed => {
                bind(&mut wire, ANN, &format!("{},{}", password_of(ANN), new_code()), 0).await?;
                identity = format!("dn:{}", lab.person(ANN));
            }
            Step::UserDenied => {
                bind(&mut wire, ANN, &format!("{},999999", password_of(ANN)), 49).await?;
                identity.clear();
            }
            Step::WrongPassword => {
                bind(&mut wire, ANN, "wrong,999999", 49).await?;
                identity.clear();
            }
            Step::UnknownUser => {
                bind(&mut wire, "nobody.here", "wrong,999999", 49).await?;
                identity.clear();
            }
            Step::EmptyPassword => {
                bind(&mut wire, ANN, "", 53).await?;
                identity.clear();
            }
            Step::Nobody => {
                bind(&mut wire, "", "", 0).await?;
                identity.clear();
            }
            Step::SearchUnread => {
                let search = SearchRequest::new(COMPANY_BASE, Scope::Subtree, &Filter::present("uid"), &[]);
                // Its answer comes among those of the next steps, or a bind drops it.
                wire.send_search(&search, &[]).await?;
                continue;
            }
            Step::Search => {
                let search = SearchRequest::new(COMPANY_BASE, Scope::Base, &Filter::present("objectClass"), &["1.1"]);
                let id = wire.send_search(&search, &[]).await?;
                let (done, entries) = answer(&mut wire, id).await?;
                let found = (LdapResult::decode(&done)?.code.0, entries);
                let expected = if identity.is_empty() { (50, 0) } else { (0, 1) };
                anyhow::ensure!(found == expected, "{found:?} for {identity:?} after {steps:?}");
            }
            Step::Disconnect => {
                wire = lab.connect().await?;
                identity.clear();
            }
        }
        let id = wire.next_id();
        wire.send(&ExtendedRequest::who_am_i().encode(id, &[])).await?;
        let (seen, _) = answer(&mut wire, id).await?;
        let seen = ExtendedResponse::decode(&seen)?;
        let name = String::from_utf8(seen.value.unwrap_or_default().to_vec())?;
        anyhow::ensure!(
            seen.result.is_success() && name == identity,
            "the directory sees {name:?}, not {identity:?}, after {steps:?}"
        );
    }
    Ok(())
}

async fn bind(wire: &mut Wire, name: &str, password: &str, expected: u32) -> Result<()> {
    let id = wire.send_bind(name, password, &[]).await?;
    let code = LdapResult::decode(&answer(wire, id).await?.0)?.code.0;
    anyhow::ensure!(code == expected, "{code} instead of {expected} for {name}");
    Ok(())
}

/// The last message of the answer to this request, and how many came before it; those of other requests are passed over.
async fn answer(wire: &mut Wire, id: MessageId) -> Result<(Message, usize)> {
    let mut parts = 0;
    loop {
        let message = wire.receive().await?;
        if message.id() != id {
            continue;
        }
        if message.op() != Op::SearchResultEntry {
            return Ok((message, parts));
        }
        parts += 1;
    }
}
