//! What ends remembered logins, and what does not (V-52).

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture, NOON_MS, id_of, left, person, with_phone};
use crate::prompts;
use proto::user_store::{
    AllowResult, ApplyBatchRequest, BlockUserRequest, EditUserRequest, ExemptUserRequest, RevokeFactorRequest,
    SetUserStateRequest, StartBypassRequest, SyncedGroup, SyncedUser, UnblockUserRequest, UnlockUserRequest,
    admin_server::Admin, commit_server::Commit, left_object::How,
};
use tonic::Request;

const BY: &str = "admin:uid=0";
const MINUTE_MS: i64 = 60_000;

/// Looks at one user's epoch after each change.
struct Watch<'a> {
    lab: &'a Fixture,
    ann: &'a Enrolled,
    epoch: u64,
}

impl Watch<'_> {
    async fn raised(&mut self, what: &str) {
        assert!(self.moved().await, "{what}: ends what is remembered");
    }

    async fn kept(&mut self, what: &str) {
        assert!(!self.moved().await, "{what}: ends nothing");
    }

    async fn moved(&mut self) -> bool {
        let before = std::mem::replace(&mut self.epoch, self.lab.login_user(&self.ann.user_id).await.epoch);
        assert!(self.epoch >= before);
        self.epoch != before
    }

    async fn read(&self, user: SyncedUser) {
        let run_id = self.lab.begin().await.expect("begun");
        self.lab.batch(&run_id, vec![user]).await;
    }

    /// A complete run that reads ann and these groups.
    async fn groups(&self, groups: &[(&str, &str, &[&str])]) {
        let run_id = self.lab.begin().await.expect("begun");
        self.lab.batch(&run_id, vec![ann()]).await;
        let group = |(id, name, members): &(&str, &str, &[&str])| SyncedGroup {
            object_id: id_of(id),
            distinguished_name: group_dn(name),
            name: (*name).into(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            sid: String::new(),
        };
        let groups = groups.iter().map(group).collect();
        self.lab.send(&run_id, ApplyBatchRequest { groups, ..Default::default() }).await;
        let left = left(self.lab.unseen(&run_id).await, How::Deleted);
        self.lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        self.lab.finish(&run_id, true).await;
    }

    async fn set_state(&self, state: &str) {
        let request = SetUserStateRequest {
            user_id: self.ann.user_id.clone(),
            state: state.into(),
            reason: "test".into(),
            actor: BY.into(),
            expected_revision: 0,
        };
        self.lab.services.admin.set_user_state(Request::new(request)).await.expect("set");
    }

    async fn edit(&self, edit: EditUserRequest) {
        let request = EditUserRequest { user_id: self.ann.user_id.clone(), actor: BY.into(), ..edit };
        self.lab.services.admin.edit_user(Request::new(request)).await.expect("edited");
    }
}

fn group_dn(name: &str) -> String {
    format!("cn={name},ou=groups,dc=corp,dc=example")
}

fn ann() -> SyncedUser {
    SyncedUser { password_changed: "12".into(), ..with_phone(person("ann"), "+49 40 1111111") }
}

