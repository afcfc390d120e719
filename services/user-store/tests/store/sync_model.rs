//! S-01: whatever is delivered again after a crash, and from however far back, the store ends where the directory is.
//!
//! A directory lives through a random history; its feed tells of it in batches. A reader takes them up, dies now and then, and
//! begins anew from a batch before. What the store finds doubtful it reads as it is now. In the end both are compared.
//! `TWINLOCK_SEED` tries one seed.

use crate::fixture::{Fixture, id_of, left};
use crate::sync::{of_items, with_items};
use crate::sync_groups::{group, group_dn};
use proto::user_store::{
    ApplyBatchRequest, GetUserRequest, ListPendingRequest, SyncedUser, admin_server::Admin, left_object::How,
    pending::What, sync_server::Sync,
};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Request;

const SEEDS: u64 = 6;
const USERS: u64 = 14;
const GROUPS: [&str; 4] = ["staff", "inner", "deep", "other"];
const BATCHES: usize = 40;

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[derive(Clone, Debug, PartialEq)]
struct User {
    /// Of a container item: "sales"; "" = below none.
    ou: &'static str,
    surname: u64,
    disabled: bool,
}

/// The directory as it is.
#[derive(Clone, Default)]
struct Directory {
    users: BTreeMap<String, User>,
    /// By group, who is in it: users and groups by their names.
    groups: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Directory {
    fn synced(&self, name: &str) -> Option<SyncedUser> {
        let user = self.users.get(name)?;
        let items: &[&str] = if user.ou == "sales" { &["sales", "staff"] } else { &["staff"] };
        Some(SyncedUser {
            distinguished_name: dn_of(name, user.ou),
            last_name: format!("Last-{}", user.surname),
            disabled_in_directory: user.disabled,
            ..of_items(name, items)
        })
    }

    fn synced_group(&self, name: &'static str) -> proto::user_store::SyncedGroup {
        let members = self.groups.get(name).cloned().unwrap_or_default();
        let members: Vec<String> = members
            .into_iter()
            .map(|member| match GROUPS.contains(&member.as_str()) {
                true => group_dn(&member),
                false => id_of(&member),
            })
            .collect();
        group(name, &members.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Groups of a user, through groups too.
    fn groups_of(&self, name: &str) -> BTreeSet<&'static str> {
        let mut found = BTreeSet::new();
        let mut names: Vec<String> = vec![name.into()];
        while let Some(name) = names.pop() {
            for (group, members) in &self.groups {
                if members.contains(&name) && found.insert(*group) {
                    names.push((*group).into());
                }
            }
        }
        found
    }

    fn owner(&self, name: &str) -> Option<&'static str> {
        let user = self.users.get(name)?;
        match user.ou {
            "sales" => Some("sales"),
            _ => self.groups_of(name).contains("staff").then_some("staff"),
        }
    }

    /// Something happens; the feed tells of it.
    fn live(&mut self, random: &mut Random) -> ApplyBatchRequest {
        let name = format!("user{:02}", random.below(USERS));
        let mut told = ApplyBatchRequest::default();
        match random.below(10) {
            0..=3 => {
                let ou = ["sales", "", "hr"][random.below(3) as usize];
                let user = User { ou, surname: random.below(100), disabled: random.below(5) == 0 };
                self.users.insert(name.clone(), user);
                told.users.extend(self.synced(&name));
            }
            4 => {
                self.users.remove(&name);
                for members in self.groups.values_mut() {
                    members.remove(&name);
                }
                told.left = left([id_of(&name)], How::Deleted);
                told.groups = GROUPS.iter().map(|name| self.synced_group(name)).collect();
            }
            _ => {
                let of = GROUPS[random.below(GROUPS.len() as u64) as usize];
                let member = match random.below(3) {
                    0 => GROUPS[random.below(GROUPS.len() as u64) as usize].to_owned(),
                    _ => name,
                };
                let members = self.groups.entry(of).or_default();
                if !members.remove(&member) && (GROUPS.contains(&member.as_str()) || self.users.contains_key(&member)) {
                    members.insert(member);
                }
                told.groups.push(self.synced_group(of));
            }
        }
        told
    }
}

fn dn_of(name: &str, ou: &str) -> String {
    format!("uid={name},ou={},dc=corp,dc=example", if ou.is_empty() { "people" } else { ou })
}

/// Reads what the store lists, as the directory is now.
async fn read_pending(lab: &Fixture, run_id: &str, directory: &Directory) {
    for _ in 0..20 {
        let request = ListPendingRequest { epoch: lab.epoch(), directory: "corp".into(), limit: 5 };
        let listed = lab.services.sync.list_pending(Request::new(request)).await.expect("listed").into_inner().pending;
        if listed.is_empty() {
            return;
        }
        let mut batch = ApplyBatchRequest::default();
        for it in listed {
            let Some(What::ObjectId(id) | What::DistinguishedName(id)) = it.what else { panic!("{:?}", it.what) };
            let user = (0..USERS).map(|number| format!("user{number:02}")).find(|name| id_of(name) == id);
            match user.as_ref().map(|name| directory.synced(name)) {
                Some(Some(user)) => batch.users.push(user),
                Some(None) => batch.left.extend(left([id], How::Deleted)),
                None => {
                    let of = GROUPS.iter().find(|name| group_dn(name) == id).expect("a group");
                    batch.groups.push(directory.synced_group(of));
                }
            }
            batch.settled.push(it.pending_id);
        }
        lab.send(run_id, batch).await;
    }
    panic!("there is no end to what is doubtful");
}

pub async fn whatever_is_delivered_again_the_store_ends_where_the_directory_is(lab: Fixture) {
    let settings = "[sync]\napproval_over_users = 999\napproval_over_percent = 0\n".to_owned()
        + &with_items(&[
            "sales source = { kind = \"container\", dn = \"ou=sales,dc=corp,dc=example\" }",
            "staff source = { kind = \"group\", dn = \"cn=staff,ou=groups,dc=corp,dc=example\" }",
        ]);
    assert_eq!(lab.apply(&settings).await.errors, [""; 0]);
    let seeds = match std::env::var("TWINLOCK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..SEEDS + 1,
    };
    for seed in seeds.clone() {
        lab.tamper("DELETE FROM users; DELETE FROM user_groups; DELETE FROM sync_pending; DELETE FROM sync_runs").await;
        one_history(&lab, seed, Crashes::Some).await;
    }
    lab.tamper("DELETE FROM users; DELETE FROM user_groups; DELETE FROM sync_pending; DELETE FROM sync_runs").await;
    one_history(&lab, seeds.start, Crashes::AfterEachBatch).await;
    lab.assert_chain_is_whole().await;
}

/// When the reader dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crashes {
    Some,
    /// And whoever follows is told of that batch once more.
    AfterEachBatch,
}

