//! What of the entries of a real server cannot be used: the run names it, and takes the users without it.

mod synced;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use lab::{COMPANY_BASE, SlapdOptions};
use proto::user_store::{ListSyncRunsRequest, admin_server::Admin};
use std::sync::Arc;
use synced::{Upstream, World};
use tonic::Request;

#[tokio::test(flavor = "multi_thread")]
async fn what_of_an_entry_cannot_be_used_is_named_by_the_run_and_by_the_plan() -> Result<()> {
    // FD-36, FD-38, FS-27, S-57, S-59
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::slapd(dir.path(), &SlapdOptions::default())?);
    let dn = |uid: &str, unit: &str| format!("uid={uid},ou={unit},ou=people,{COMPANY_BASE}");
    let (ann, ben, clara) = (dn("ann.archer", "engineering"), dn("ben.hale", "sales"), dn("clara.osborn", "finance"));
    upstream.modify(&format!(
        "dn: {ann}\nchangetype: modify\nreplace: mail\nmail: not an address\n-\n\
         replace: preferredLanguage\npreferredLanguage: klingonese-klingonese\n-\n\
         replace: mobile\nmobile: (ask me)\nmobile: 030 901820\n\n\
         dn: {ben}\nchangetype: modify\nreplace: mobile\nmobile: 0171 2345678 / 030 901820\n\n\
         dn: {clara}\nchangetype: modify\nreplace: mail\nmail:: {}\n-\nreplace: mobile\nmobile: +49 {}\n\n",
        BASE64.encode(b"clara\x01@acme.example"),
        "30".repeat(40)
    ))?;
    let world = World::new(tempfile::tempdir()?, Arc::clone(&upstream), COMPANY_BASE, "").await?;
    let more = "country = \"DE\"\nattributes = { languages = { text = \"preferredLanguage\" } }";
    world
        .apply(&format!(
            "{}[[sync_item]]\nname = \"all\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n",
            upstream.section(upstream.query()[0], more)?
        ))
        .await?;
    let expected = [
        format!("{ann}: mail is no mail address"),
        format!("{ann}: preferredLanguage is no language tag"),
        "ann.archer: mobile is no phone number: it has letters".to_owned(),
        "ben.hale: mobile is no phone number: there is more than one number in it".to_owned(),
        format!("{clara}: mail holds control characters"),
        format!("{clara}: mobile is longer than 64 octets"),
    ];
    for mode in ["preview", "", ""] {
        let run = world.run(mode).await?;
        ensure!(run.state == "done" && run.problems == expected.len() as u64, "{mode}: {run:?}");
        let request = ListSyncRunsRequest { run_id: run.run_id, limit: 1, ..ListSyncRunsRequest::default() };
        let listed = world.store.admin.list_sync_runs(Request::new(request)).await?.into_inner().runs;
        let listed = &listed.first().context("the run")?.unusable;
        let lines: Vec<String> = listed.iter().map(|it| format!("{}: {} {}", it.entry, it.attribute, it.why)).collect();
        ensure!(expected.iter().all(|line| lines.contains(line)), "{mode}: {lines:#?}");
        ensure!(lines.len() == expected.len(), "{mode}: {lines:#?}");
    }
    let detail = world.detail("ann.archer").await?;
    let mail = detail.user.context("a user")?.mail;
    ensure!((detail.phone.as_str(), mail.as_str()) == ("+4930901820", ""), "{} {mail}", detail.phone);
    Ok(())
}
