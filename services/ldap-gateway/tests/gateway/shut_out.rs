//! S-22: whoever may not log in any more loses the connections they are bound on, and nobody else does.

use crate::support::{Lab, Wanted, client, id_of, service_account, until};
use anyhow::Result;
use lab::{Slapd, password_of};
use ldap_wire::Scope;

const ANN: &str = "ann.archer";
const BEN: &str = "ben.hale";
const UNAVAILABLE: u32 = 52;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_shut_out_loses_their_connections_and_nobody_else_does() -> Result<()> {
    // S-22, L-19
    let mut listed = client("gitlab");
    listed.service_accounts = vec![service_account(Slapd::GITLAB_DN)];
    let lab = Lab::start(Wanted { client: listed, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333"]);
    lab.gateway.verification.enrol(BEN, &["111111"]);
    let bind = async |name: &str, code: &str| -> Result<_> {
        let mut wire = lab.connect().await?;
        assert_eq!(wire.bind(name, &format!("{},{code}", password_of(name))).await?, 0, "{name}");
        Ok(wire)
    };
    let (mut first, mut second, mut bens) =
        (bind(ANN, "111111").await?, bind(ANN, "222222").await?, bind(BEN, "111111").await?);
    // Another phone number is no reason, and of somebody who is not bound nobody asks.
    let asked = lab.gateway.standing.asked();
    lab.gateway.user_changed(&id_of("clara.osborn")).await?;
    lab.gateway.user_changed(&id_of(ANN)).await?;
    until("the store to be asked", || lab.gateway.standing.asked() == asked + 1).await?;
    assert!(first.who_am_i().await?.is_ok());
    // The second one goes on as somebody else.
    assert_eq!(second.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);
    lab.gateway.standing.shuts_out(&id_of(ANN));
    lab.gateway.user_changed(&id_of(ANN)).await?;
    first.expect_notice(UNAVAILABLE).await?;
    assert!(bens.who_am_i().await?.is_ok());
    assert_eq!(second.who_am_i().await?, Ok(format!("dn:{}", Slapd::GITLAB_DN)));
    // Whoever has no connection any more is not asked about.
    let asked = lab.gateway.standing.asked();
    lab.gateway.user_changed(&id_of(ANN)).await?;
    lab.gateway.user_changed(&id_of(BEN)).await?;
    until("the store to be asked", || lab.gateway.standing.asked() > asked).await?;
    assert_eq!(lab.gateway.standing.asked(), asked + 1);
    assert_eq!(lab.connect().await?.search_code("", Scope::Base).await?, (0, 1));
    Ok(())
}
