//! Whom Active Directory or 389 Directory Server disables is refused at both gateways, as soon as synchronisation hears of it.

mod synced;

use anyhow::{Context, Result, ensure};
use e2e::{Answer, Application, Device, code_of, last_attempt};
use lab::{COMPANY_BASE, CommandLine, RADIUS_SECRET, Samba, Standalone, private_file};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use synced::Upstream;
use tempfile::TempDir;

const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Runs every minute; who may hear what was changed reads.
fn document(upstream: &Upstream, feed: &str) -> Result<String> {
    let directory = upstream.section(upstream.admin()[0], &format!("feed = \"{feed}\""))?;
    let client = |protocol: &str, more: &str| {
        format!(
            "[[client]]\nname = \"{protocol}\"\nprotocol = \"{protocol}\"\nsources = [\"127.0.0.1/32\"]\ntarget = \"corp\"\n{more}\n"
        )
    };
    let people = match upstream {
        Upstream::Samba(_) => Samba::PEOPLE_DN.to_owned(),
        Upstream::Slapd(_) | Upstream::Ds389(_) => format!("ou=engineering,ou=people,{COMPANY_BASE}"),
    };
    Ok(format!(
        "[sync]\nenabled = true\ninterval_minutes = 1\napproval_over_users = 999\napproval_over_percent = 0\n\n\
         [portal]\nfirst_enrolment = \"open\"\n\n{}{}{}\
         [[sync_item]]\nname = \"people\"\ndirectory = \"corp\"\nsource = {{ kind = \"container\", dn = \"{people}\" }}\n",
        directory.replace("query.password", "reader.password"),
        client("ldap", "appended = \"required\""),
        client("radius", "secret = \"file:device.secret\"\nappended = \"optional\""),
    ))
}

struct Site {
    twinlock: Standalone,
    upstream: Upstream,
    _dir: TempDir,
}

impl Site {
    fn start(make: fn(&std::path::Path) -> Result<Upstream>, feed: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let upstream = make(dir.path())?;
        let twinlock = Standalone::start(dir.path(), "")?;
        private_file(&dir.path().join("reader.password"), upstream.admin()[1])?;
        private_file(&dir.path().join("device.secret"), RADIUS_SECRET)?;
        twinlock.command_line.apply(dir.path(), &document(&upstream, feed)?)?;
        twinlock.command_line.run(&["sync", "now"]).with_context(|| twinlock.log())?;
        Ok(Self { twinlock, upstream, _dir: dir })
    }

    fn line(&self) -> &CommandLine {
        &self.twinlock.command_line
    }

    fn state(&self, uid: &str) -> Result<(String, String)> {
        let shown = self.line().json(&["user", "show", uid])?;
        let state = shown["state"].as_str().or(shown["user"]["state"].as_str());
        Ok((state.with_context(|| shown.to_string())?.to_owned(), shown.to_string()))
    }

    async fn bind(&self, name: &str, password: &str) -> Result<u32> {
        let certificate = self.twinlock.certificate_file();
        let mut application = Application::connect_tls(&self.twinlock.ldaps_url(), VPN, &certificate).await?;
        code_of(&application.bind(1, name, password).await?)
    }

    fn device(&self) -> Result<Device> {
        Device::new(VPN, self.twinlock.radius_port(), RADIUS_SECRET)
    }

    /// A change of somebody else comes by itself.
    async fn until_followed(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(90);
        while !self.twinlock.log().contains("changes of the directory are followed as they happen") {
            ensure!(Instant::now() < end, "the directory is not followed:\n{}", self.twinlock.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Two who are disabled in the directory: one signs in by LDAP, one by RADIUS, and both have another good code left. `code` is what
    /// the directory itself says to the password.
    async fn refuses(&self, [ann, ben]: [&str; 2], disable: &str, limit: Duration, code: u32) -> Result<()> {
        let (device, ann, ben) = (self.device()?, self.line().enrol(ann)?, self.line().enrol(ben)?);
        ensure!(self.bind(&ann.uid, &ann.appended(0)?).await? == 0, "{}", self.twinlock.log());
        ensure!(device.login(&ben.uid, &ben.appended(0)?).await? == Answer::Accept, "{}", self.twinlock.log());
        self.upstream.modify(disable)?;
        // Whoever comes when the time is over is refused, both at once.
        tokio::time::sleep(limit).await;
        let (ann_code, ben_code) = (ann.appended(1)?, ben.appended(1)?);
        let (bound, entered) = tokio::join!(self.bind(&ann.uid, &ann_code), device.login(&ben.uid, &ben_code));
        ensure!((bound?, entered?) == (code, Answer::Reject), "{}", self.twinlock.log());
        let states = [self.state(&ann.uid)?, self.state(&ben.uid)?];
        ensure!(states.iter().all(|(state, _)| state == "disabled"), "{states:?}");
        ensure!(states[0].1.contains("disabled in the directory"), "{states:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_in_active_directory_is_refused_at_both_gateways_within_the_interval() -> Result<()> {
    // FS-26, FS-40, FD-42, S-22: a minute, and a run
    let site = Site::start(Upstream::samba, "dirsync")?;
    let (ann, ben) = ("ann.archer", "ben.baker");
    let flags = |flags: u32| {
        let of = |uid: &str| {
            let dn = Samba::dn_of(uid);
            format!("dn: {dn}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: {flags}\n\n")
        };
        of(ann) + &of(ben)
    };
    site.refuses([ann, ben], &flags(514), Duration::from_secs(63), 49).await?;
    // Until the next run it is not the directory that refuses.
    site.upstream.modify(&flags(512))?;
    ensure!(site.device()?.login(ben, &lab::password_of(ben)).await? == Answer::Reject);
    let (reason, _) = last_attempt(site.line(), ben)?;
    ensure!(reason == "blocked", "{reason}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_in_389_directory_server_is_refused_at_both_gateways_within_two_seconds() -> Result<()> {
    // FS-26, FS-42, FD-42, S-22, S-34
    let site = Site::start(Upstream::ds389, "syncrepl")?;
    site.until_followed().await?;
    let lock = |uid: &str| {
        let dn = format!("uid={uid},ou=engineering,ou=people,{COMPANY_BASE}");
        format!("dn: {dn}\nchangetype: modify\nadd: nsAccountLock\nnsAccountLock: true\n\n")
    };
    let both = ["ann.archer", "emma.irwin"];
    // 53: the account is inactivated.
    site.refuses(both, &both.map(lock).concat(), Duration::from_secs(2), 53).await
}
