//! The store's administrative side, faked: it keeps what it is told, refuses what it does not know, and remembers who asked.

use super::NOW_MS;
use super::store::{Answer, FakeStore};
use domain::Secret;
use domain::settings::Settings;
use proto::user_store::admin_server::Admin;
use proto::user_store::*;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Admin for FakeStore {
    async fn list_users(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersReply> {
        self.up()?;
        let request = request.into_inner();
        let facts = self.facts.lock().expect("a lock");
        let after = facts.users.iter().filter(|user| user.username > request.after);
        let label = |user: &UserSummary| request.user_group.is_empty() || user.user_group == request.user_group;
        let problem = |user: &UserSummary| !request.sync_problem || !user.sync_problem.is_empty();
        let users = after.filter_map(|user| user.detail().user);
        let mut users: Vec<UserSummary> = users.filter(label).filter(problem).collect();
        let more = users.len() > request.limit as usize;
        users.truncate(request.limit as usize);
        let next = users.last().filter(|_| more).map(|user| user.username.clone()).unwrap_or_default();
        Ok(Response::new(ListUsersReply { users, next }))
    }
    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<UserDetail> {
        self.detail(&request.get_ref().name)
    }
    async fn known_users(&self, request: Request<KnownUsersRequest>) -> Answer<KnownUsersReply> {
        self.up()?;
        let ann = super::directory::object_id(1);
        let known = request.into_inner().object_ids.into_iter().filter(|id| *id == ann).map(|object_id| KnownUser {
            object_id,
            user_id: self.user_id("ann"),
            username: "ann".into(),
            sync_item: "staff".into(),
            state: "enabled".into(),
        });
        Ok(Response::new(KnownUsersReply { users: known.collect() }))
    }
    async fn set_user_state(&self, request: Request<SetUserStateRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        if !matches!(request.expected_revision, 0 | 7) {
            return Err(Status::aborted("the user has another revision"));
        }
        self.set_state(&request.user_id, &request.state);
        self.note(format!("state {} {} by {}: {}", request.user_id, request.state, request.actor, request.reason));
        self.detail(&request.user_id)
    }
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        let phone = request.more.and_then(|more| more.phone).unwrap_or_default();
        self.note(format!("create {} {} {phone} by {}", request.username, request.last_name, request.actor));
        self.detail("ann")
    }
    async fn unlock_user(&self, request: Request<UnlockUserRequest>) -> Answer<UserDetail> {
        self.note(format!("unlock by {}", request.get_ref().actor));
        self.detail(&request.get_ref().user_id)
    }
    async fn revoke_factor(&self, request: Request<RevokeFactorRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!("revoke {} by {}", request.factor_id, request.actor));
        self.change(&request.user_id, |user| {
            user.factors.retain(|factor| factor.factor_id != request.factor_id);
            user.more.devices.retain(|device| device.device_id != request.factor_id);
        });
        self.detail(&request.user_id)
    }
    async fn invite(&self, request: Request<InviteRequest>) -> Answer<InviteReply> {
        self.up()?;
        self.note(format!("invite {} h by {}", request.get_ref().life_hours, request.get_ref().actor));
        let code = Some(Secret::from("K7QM-2Z9P").into());
        Ok(Response::new(InviteReply { code, expires_unix_ms: NOW_MS + 172_800_000 }))
    }
    async fn export_settings(&self, _: Request<ExportSettingsRequest>) -> Answer<ExportSettingsReply> {
        self.up()?;
        Ok(Response::new(ExportSettingsReply { revision: 41, document: self.document.lock().expect("a lock").clone() }))
    }
    async fn apply_settings(&self, request: Request<ApplySettingsRequest>) -> Answer<ApplySettingsReply> {
        self.up()?;
        let request = request.into_inner();
        let names: Vec<&str> = request.secrets.keys().map(String::as_str).collect();
        self.note(format!("apply dry_run={} by {} with {names:?}", request.dry_run, request.actor));
        let comparable = |text: &str| toml::from_str::<Settings>(text).ok().map(|it| Settings { revision: None, ..it });
        let now = comparable(&self.document.lock().expect("a lock"));
        let next = comparable(&request.document);
        let takes_effect = self.takes_effect.load(Ordering::SeqCst) && next.is_some();
        let unchanged = takes_effect && now == next;
        let behind = request.document.contains("revision = 40");
        let mut refused = self.refusals.lock().expect("a lock").clone();
        let weaker = self.weaker.lock().expect("a lock").clone();
        if !weaker.is_empty() && request.needs_reason && !request.dry_run && request.reason.is_empty() {
            refused.push(format!("reason: is missing; say why security is weakened by {}", weaker.join(", ")));
        }
        if !request.dry_run && refused.is_empty() {
            self.applied.lock().expect("a lock").push(request.document.clone());
            if !request.reason.is_empty() {
                self.note(format!("because {}", request.reason));
            }
            if takes_effect {
                self.document.lock().expect("a lock").clone_from(&request.document);
            }
        }
        let errors = match request.document.contains("colour") {
            _ if behind => vec!["revision: found 40; the settings are at 41".to_owned()],
            true => vec!["line 1: colour: unknown; nearest: company".to_owned()],
            false => refused,
        };
        let generated = HashMap::from([("client.vpn.secret".to_owned(), Secret::from("s3cret").into())]);
        Ok(Response::new(ApplySettingsReply {
            revision: 42,
            changes: if unchanged { Vec::new() } else { vec!["added client.vpn".into()] },
            warnings: self.warnings.lock().expect("a lock").clone(),
            weaker,
            errors,
            generated,
            changed_directories: self.changed_directories.lock().expect("a lock").clone(),
            ..ApplySettingsReply::default()
        }))
    }
    async fn rotate_client_secret(&self, _: Request<RotateClientSecretRequest>) -> Answer<RotateClientSecretReply> {
        Err(Status::unimplemented(""))
    }
    async fn observe_client(&self, _: Request<ObserveClientRequest>) -> Answer<ObserveClientReply> {
        Err(Status::unimplemented(""))
    }
    async fn list_clients(&self, request: Request<ListClientsRequest>) -> Answer<ListClientsReply> {
        self.up()?;
        let report = ClientReport {
            client: "vpn".into(),
            last_seen_unix_ms: NOW_MS,
            protocols: vec!["pap".into()],
            signed: 7,
            waits_ms: 15_000,
            dropped: HashMap::from([("ma_missing".to_owned(), 3)]),
            ..ClientReport::default()
        };
        let weaknesses = self.weaknesses.lock().expect("a lock").clone();
        let vpn = ClientDetail {
            name: "vpn".into(),
            last_seen_unix_ms: NOW_MS,
            learned_message_authenticator: "yes".into(),
            previous_secret_until_unix_ms: NOW_MS + 1000,
            reports: vec![NodeReport { node: "node-1".into(), at_unix_ms: NOW_MS, report: Some(report) }],
            warnings: weaknesses.iter().cloned().chain(["gives up after 15 s".to_owned()]).collect(),
            weaknesses,
            ..ClientDetail::default()
        };
        let gitlab = ClientDetail { name: "gitlab".into(), ..ClientDetail::default() };
        let name = request.into_inner().name;
        let wanted = [vpn, gitlab].into_iter().filter(|client| name.is_empty() || client.name == name);
        let at = |node: &str, state: &str| HomeServerSeen {
            node: node.into(),
            at_unix_ms: NOW_MS,
            state: state.into(),
            accounting_state: "alive".into(),
        };
        let server = |place: &str, learned: &str, warnings: &[&str], seen: Vec<HomeServerSeen>| HomeServerDetail {
            target: "homes".into(),
            place: place.into(),
            learned_message_authenticator: learned.into(),
            warnings: warnings.iter().map(|text| (*text).to_owned()).collect(),
            seen,
        };
        let home_servers = vec![
            server(
                "10.0.0.5:1812",
                "no",
                &["answers without <b>it</b>"],
                vec![at("gw-1", "alive"), at("gw-2", "dead")],
            ),
            server("radius.example:2083", "", &[], Vec::new()),
        ];
        let home_servers = if name.is_empty() { home_servers } else { Vec::new() };
        Ok(Response::new(ListClientsReply { clients: wanted.collect(), home_servers }))
    }
    async fn list_accounting(&self, request: Request<ListAccountingRequest>) -> Answer<ListAccountingReply> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!(
            "accounting of {:?} {:?} {:?} before {}",
            request.client, request.username, request.session_id, request.before
        ));
        let last = if request.before == 0 { 250 } else { request.before - 1 };
        let record = |number: u64| AccountingRecord {
            client: "vpn".into(),
            at_unix_ms: NOW_MS,
            status: "Stop".into(),
            session_id: format!("s{number}"),
            input_octets: 5 << 32,
            ..AccountingRecord::default()
        };
        let records: Vec<_> = (1..=last).rev().take(request.limit as usize).map(record).collect();
        let left = last.saturating_sub(request.limit.into());
        Ok(Response::new(ListAccountingReply { records, next: if left > 0 { left + 1 } else { 0 } }))
    }
    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Answer<ListAuditReply> {
        self.up()?;
        let request = request.into_inner();
        let event = |sequence| AuditEvent { sequence, at_unix_ms: NOW_MS, ..AuditEvent::default() };
        let events = (request.after + 1..=250).take(request.limit as usize).map(event).collect();
        Ok(Response::new(ListAuditReply { events, last: 250 }))
    }
    async fn verify_audit(&self, _: Request<VerifyAuditRequest>) -> Answer<VerifyAuditReply> {
        Err(Status::unimplemented(""))
    }
    async fn list_checkpoints(&self, _: Request<ListCheckpointsRequest>) -> Answer<ListCheckpointsReply> {
        Err(Status::unimplemented(""))
    }
    async fn create_api_key(&self, _: Request<CreateApiKeyRequest>) -> Answer<CreateApiKeyReply> {
        Err(Status::unimplemented(""))
    }
    async fn list_api_keys(&self, _: Request<ListApiKeysRequest>) -> Answer<ListApiKeysReply> {
        self.up()?;
        let revoked = self.revoked_key.lock().expect("a lock").clone();
        let key = |role: domain::Role| ApiKeySummary {
            name: format!("test-{}", role.code()),
            role: role.code().into(),
            expires_unix_ms: NOW_MS + 86_400_000,
            ..ApiKeySummary::default()
        };
        let keys = domain::Role::ALL.into_iter().map(key).filter(|key| key.name != revoked);
        Ok(Response::new(ListApiKeysReply { keys: keys.collect() }))
    }
    async fn revoke_api_key(&self, _: Request<RevokeApiKeyRequest>) -> Answer<RevokeApiKeyReply> {
        Err(Status::unimplemented(""))
    }
    async fn sync_status(&self, _: Request<SyncStatusRequest>) -> Answer<SyncStatusReply> {
        self.up()?;
        let sources = vec![
            SyncSource {
                directory: "corp".into(),
                feed: "syncrepl".into(),
                base: "dc=corp,dc=example".into(),
                offers: vec!["syncrepl: yes".into()],
                full_unix_ms: NOW_MS,
                next_unix_ms: NOW_MS + 300_000,
                users: 412,
                pins: vec![SourcePin {
                    sync_item: "staff".into(),
                    kind: "group".into(),
                    distinguished_name: "cn=staff,dc=corp,dc=example".into(),
                    object_id: "entryUUID:00000000-0000-0000-0000-000000000001".into(),
                }],
                ..SyncSource::default()
            },
            SyncSource {
                directory: "second".into(),
                waits_for: "no run was asked for yet".into(),
                ..SyncSource::default()
            },
        ];
        let items = [("staff", 400), ("rest", 12)];
        let run = SyncRun {
            run_id: "r1".into(),
            directory: "corp".into(),
            mode: "full".into(),
            why: "asked for".into(),
            feed: "syncrepl".into(),
            state: "parked".into(),
            parked: 6,
            parked_why: "6 users are more than the 5 of sync.approval_over_users".into(),
            items: items.map(|(item, users)| ItemCount { sync_item: item.into(), users }).into(),
            problems: 7,
            unusable: vec![UnusableValue {
                entry: "cn=ann <b>".into(),
                attribute: "mail".into(),
                why: "is no mail address".into(),
            }],
            ..SyncRun::default()
        };
        let approval = Approval {
            approval_id: "a1".into(),
            directory: "corp".into(),
            users: 250,
            why: "the sync item staff has nobody any more".into(),
            ..Approval::default()
        };
        let mut runs = self.runs.lock().expect("a lock").clone();
        runs.push(run);
        runs.push(SyncRun {
            run_id: "r0".into(),
            directory: "second".into(),
            mode: "incremental".into(),
            why: "the feed goes on".into(),
            state: "incomplete".into(),
            error: "dc1 did not answer".into(),
            repeats: 3,
            ..SyncRun::default()
        });
        let approvals = vec![approval];
        Ok(Response::new(SyncStatusReply { epoch: 3, leader: "node-1".into(), sources, runs, approvals }))
    }
    /// Three runs, or the one of the status that is asked for.
    async fn list_sync_runs(&self, request: Request<ListSyncRunsRequest>) -> Answer<ListSyncRunsReply> {
        self.up()?;
        let request = request.into_inner();
        if !request.run_id.is_empty() {
            let mut runs = self.sync_status(Request::new(SyncStatusRequest {})).await?.into_inner().runs;
            runs.retain(|run| run.run_id == request.run_id);
            return Ok(Response::new(ListSyncRunsReply { runs, next: String::new() }));
        }
        let first = request.after.parse().map_or(1, |last: u32| last + 1);
        let run = |number: u32| SyncRun { run_id: format!("r{number}"), ..SyncRun::default() };
        let runs: Vec<SyncRun> = (first..=3).take(request.limit as usize).map(run).collect();
        let last = first + runs.len() as u32 - 1;
        let next = if last < 3 { last.to_string() } else { String::new() };
        Ok(Response::new(ListSyncRunsReply { runs, next }))
    }
    async fn sync_changes(&self, request: Request<SyncChangesRequest>) -> Answer<SyncChangesReply> {
        self.up()?;
        let request = request.into_inner();
        let page = (request.after + 1..=250).take(request.limit as usize);
        let changes = page.map(|number| SyncChange {
            number,
            username: format!("user{number:03}"),
            what: "added".into(),
            detail: String::new(),
        });
        Ok(Response::new(SyncChangesReply { changes: changes.collect() }))
    }
    async fn list_approval_users(&self, request: Request<ListApprovalUsersRequest>) -> Answer<ListApprovalUsersReply> {
        self.up()?;
        let request = request.into_inner();
        let names = (1..=250).map(|number| format!("user{number:03}")).filter(|name| *name > request.after);
        let users = names.take(request.limit as usize).map(|username| ApprovalUser {
            distinguished_name: format!("uid={username},dc=corp,dc=example"),
            username,
            action: "disable".into(),
            why: "deleted in the directory".into(),
        });
        let users: Vec<ApprovalUser> = users.collect();
        let next = users.last().map(|user| user.username.clone()).filter(|name| name != "user250").unwrap_or_default();
        Ok(Response::new(ListApprovalUsersReply { users, next }))
    }
    async fn request_sync(&self, request: Request<RequestSyncRequest>) -> Answer<RequestSyncReply> {
        self.up()?;
        let request = request.into_inner();
        if request.looked_at == "old" {
            return Err(Status::failed_precondition(
                "the sync items were changed since the list was looked at; look again",
            ));
        }
        let accepted = if request.accept_source { ", source accepted" } else { "" };
        let listed = if request.looked_at.is_empty() { "" } else { " as " };
        let items = |text: &String| serde_json::from_str::<domain::settings::SyncItem>(text).expect("an item").name;
        let draft: Vec<String> = request.draft_items.iter().map(|text| items(text).to_string()).collect();
        let draft = if draft.is_empty() { String::new() } else { format!(" of {}", draft.join(", ")) };
        let RequestSyncRequest { only, mode, actor, looked_at, .. } = request;
        self.note(format!("sync {only:?} {mode}{accepted}{listed}{looked_at}{draft} by {actor}"));
        Ok(Response::new(RequestSyncReply {}))
    }
    async fn decide_approval(&self, request: Request<DecideApprovalRequest>) -> Answer<DecideApprovalReply> {
        self.up()?;
        let request = request.into_inner();
        if request.approve && request.usernames == ["robot"] && request.reason.is_empty() {
            return Err(Status::invalid_argument("reason: is missing; say why these users are to be exempt"));
        }
        if request.approval_id == "own" {
            return Err(Status::permission_denied("another administrator has to decide"));
        }
        self.note(format!("decide {} {:?} by {}", request.approve, request.usernames, request.actor));
        Ok(Response::new(DecideApprovalReply { applied: 6 }))
    }

    async fn block_user(&self, request: Request<BlockUserRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        let until = request.until_unix_ms;
        self.note(format!(
            "block until {until} devices {} by {}: {}",
            request.remove_devices, request.actor, request.reason
        ));
        self.change(&request.user_id, |user| {
            user.more.block = Some(BlockSummary {
                until_unix_ms: if until == 0 { NOW_MS + 90 * 86_400_000 } else { until },
                since_unix_ms: NOW_MS,
                by: request.actor,
                text: request.reason,
            });
            if request.remove_devices {
                user.more.devices.clear();
            }
        });
        self.detail(&request.user_id)
    }

    async fn unblock_user(&self, request: Request<UnblockUserRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!("unblock by {}: {}", request.actor, request.reason));
        self.change(&request.user_id, |user| user.more.block = None);
        self.detail(&request.user_id)
    }

    async fn exempt_user(&self, request: Request<ExemptUserRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!("exempt until {} by {}", request.until_unix_ms, request.actor));
        self.change(&request.user_id, |user| {
            user.more.exempt_clients = request.clients;
            user.more.exempt_until_unix_ms = request.until_unix_ms;
            user.more.exempt_text = request.reason;
        });
        self.detail(&request.user_id)
    }

    async fn edit_user(&self, request: Request<EditUserRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        if !matches!(request.expected_revision, 0 | 7) {
            return Err(Status::aborted("the user has another revision"));
        }
        self.note(format!("edit by {}", request.actor));
        self.change(&request.user_id, |user| {
            let more = &mut user.more;
            let fields = [
                (request.phone, &mut more.phone),
                (request.phone_extension, &mut more.phone_extension),
                (request.backup_phone, &mut more.backup_phone),
                (request.backup_extension, &mut more.backup_extension),
                (request.default_method, &mut more.default_method),
                (request.language_call, &mut more.language_call),
                (request.language_text, &mut more.language_text),
                (request.language_app, &mut more.language_app),
                (request.language_portal, &mut more.language_portal),
                (request.language_code, &mut more.language_code),
            ];
            for (new, field) in fields {
                *field = new.unwrap_or_else(|| field.clone());
            }
            if request.set_allowed_methods {
                more.allowed_methods = request.allowed_methods;
            }
            if let Some(required) = request.pin_required {
                more.pin.get_or_insert_default().required = required;
            }
        });
        self.detail(&request.user_id)
    }

    async fn start_bypass(&self, request: Request<StartBypassRequest>) -> Answer<StartBypassReply> {
        self.up()?;
        let request = request.into_inner();
        let expires_unix_ms = NOW_MS + i64::from(request.seconds) * 1000;
        self.note(format!(
            "bypass {} s at {:?} by {}: {}",
            request.seconds, request.client, request.actor, request.reason
        ));
        self.change(&request.user_id, |user| {
            user.more.bypasses.push(BypassSummary {
                bypass_id: "bypass-1".into(),
                kind: "bypass".into(),
                client: request.client,
                expires_unix_ms,
                uses_left: 1,
                by: request.actor,
                text: request.reason,
            });
        });
        Ok(Response::new(StartBypassReply { bypass_id: "bypass-1".into(), expires_unix_ms }))
    }

    async fn end_bypass(&self, request: Request<EndBypassRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        let known = self
            .user(&request.user_id)
            .is_some_and(|user| user.more.bypasses.iter().any(|bypass| bypass.bypass_id == request.bypass_id));
        if !known {
            return Err(Status::not_found("there is no such bypass"));
        }
        self.note(format!("end {} by {}", request.bypass_id, request.actor));
        self.change(&request.user_id, |user| {
            user.more.bypasses.retain(|bypass| bypass.bypass_id != request.bypass_id);
        });
        self.detail(&request.user_id)
    }

    async fn issue_temporary_code(
        &self,
        request: Request<IssueTemporaryCodeRequest>,
    ) -> Answer<IssueTemporaryCodeReply> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!("code {} uses {} s by {}: {}", request.uses, request.seconds, request.actor, request.reason));
        Ok(Response::new(IssueTemporaryCodeReply {
            code: Some(Secret::from("123456789").into()),
            expires_unix_ms: NOW_MS + i64::from(request.seconds) * 1000,
        }))
    }

    async fn reset_pin(&self, request: Request<ResetPinRequest>) -> Answer<ResetPinReply> {
        self.up()?;
        let request = request.into_inner();
        let given = request.pin.map(Secret::from);
        self.note(format!("pin given {} by {}", given.is_some(), request.actor));
        Ok(Response::new(match given {
            None => ResetPinReply { pin: Some(Secret::from("739164").into()), rule: String::new() },
            Some(pin) if pin.expose() == b"1111" => ResetPinReply { pin: None, rule: "one digit repeated".into() },
            Some(_) => ResetPinReply::default(),
        }))
    }

    async fn set_answers(&self, request: Request<SetAnswersRequest>) -> Answer<UserDetail> {
        self.up()?;
        let request = request.into_inner();
        if request.questions.len() != request.answers.len() {
            return Err(Status::invalid_argument("an answer a question"));
        }
        self.note(format!("{} answers by {}", request.answers.len(), request.actor));
        self.change(&request.user_id, |user| user.more.questions = request.questions);
        self.detail(&request.user_id)
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Answer<ListTokensReply> {
        self.up()?;
        let request = request.into_inner();
        let facts = self.facts.lock().expect("a lock");
        let wanted = facts.tokens.iter().filter(|token| {
            let state = match request.state.as_str() {
                "assigned" => !token.user_id.is_empty(),
                "unassigned" => token.user_id.is_empty(),
                _ => true,
            };
            state
                && token.serial > request.after
                && token.serial.to_lowercase().contains(&request.search.to_lowercase())
        });
        let mut tokens: Vec<TokenSummary> = wanted.cloned().collect();
        let more = tokens.len() > request.limit as usize;
        tokens.truncate(request.limit as usize);
        let next = tokens.last().filter(|_| more).map(|token| token.serial.clone()).unwrap_or_default();
        Ok(Response::new(ListTokensReply { tokens, next }))
    }

    /// In order: new serials are added, known ones changed where that is wanted, and a name nobody has is refused.
    async fn import_tokens(&self, request: Request<ImportTokensRequest>) -> Answer<ImportReply> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!(
            "import {} tokens dry_run={} overwrite={} by {}",
            request.rows.len(),
            request.dry_run,
            request.overwrite,
            request.actor
        ));
        let mut reply = ImportReply { applied: !request.dry_run, ..ImportReply::default() };
        for row in request.rows {
            assert!(!Secret::from(row.seed.unwrap_or_default()).is_empty(), "a seed arrives");
            let owner = self.user(&row.username);
            let mut facts = self.facts.lock().expect("a lock");
            let known = facts.tokens.iter().any(|token| token.serial == row.serial);
            let verdict = match (known, request.overwrite) {
                _ if !row.username.is_empty() && owner.is_none() => "refused",
                (false, _) => "add",
                (true, true) => "change",
                (true, false) => "unchanged",
            };
            match verdict {
                "add" => reply.added += 1,
                "change" => reply.changed += 1,
                "unchanged" => reply.unchanged += 1,
                _ => reply.refused += 1,
            }
            if verdict == "add" && !request.dry_run {
                let owner = owner.map(|user| (user.id, user.username)).unwrap_or_default();
                facts.tokens.push(TokenSummary {
                    factor_id: format!("token-{}", row.serial),
                    serial: row.serial.clone(),
                    kind: row.kind,
                    algorithm: row.algorithm,
                    digits: row.digits,
                    period_seconds: row.period_seconds,
                    manufacturer: row.manufacturer,
                    model: row.model,
                    pending: !owner.0.is_empty(),
                    user_id: owner.0,
                    username: owner.1,
                    created_unix_ms: NOW_MS,
                    last_used_unix_ms: 0,
                });
                facts.tokens.sort_by(|one, other| one.serial.cmp(&other.serial));
            }
            let text = if verdict == "refused" { "nobody has this name" } else { "" };
            reply.verdicts.push(RowVerdict {
                row: row.row,
                name: row.serial,
                verdict: verdict.into(),
                text: text.into(),
            });
        }
        Ok(Response::new(reply))
    }

    async fn assign_token(&self, request: Request<AssignTokenRequest>) -> Answer<TokenSummary> {
        self.up()?;
        let request = request.into_inner();
        let owner = self.user(&request.user_id).ok_or_else(|| Status::not_found("there is no such user"))?;
        self.note(format!("assign {} by {}", request.serial, request.actor));
        self.token(&request.serial, |token| {
            if !token.user_id.is_empty() {
                return Err(Status::failed_precondition("the token is somebody's"));
            }
            (token.user_id, token.username, token.pending) = (owner.id, owner.username, true);
            Ok(())
        })
    }

    async fn unassign_token(&self, request: Request<UnassignTokenRequest>) -> Answer<TokenSummary> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!("unassign {} by {}", request.serial, request.actor));
        self.token(&request.serial, |token| {
            (token.user_id, token.username, token.pending) = (String::new(), String::new(), false);
            Ok(())
        })
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<RevokeTokenReply> {
        self.up()?;
        let request = request.into_inner();
        self.token(&request.serial, |_| Ok(()))?;
        self.note(format!("revoke token {} by {}", request.serial, request.actor));
        self.facts.lock().expect("a lock").tokens.retain(|token| token.serial != request.serial);
        Ok(Response::new(RevokeTokenReply {}))
    }

    async fn import_users(&self, request: Request<ImportUsersRequest>) -> Answer<ImportReply> {
        self.up()?;
        let request = request.into_inner();
        let mut reply = ImportReply { applied: !request.dry_run, ..ImportReply::default() };
        for row in request.rows {
            let mut fields: Vec<String> = row.fields.iter().map(|(field, value)| format!("{field}={value}")).collect();
            fields.sort();
            self.note(format!(
                "import {} {} dry_run={} by {}",
                row.username,
                fields.join(" "),
                request.dry_run,
                request.actor
            ));
            let known = self.user(&row.username).is_some();
            let (verdict, text) = if known { ("change", "") } else { ("refused", "nobody has this name") };
            if known {
                reply.changed += 1
            } else {
                reply.refused += 1
            }
            reply.verdicts.push(RowVerdict {
                row: row.row,
                name: row.username,
                verdict: verdict.into(),
                text: text.into(),
            });
        }
        Ok(Response::new(reply))
    }

    async fn list_prompts(&self, request: Request<ListPromptsRequest>) -> Answer<GetPromptsReply> {
        self.up()?;
        let request = request.into_inner();
        let users = self.facts.lock().expect("a lock").users.clone();
        let wanted = users.into_iter().filter(|user| request.user_id.is_empty() || user.id == request.user_id);
        let prompts = wanted.flat_map(|user| {
            ["", "approved"].map(|outcome| Prompt {
                prompt_id: format!("prompt-{}-{outcome}", user.username),
                user_id: user.id.clone(),
                username: user.username.clone(),
                method: "push".into(),
                number: "42".into(),
                outcome: outcome.into(),
                begun_unix_ms: NOW_MS,
                expires_unix_ms: NOW_MS + 110_000,
                ..Prompt::default()
            })
        });
        let prompts = prompts.filter(|prompt| !request.open_only || prompt.outcome.is_empty());
        Ok(Response::new(GetPromptsReply { prompts: prompts.take(request.limit as usize).collect() }))
    }

    async fn list_remembered(&self, request: Request<ListRememberedRequest>) -> Answer<ListRememberedReply> {
        self.up()?;
        let user_id = request.into_inner().user_id;
        let facts = self.facts.lock().expect("a lock");
        let items = facts.remembered.iter().filter(|item| user_id.is_empty() || item.user_id == user_id);
        Ok(Response::new(ListRememberedReply { items: items.cloned().collect() }))
    }

    async fn clear_remembered(&self, request: Request<ClearRememberedRequest>) -> Answer<ClearRememberedReply> {
        self.up()?;
        let request = request.into_inner();
        self.note(format!("forget {:?} by {}", request.client, request.actor));
        let mut facts = self.facts.lock().expect("a lock");
        let before = facts.remembered.len();
        facts.remembered.retain(|item| {
            let user = request.user_id.is_empty() || item.user_id == request.user_id;
            let client = request.client.is_empty() || item.client == request.client;
            !(user && client)
        });
        Ok(Response::new(ClearRememberedReply { cleared: (before - facts.remembered.len()) as u32 }))
    }

    async fn list_messages(&self, request: Request<ListMessagesRequest>) -> Answer<ListMessagesReply> {
        self.up()?;
        let message = |number: u32| MessageSummary {
            message_id: format!("message-{number}"),
            channel: "sms".into(),
            destination: "\u{2022}\u{2022}\u{2022}\u{2022} 1820".into(),
            state: "delivered".into(),
            at_unix_ms: NOW_MS,
            ..MessageSummary::default()
        };
        Ok(Response::new(ListMessagesReply { messages: (1..=request.get_ref().limit.min(3)).map(message).collect() }))
    }

    async fn key_status(&self, _: Request<KeyStatusRequest>) -> Answer<KeyStatusReply> {
        self.up()?;
        let last = self.facts.lock().expect("a lock").keys + 1;
        let keys = (1..=last).map(|key_id| KeySummary {
            key_id,
            created_unix_ms: NOW_MS,
            current: key_id == last,
            fields: 40,
        });
        Ok(Response::new(KeyStatusReply { keys: keys.collect() }))
    }

    async fn rotate_keys(&self, request: Request<RotateKeysRequest>) -> Answer<KeyStatusReply> {
        self.up()?;
        self.note(format!("rotate by {}", request.get_ref().actor));
        self.facts.lock().expect("a lock").keys += 1;
        self.key_status(Request::new(KeyStatusRequest {})).await
    }
}