pub async fn each_change_of_v52_ends_what_is_remembered_and_no_other_change_does(lab: Fixture) {
    let enrolled = lab.enrolled("ann").await;
    let user_id = enrolled.user_id.clone();
    let admin = &lab.services.admin;
    let mut watch = Watch { lab: &lab, ann: &enrolled, epoch: 0 };
    watch.moved().await;

    // The directory.
    lab.tamper("UPDATE users SET password_changed = ''").await;
    watch.read(SyncedUser { password_changed: "10".into(), ..person("ann") }).await;
    watch.kept("the password's time, read for the first time").await;
    watch.read(SyncedUser { password_changed: "10".into(), ..person("ann") }).await;
    watch.kept("the same again").await;
    watch.read(SyncedUser { password_changed: "11".into(), ..person("ann") }).await;
    watch.raised("another password").await;
    watch.read(SyncedUser { password_changed: "12".into(), last_name: "Baker".into(), ..person("ann") }).await;
    watch.raised("another password and another name").await;
    watch.read(SyncedUser { password_changed: "12".into(), mail: "new@mail.example".into(), ..person("ann") }).await;
    watch.kept("names and mail").await;
    watch.read(SyncedUser { password_changed: String::new(), ..person("ann") }).await;
    watch.kept("a directory that says nothing any longer").await;
    let forget = proto::user_store::ForgetRememberedRequest { user_id: user_id.clone() };
    lab.services.commit.forget_remembered(Request::new(forget)).await.expect("forgotten");
    watch.raised("another password, as a gateway saw").await;
    watch.read(ann()).await;
    watch.raised("another phone").await;
    watch.read(SyncedUser { distinguished_name: "uid=ann,ou=sales,dc=corp,dc=example".into(), ..ann() }).await;
    watch.raised("another place in the directory").await;
    watch.read(ann()).await;
    watch.raised("and back").await;
    watch.read(SyncedUser { disabled_in_directory: true, ..ann() }).await;
    watch.raised("disabled in the directory").await;
    watch.read(ann()).await;
    watch.raised("enabled there").await;

    // Groups, directly and through groups.
    let (me, other) = ("UID=Ann,ou=people,dc=corp,dc=example", "uid=bob,ou=people,dc=corp,dc=example");
    let (staff, vpn) = (group_dn("staff"), group_dn("vpn"));
    watch.groups(&[("staff", "staff", &[other])]).await;
    watch.kept("a group of others").await;
    watch.groups(&[("staff", "staff", &[other, me])]).await;
    watch.raised("comes into a group").await;
    watch.groups(&[("staff", "staff", &[me])]).await;
    watch.kept("somebody else leaves it").await;
    watch.groups(&[("staff", "staff", &[me]), ("vpn", "vpn", &[other, &staff])]).await;
    watch.raised("the group comes into a group").await;
    watch.groups(&[("staff", "staff", &[me]), ("vpn", "vpn", &[&staff]), ("all", "all", &[&vpn, &staff])]).await;
    watch.raised("and that into another").await;
    watch.groups(&[("staff", "staff", &[me]), ("vpn", "vpn", &[&staff]), ("all", "all", &[&staff])]).await;
    watch.raised("a group two above leaves").await;
    watch.groups(&[("staff", "staff", &[me]), ("vpn", "vpn", &[&staff]), ("all", "everyone", &[&staff])]).await;
    watch.raised("a group around it has another name").await;
    watch.groups(&[("staff", "staff", &[me]), ("vpn", "vpn", &[&staff])]).await;
    watch.raised("a group around it is gone").await;
    watch.groups(&[("staff", "staff", &[me]), ("vpn", "vpn", &[&staff]), ("new", "new", &[other])]).await;
    watch.kept("a new group of others").await;
    watch.groups(&[("vpn", "vpn", &[&staff])]).await;
    watch.raised("the own group is gone").await;

    // Factors.
    lab.add_factor(&user_id).await;
    watch.kept("a code that is not proven yet").await;
    let proven = lab.add_token_of(&user_id).await;
    watch.raised("a code more").await;
    let revoke = RevokeFactorRequest { user_id: user_id.clone(), factor_id: proven, actor: BY.into() };
    admin.revoke_factor(Request::new(revoke)).await.expect("revoked");
    watch.raised("a code less").await;
    watch.edit(EditUserRequest { backup_phone: Some("+4930901821".into()), ..Default::default() }).await;
    watch.raised("a backup phone").await;
    watch.edit(EditUserRequest { phone: Some("+4940901822".into()), ..Default::default() }).await;
    watch.raised("a phone of one's own").await;
    watch.read(with_phone(ann(), "+49 40 2222222")).await;
    watch.kept("the phone of the directory behind it").await;
    watch
        .edit(EditUserRequest { set_allowed_methods: true, allowed_methods: vec!["code".into()], ..Default::default() })
        .await;
    watch.raised("other methods").await;
    watch.edit(EditUserRequest { language_app: Some("de".into()), ..Default::default() }).await;
    watch.kept("a language").await;

    // No, and not me.
    for (number, (outcome, raises)) in
        [("approved", false), ("denied", true), ("expired", false), ("fraud", true)].into_iter().enumerate()
    {
        let now_ms = NOON_MS + i64::try_from(number).expect("few") * 20 * MINUTE_MS;
        let prompt = prompts::prompt_id(&lab, &enrolled, outcome, now_ms).await;
        prompts::resolved(&lab, prompts::answer(&prompt, outcome, now_ms + 1_000)).await;
        match raises {
            true => watch.raised(outcome).await,
            false => watch.kept(outcome).await,
        }
    }

    // Administrators.
    let block = BlockUserRequest {
        user_id: user_id.clone(),
        reason: "test".into(),
        until_unix_ms: -1,
        actor: BY.into(),
        remove_devices: false,
    };
    admin.block_user(Request::new(block)).await.expect("blocked");
    watch.raised("a block").await;
    let unblock = UnblockUserRequest { user_id: user_id.clone(), reason: "test".into(), actor: BY.into() };
    admin.unblock_user(Request::new(unblock)).await.expect("unblocked");
    watch.raised("its end").await;
    watch.set_state("disabled").await;
    watch.raised("disabled").await;
    watch.set_state("enabled").await;
    watch.raised("enabled").await;
    let exempt = ExemptUserRequest {
        user_id: user_id.clone(),
        clients: vec!["*".into()],
        reason: "test".into(),
        actor: BY.into(),
        ..Default::default()
    };
    admin.exempt_user(Request::new(exempt)).await.expect("exempt");
    watch.kept("an exemption").await;
    let unlock = UnlockUserRequest { user_id: user_id.clone(), actor: BY.into() };
    admin.unlock_user(Request::new(unlock)).await.expect("unlocked");
    watch.kept("an unlock").await;
    let bypass =
        StartBypassRequest { user_id: user_id.clone(), reason: "test".into(), actor: BY.into(), ..Default::default() };
    admin.start_bypass(Request::new(bypass)).await.expect("started");
    watch.kept("a bypass").await;

    // A login, and what happens to others.
    assert_eq!(allowed(&lab.services.commit, enrolled.allow("login", 300)).await, AllowResult::Committed);
    watch.kept("a login").await;
    lab.enrolled("bob").await;
    watch.kept("somebody else").await;
}