async fn one_history(lab: &Fixture, seed: u64, when: Crashes) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut directory = Directory::default();
    let feed: Vec<ApplyBatchRequest> = (0..BATCHES)
        .map(|_| {
            let mut batch = directory.live(&mut random);
            for _ in 0..random.below(3) {
                let more = directory.live(&mut random);
                // What a batch says of the same object twice is one word, the last.
                if more.left.is_empty() && batch.left.is_empty() {
                    batch.users.retain(|user| more.users.iter().all(|it| it.object_id != user.object_id));
                    batch.groups.retain(|group| more.groups.iter().all(|it| it.object_id != group.object_id));
                    batch.users.extend(more.users);
                    batch.groups.extend(more.groups);
                } else {
                    batch = ApplyBatchRequest {
                        users: directory.users.keys().filter_map(|name| directory.synced(name)).collect(),
                        groups: GROUPS.iter().map(|name| directory.synced_group(name)).collect(),
                        left: (0..USERS)
                            .map(|number| format!("user{number:02}"))
                            .filter(|name| !directory.users.contains_key(name))
                            .flat_map(|name| left([id_of(&name)], How::Deleted))
                            .collect(),
                        ..ApplyBatchRequest::default()
                    };
                }
            }
            batch
        })
        .collect();
    lab.lead().await;
    let mut run_id = lab.begin_as("incremental").await.expect("begun");
    let (mut next, mut crashes) = (0, 0);
    while next < feed.len() {
        lab.send(&run_id, feed[next].clone()).await;
        if when == Crashes::AfterEachBatch {
            lab.lead().await;
            run_id = lab.begin_as("incremental").await.expect("begun");
            lab.send(&run_id, feed[next].clone()).await;
        }
        next += 1;
        match random.below(12) {
            // It dies, and is told again of what it knew already.
            0 if crashes < 8 => {
                crashes += 1;
                next = random.below(next as u64 + 1) as usize;
                lab.lead().await;
                run_id = lab.begin_as("incremental").await.expect("begun");
            }
            1 => read_pending(lab, &run_id, &directory).await,
            2 => {
                lab.finish(&run_id, random.below(4) > 0).await;
                run_id = lab.begin_as("incremental").await.expect("begun");
            }
            _ => {}
        }
    }
    read_pending(lab, &run_id, &directory).await;
    lab.finish(&run_id, true).await;
    for number in 0..USERS {
        let name = format!("user{number:02}");
        let request = GetUserRequest { name: name.clone() };
        let known = lab.services.admin.get_user(Request::new(request)).await.ok().map(|reply| reply.into_inner());
        let Some(owner) = directory.owner(&name) else {
            let state = known.and_then(|it| it.user).map(|user| user.state);
            assert!(state.as_deref().is_none_or(|state| state == "disabled"), "seed {seed}: {name} is nobody's");
            continue;
        };
        let known = known.unwrap_or_else(|| panic!("seed {seed}: {name} is of {owner} and not there"));
        let (there, user) = (&directory.users[&name], known.user.clone().expect("with a summary"));
        let state = if there.disabled { "disabled" } else { "enabled" };
        assert_eq!((user.state.as_str(), known.sync_item.as_str()), (state, owner), "seed {seed}: {name}");
        assert_eq!(user.last_name, format!("Last-{}", there.surname), "seed {seed}: {name}");
        assert_eq!(known.distinguished_name, dn_of(&name, there.ou), "seed {seed}: {name}");
        let direct: Vec<&str> =
            directory.groups.iter().filter(|(_, it)| it.contains(&name)).map(|(name, _)| *name).collect();
        assert_eq!(known.groups, direct, "seed {seed}: {name}");
    }
}