impl FakeStore {
    /// Changes the token of this serial, if the change allows it.
    fn token(
        &self,
        serial: &str,
        change: impl FnOnce(&mut TokenSummary) -> Result<(), Status>,
    ) -> Answer<TokenSummary> {
        let mut facts = self.facts.lock().expect("a lock");
        let found = facts.tokens.iter_mut().find(|token| token.serial == serial);
        let token = found.ok_or_else(|| Status::not_found("there is no such token"))?;
        change(token)?;
        Ok(Response::new(token.clone()))
    }

    /// A hardware token of nobody.
    pub fn add_token(&self, serial: &str) {
        self.facts.lock().expect("a lock").tokens.push(TokenSummary {
            factor_id: format!("token-{serial}"),
            serial: serial.into(),
            kind: "hotp".into(),
            algorithm: "SHA1".into(),
            digits: 6,
            created_unix_ms: NOW_MS,
            ..TokenSummary::default()
        });
    }

    pub fn remember(&self, name: &str, client: &str) {
        let user = self.user(name).expect("a user");
        self.facts.lock().expect("a lock").remembered.push(RememberedSummary {
            user_id: user.id,
            username: user.username,
            client: client.into(),
            place: "192.0.2.7".into(),
            created_unix_ms: NOW_MS,
            expires_unix_ms: NOW_MS + 300_000,
        });
    }

    pub fn give_device(&self, name: &str, device_id: &str) {
        self.change(name, |user| {
            user.more.devices.push(DeviceSummary {
                device_id: device_id.into(),
                kind: "web".into(),
                name: "Ann's phone".into(),
                state: "active".into(),
                created_unix_ms: NOW_MS,
                has_push: true,
                ..DeviceSummary::default()
            });
        });
    }
}
