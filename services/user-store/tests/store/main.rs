//! One suite, two databases. Every rule is a function over a fresh store; on SQLite each is a test of its own, on
//! PostgreSQL they run one after the other over one real server, each in a schema of its own. Without PostgreSQL that
//! test fails: a rule that was not tried is not known to hold.

mod admin;
mod at_rest;
mod audit;
mod commit;
mod devices;
mod epoch;
mod facts;
mod fixture;
mod keys;
mod notes;
mod password_tries;
mod people;
mod portal;
mod prompts;
mod radius;
mod remembered;
mod secrets;
mod sent_codes;
mod settings;
mod sync;
mod sync_expiry;
mod sync_groups;
mod sync_lately;
mod sync_model;
mod sync_phones;
mod sync_pins;
mod sync_problems;
mod sync_profile;
mod sync_runs;
mod sync_unusable;
mod tokens;
mod upgrade;

use fixture::Fixture;
use futures::{FutureExt, future::LocalBoxFuture};
use proto::user_store::{AllowResult, commit_server::Commit};
use std::panic::AssertUnwindSafe;

type Rule = (&'static str, fn(Fixture) -> LocalBoxFuture<'static, ()>);

macro_rules! rules {
    ($($module:ident :: $rule:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $rule() {
                    super::$module::$rule(super::Fixture::sqlite().await).await;
                }
            )*
        }

        const RULES: &[Rule] = &[$((stringify!($rule), |fixture| Box::pin($module::$rule(fixture)))),*];
    };
}

rules! {
    admin::a_block_has_a_reason_an_end_and_a_way_back,
    admin::whoever_is_bound_is_shut_out_by_a_block_a_state_and_by_being_gone,
    admin::a_block_withdraws_the_prompt_that_waits,
    admin::an_exemption_names_clients_that_exist_and_may_end,
    admin::an_edit_changes_what_it_names_and_ends_remembered_logins_where_it_concerns_a_factor,
    admin::a_bypass_has_a_reason_an_end_and_stands_alone,
    admin::a_temporary_code_is_shown_once_and_kept_as_a_hash,
    admin::an_unlock_opens_everything_that_counts_tries,
    admin::users_of_a_file_are_known_ones_and_each_row_gets_its_verdict,
    admin::the_state_of_a_file_disables_enables_and_exempts_and_the_directory_keeps_its_word,
    admin::remembered_logins_and_messages_are_listed_and_cleared,
    admin::a_pin_given_by_somebody_else_is_random_or_keeps_the_rules_and_is_changed_at_its_first_use,
    admin::answers_are_compared_as_people_write_them_and_kept_as_hashes,
    admin::a_phone_or_passkey_is_revoked_like_any_factor,
    keys::keys_rotate_while_logins_run_on_two_nodes_and_none_fails,
    keys::hashes_outlive_every_data_key,
    keys::a_field_that_does_not_open_keeps_its_key,
    keys::a_key_that_does_not_open_here_keeps_no_other_from_being_read,
    keys::a_rotation_gives_every_ring_a_new_key_with_overlap,
    tokens::a_file_of_tokens_gets_a_verdict_a_row_and_the_same_file_changes_nothing,
    tokens::a_token_is_one_persons_and_goes_back_to_the_stock_with_its_marks,
    tokens::a_large_file_is_one_transaction_and_one_too_large_is_refused,
    at_rest::a_store_opens_again_with_its_key_and_with_no_other,
    at_rest::a_store_without_its_key_file_gets_no_new_one,
    at_rest::a_key_file_that_others_can_read_stops_the_start,
    at_rest::the_master_key_is_changed_by_a_new_line_on_top,
    at_rest::a_seed_moved_to_another_user_opens_for_nobody,
    at_rest::no_secret_stands_in_the_database_in_the_clear,
    at_rest::a_database_file_is_its_owners_from_the_beginning_and_keeps_nothing_that_is_gone,
    audit::an_altered_deleted_or_inserted_event_is_named,
    audit::what_the_chain_alone_does_not_show_a_checkpoint_does,
    audit::a_checkpoint_is_made_when_something_came_and_by_the_last_stop,
    audit::the_service_itself_can_neither_change_nor_delete_an_event,
    audit::events_are_listed_by_attempt_user_client_and_kind,
    audit::hostile_text_in_an_event_is_stored_escaped,
    commit::one_code_sent_two_hundred_times_at_once_is_accepted_once,
    commit::the_same_request_asking_again_gets_the_first_result,
    commit::a_code_spent_before_the_bind_stays_spent,
    commit::parallel_tries_never_exceed_the_free_ones,
    commit::with_one_try_left_a_right_code_beside_a_wrong_one_counts_only_if_it_came_first,
    commit::parallel_codes_never_get_more_than_the_free_tries,
    commit::a_try_that_let_in_is_heard_again_and_not_counted_again,
    commit::whoever_logs_in_beside_others_is_let_in_and_one_code_lets_in_once,
    commit::a_success_sets_the_counter_back_and_an_unlock_too,
    commit::a_code_of_one_token_sets_back_the_count_of_the_users_other_one_and_of_nobody_elses,
    password_tries::no_number_of_gateways_at_once_gets_past_the_limit,
    password_tries::an_administrator_opens_what_guesses_have_closed,
    password_tries::what_names_nobody_or_ends_in_nothing_is_refused,
    commit::ten_thousand_tries_without_the_password_lock_nobody,
    commit::a_disabled_or_revoked_user_is_not_let_in_by_a_commit_under_way,
    commit::an_allow_and_its_event_are_one,
    commit::a_group_with_one_bad_operation_fails_only_that_one,
    at_rest::what_was_sealed_for_one_user_opens_for_no_other,
    devices::a_device_is_activated_once_by_its_code_in_time,
    devices::nothing_that_was_begun_with_the_password_alone_outlives_the_first_method,
    devices::wrong_codes_for_a_serial_void_it_and_there_are_not_too_many_devices,
    devices::a_passkey_counts_after_its_ceremony_and_lets_its_own_user_in,
    epoch::each_change_of_v52_ends_what_is_remembered_and_no_other_change_does,
    devices::a_phones_passkey_counts_in_the_commit_of_its_answer,
    facts::the_facts_of_a_login_are_whole,
    facts::groups_are_found_through_groups_and_circles_end,
    facts::a_name_is_known_in_every_form_and_state_of_whoever_has_it,
    facts::whether_a_name_is_anybodys_is_found_by_keys,
    facts::who_asks_together_hears_their_own_facts_and_nobody_elses,
    facts::who_is_erased_leaves_nothing_behind_but_their_token_with_its_marks,
    facts::one_broken_seed_or_step_keeps_nothing_else_from_going,
    facts::who_cannot_be_erased_yet_stays_whole_and_keeps_nobody_else_from_going,
    facts::time_takes_away_what_is_over,
    notes::what_is_seen_is_new_to_one_caller_alone_until_it_is_forgotten,
    notes::a_key_that_nodes_make_at_once_is_one_key,
    notes::a_receipt_finds_its_message_and_never_says_less_than_is_known,
    notes::a_mail_goes_out_once_and_is_tried_again_within_its_time,
    notes::a_mail_that_does_not_open_is_given_up_and_holds_up_no_other,
    notes::a_gateway_tells_of_logins_it_let_in_and_of_nothing_else,
    notes::an_outage_is_told_once_in_ten_minutes_a_client,
    notes::a_gateway_lets_nobody_in_whose_attempt_ended_otherwise,
    notes::a_token_is_put_right_and_never_set_back,
    notes::the_settings_come_with_the_stores_time_of_now,
    people::a_user_made_by_hand_is_the_entrys_that_first_signs_in_under_the_name,
    people::a_user_made_by_hand_is_the_entrys_that_a_run_finds_and_nobodys_where_there_are_several,
    people::entries_of_a_directory_are_told_from_users_here,
    people::a_factor_counts_only_after_a_code_of_it_was_proven,
    people::a_user_is_found_by_every_form_of_the_name_and_never_by_two,
    people::users_are_listed_in_pages_with_search_state_and_enrolment,
    people::a_state_set_by_hand_is_audited_and_told_on_the_bus,
    people::who_is_removed_is_blocked_until_erased_and_unknown_afterwards,
    portal::a_session_changes_only_from_the_revision_that_was_read,
    portal::what_takes_trust_away_ends_the_sessions_of_its_user_alone,
    portal::an_api_key_is_known_by_its_hash_until_it_ends,
    portal::an_invitation_has_five_tries_one_use_and_an_end,
    prompts::a_user_has_one_open_prompt_whoever_asks_at_once,
    prompts::a_prompt_is_answered_once_and_the_same_answer_hears_the_same,
    prompts::an_approval_lets_in_once,
    prompts::after_a_refusal_it_is_quiet_and_after_three_for_nothing_longer,
    prompts::what_a_device_asks_anew_has_rung_as_well,
    prompts::who_says_not_me_is_blocked_and_it_is_told_in_one_transaction,
    prompts::calls_and_messages_have_caps,
    prompts::what_a_call_has_come_to_changes_from_what_was_read,
    radius::a_former_secret_counts_until_its_end_and_for_the_radius_gateway_alone,
    radius::only_the_last_former_secret_counts_and_an_apply_or_no_overlap_ends_it,
    radius::a_former_secret_is_sealed_anew_with_the_others,
    radius::a_home_servers_secret_is_the_gateways_and_goes_to_no_other_server,
    radius::what_a_home_server_taught_is_kept_until_it_is_another,
    radius::how_it_stands_with_a_home_server_is_what_each_node_told_last,
    radius::a_node_replaces_what_it_told_and_is_forgotten_after_a_day,
    radius::not_more_nodes_are_remembered_than_there_can_be,
    radius::clients_are_shown_with_what_is_known_and_what_should_change,
    radius::a_client_is_observed_for_some_days_and_no_longer,
    radius::accounting_is_one_record_however_often_it_comes,
    radius::accounting_is_listed_in_pages_and_kept_for_its_days,
    remembered::a_login_is_remembered_for_its_place_its_epoch_and_its_time,
    remembered::what_was_remembered_by_one_rule_of_a_client_opens_nothing_by_another,
    remembered::a_user_has_sixty_four_remembered_logins_and_the_oldest_go,
    remembered::a_bypass_lets_in_once_for_its_client_in_its_time,
    secrets::a_pin_is_chosen_by_the_rules_and_none_of_the_last_comes_back,
    secrets::a_pin_is_spent_with_the_attempt_it_was_typed_in,
    secrets::wrong_pins_lock_after_the_password_and_never_before_it,
    secrets::a_try_that_locks_is_told_even_where_it_could_not_be_compared,
    secrets::a_given_pin_is_changed_at_its_first_use_and_ends_after_its_days,
    secrets::a_recovery_code_lets_in_once_and_a_new_set_ends_the_old,
    secrets::a_temporary_code_lets_in_as_often_as_it_says_and_in_its_time,
    secrets::a_code_that_was_right_before_the_password_is_used_up_whatever_the_password_is,
    secrets::nobody_who_may_not_log_in_has_a_secret_looked_at,
    sent_codes::a_sent_code_is_good_for_its_own_attempt_three_tries_and_its_time,
    sent_codes::a_newer_code_ends_the_older_and_not_too_many_are_sent,
    sent_codes::wrong_codes_of_many_texts_pause_and_lock_until_one_lets_in,
    sent_codes::a_usual_place_types_codes_of_texts_while_they_are_paused_from_elsewhere,
    sent_codes::texts_to_one_prefix_and_in_all_have_an_end,
    sent_codes::a_number_is_proven_by_its_own_code_and_then_the_users_own,
    settings::a_document_is_applied_exported_and_applied_again_without_a_change,
    settings::each_mistake_is_refused_with_its_key_and_nothing_changes,
    settings::the_same_document_again_voids_no_secret_and_reports_only_what_is_new,
    settings::a_dry_run_says_what_would_change_and_changes_nothing,
    settings::a_sync_item_is_lost_by_its_name_alone_and_who_gets_its_users_is_said,
    settings::what_weakens_security_has_a_reason_that_the_audit_keeps,
    settings::a_document_of_an_older_revision_is_refused,
    settings::each_part_sees_the_secrets_it_needs_and_no_other,
    settings::the_password_of_an_account_by_certificate_goes_to_its_gateway_and_nowhere_else,
    settings::secrets_of_what_is_removed_are_gone,
    settings::a_kept_password_goes_to_no_other_server,
    settings::the_password_of_synchronisation_goes_to_it_alone_and_to_no_other_server,
    settings::a_kept_secret_of_a_provider_goes_where_it_went_before,
    settings::a_service_account_is_pinned_once,
    settings::a_service_account_with_a_second_factor_is_warned_about,
    settings::each_method_of_a_service_account_is_warned_about,
    settings::what_a_client_taught_is_kept_until_the_client_is_another,
    settings::key_rings_belong_to_their_part_and_rotate_with_overlap,
    sync::a_leader_that_was_overtaken_writes_nothing,
    sync::a_run_ends_the_one_of_its_directory_before_and_no_other,
    sync::a_batch_applied_again_changes_nothing,
    sync::another_phone_or_mail_is_told_to_the_address_before_and_stands_masked_in_the_audit,
    sync::a_number_that_sync_changed_is_held_back_for_its_hours,
    sync::a_number_that_goes_back_within_the_hour_is_told_to_administrators,
    sync::who_is_enabled_again_within_the_hour_is_told_to_administrators,
    sync::a_feed_that_tells_everything_anew_takes_nobody_past_the_guard,
    sync::many_whom_one_run_enables_again_are_told_to_administrators_whenever_they_were_disabled,
    sync::an_id_that_comes_with_another_security_identifier_is_taken_for_nobody_known,
    sync::a_directory_without_an_item_is_run_on_request_and_the_guard_decides,
    sync::an_incomplete_read_removes_nobody,
    sync::who_is_absent_leaves_when_a_full_run_says_so_after_another_run,
    sync::nobody_is_absent_sooner_than_a_minute_after_they_were_missed,
    sync::whom_a_run_missed_before_the_clock_was_set_back_is_missed_anew,
    sync::who_is_gone_does_not_come_back_by_an_entry_with_another_security_identifier,
    sync::five_leave_and_six_wait_while_newcomers_are_added,
    sync::a_share_of_the_known_waits_from_three_users_on,
    sync::administrators_hear_of_waiting_leavers_and_of_incomplete_reads,
    sync::the_mail_about_waiting_users_leads_to_their_list,
    sync::an_approval_is_evaluated_when_it_is_given,
    sync::a_list_is_approved_only_while_it_is_of_now,
    sync::a_list_that_no_run_can_renew_says_why_and_what_helps,
    sync::an_item_that_had_users_and_has_none_waits,
    sync::leavers_are_disabled_removed_or_kept_and_come_back,
    sync::who_was_removed_and_is_back_enrols_anew,
    sync::a_principal_name_of_two_domains_of_a_forest_is_added_once_and_told,
    sync::an_id_that_two_entries_have_is_neithers,
    sync::nobody_becomes_somebody_else_by_writing_their_id,
    sync::an_entry_that_is_met_where_it_was_and_where_it_is_now_is_one,
    sync::who_was_deleted_and_is_back_enrols_anew_unless_the_item_says_otherwise,
    sync::who_was_not_disabled_for_being_gone_keeps_the_factors,
    sync::the_first_item_owns_a_user,
    sync::who_is_of_no_item_is_not_added_and_leaves_as_outside,
    sync::an_item_may_add_nobody,
    sync::the_users_of_a_removed_item_wait_for_a_full_run,
    sync::a_doubled_username_adds_neither_across_batches,
    sync_problems::a_doubled_username_is_a_problem_of_who_has_it_until_a_run_finds_it_no_longer,
    sync_problems::the_next_run_is_due_an_interval_after_the_start_of_the_last_one_that_counts,
    sync::an_account_made_again_gets_the_name_of_the_one_that_was_deleted_and_nothing_else,
    sync::the_directory_disables_and_a_hand_wins,
    sync::whoever_a_run_shuts_out_is_told_on_the_bus_at_once,
    sync_lately::few_who_leave_each_minute_by_the_schedule_are_no_way_around_the_guard,
    sync_lately::what_goes_on_to_be_incomplete_is_one_record_a_day_and_one_event,
    sync_phones::a_backup_number_that_goes_back_is_told_to_administrators,
    sync_phones::a_number_that_goes_back_over_others_within_the_hour_is_told_to_administrators,
    sync_unusable::what_of_an_entry_cannot_be_used_is_counted_with_the_run_and_the_first_are_kept,
    sync_unusable::a_preview_names_what_cannot_be_used_and_its_list_is_the_same_whatever_that_is,
    sync_unusable::what_small_runs_could_not_use_stands_in_the_record_of_them_all,
    sync_unusable::what_goes_on_to_be_incomplete_has_its_problems_once,
    sync_groups::members_of_a_group_item_are_its_users_and_nobody_else,
    sync_groups::who_comes_into_a_group_is_read_and_who_goes_is_decided_at_once,
    sync_groups::a_group_in_a_group_brings_and_takes_its_members,
    sync_groups::groups_that_lie_deeper_than_they_are_followed_make_a_run_incomplete,
    sync_groups::a_chain_of_a_hundred_thousand_groups_makes_a_run_incomplete_and_no_more,
    sync_groups::a_group_that_is_absent_once_is_still_there,
    sync_groups::the_primary_group_counts_though_it_lists_nobody,
    sync_groups::a_container_that_moved_is_read_again_with_all_below,
    sync_groups::who_was_below_a_container_that_went_out_of_sight_is_looked_for_by_id,
    sync_groups::what_a_group_made_of_a_user_is_not_taken_back_by_a_change_of_their_own_in_the_same_batch,
    sync_groups::who_has_no_name_that_can_be_used_is_disabled_and_leaves_all_the_same,
    sync_groups::many_small_runs_of_a_followed_directory_are_no_way_around_the_guard,
    sync_groups::who_lost_the_answer_to_the_end_of_a_run_is_given_it_again,
    sync_groups::the_mail_of_many_enabled_again_names_the_record_that_their_run_stands_in,
    sync_groups::small_runs_of_a_followed_directory_are_one_record_that_the_guard_counts_whole,
    sync_groups::what_is_listed_again_is_not_settled_by_who_read_it_before,
    sync_groups::six_in_an_exempt_group_are_challenged_until_somebody_approves,
    sync_groups::an_item_without_second_factor_exempts_when_that_was_decided,
    sync_groups::whom_a_filter_looks_at_by_their_groups_is_read_again_when_those_change,
    sync_groups::groups_show_their_members_whatever_is_read_first,
    sync_runs::the_position_is_stored_with_what_it_covers,
    sync_runs::the_status_says_why_no_run_begins,
    sync_runs::another_source_is_waited_for_and_told_once_a_day,
    sync_runs::a_preview_tries_items_that_are_not_applied,
    sync_runs::a_preview_writes_its_history_and_nothing_else,
    sync_runs::a_preview_lists_those_who_wait_for_approval_as_a_run_would_decide,
    sync_runs::a_preview_counts_those_who_would_be_exempt_as_a_run_does,
    sync_runs::a_preview_says_that_the_users_of_an_item_that_finds_nobody_would_wait,
    sync_runs::what_a_run_did_is_kept_for_ninety_days,
    sync_runs::runs_are_listed_page_by_page_and_those_that_did_nothing_for_a_week,
    sync_runs::thousands_wait_in_pages_and_are_decided_in_steps,
    sync_runs::nobody_approves_a_run_of_their_own_where_there_are_two,
    sync_runs::a_request_travels_whole,
    sync_runs::what_somebody_looked_at_is_compared_with_what_would_be_written,
    sync_runs::a_run_is_asked_for_by_a_list_that_can_still_hold,
    sync_runs::a_batch_has_bounds,
    sync_pins::a_group_that_is_renamed_keeps_its_users_and_another_dn_is_looked_for,
    sync_pins::what_an_item_names_is_found_anew_in_another_source_and_by_another_item_of_its_name,
    sync_expiry::an_account_that_ends_is_refused_from_that_moment_and_let_in_when_the_date_moves,
    sync_expiry::an_item_that_keeps_disabled_users_keeps_expired_ones,
    sync_profile::what_a_hand_wrote_stays_until_it_is_given_back,
    sync_profile::an_item_says_when_the_directorys_values_count,
    sync_profile::another_rule_of_the_item_counts_at_the_next_read,
    sync_profile::new_users_begin_as_their_item_says,
    sync_profile::who_is_changed_hears_of_it_where_the_item_says_so,
    sync_profile::whether_new_users_have_to_use_a_pin_the_item_says_before_the_company,
    sync_profile::a_first_pin_is_made_after_the_batch_and_mailed_once,
    sync_profile::a_first_pin_whose_making_was_cut_off_is_made_later,
    sync_profile::what_cannot_be_used_is_not_kept,
    upgrade::users_keep_their_ids_factors_and_states,
    sync_model::whatever_is_delivered_again_the_store_ends_where_the_directory_is,
}

/// Parts the rules are tried in on PostgreSQL, each over a server of its own, so that none takes long.
const PARTS: usize = 4;

mod postgresql {
    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_part_of_the_rules_holds() {
        super::every_rule_holds_on_postgresql(0).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_second_part_of_the_rules_holds() {
        super::every_rule_holds_on_postgresql(1).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_third_part_of_the_rules_holds() {
        super::every_rule_holds_on_postgresql(2).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_fourth_part_of_the_rules_holds() {
        super::every_rule_holds_on_postgresql(3).await;
    }
}

async fn every_rule_holds_on_postgresql(part: usize) {
    let folder = tempfile::tempdir().expect("a folder for the server");
    let server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    // What is durable is tried elsewhere; here a hundred thousand commits only wait for the disk.
    server.sql("postgres", "ALTER SYSTEM SET fsync = off").expect("set");
    server.sql("postgres", "SELECT pg_reload_conf()").expect("read again");
    let mut broken = Vec::new();
    for (number, (name, rule)) in RULES.iter().enumerate().skip(part).step_by(PARTS) {
        let fixture = Fixture::postgres(&server, &format!("rule_{number}")).await;
        let store = fixture.store.clone();
        if let Err(panic) = AssertUnwindSafe(rule(fixture)).catch_unwind().await {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            broken.push(format!("{name}: {}", text.unwrap_or_default()));
        }
        // The server has a hundred connections, and there are more rules than that would serve.
        store.close().await;
    }
    assert!(broken.is_empty(), "{} rules are broken on PostgreSQL:\n{}", broken.len(), broken.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_is_unavailable_and_work_goes_on_when_it_is_back() {
    // V-42, T-32: never an Allow, a typed answer in time, and no inner text
    let folder = tempfile::tempdir().expect("a folder for the server");
    let mut server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    let lab = Fixture::postgres(&server, "stops").await;
    let ann = lab.enrolled("ann").await;
    server.stop();
    let asked = std::time::Instant::now();
    for step in [200, 201] {
        let request = tonic::Request::new(ann.allow(&uuid::Uuid::now_v7().to_string(), step));
        let status = lab.services.commit.allow(request).await.expect_err("nobody is let in");
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "the store is not available"));
    }
    assert!(asked.elapsed() < std::time::Duration::from_secs(8), "{:?}", asked.elapsed());
    server.restart().expect("it is back");
    let allowed = commit::allowed(&lab.services.commit, ann.allow("back", 200)).await;
    assert_eq!(allowed, AllowResult::Committed);
    lab.assert_chain_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_does_not_stop_the_others() {
    // T-30: a transaction holds the end of the chain and says nothing more
    let folder = tempfile::tempdir().expect("a folder for the server");
    let server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    let lab = Fixture::postgres(&server, "frozen").await;
    let ann = lab.enrolled("ann").await;
    let _frozen = lab.hold_the_chain().await;
    let began = std::time::Instant::now();
    let outcome = loop {
        let request = tonic::Request::new(ann.allow("thawed", 200));
        match lab.services.commit.allow(request).await {
            Ok(reply) => break reply.into_inner().result(),
            Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable),
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "still stopped");
    };
    assert_eq!(outcome, AllowResult::Committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_on_one_database_end_with_one_key() {
    // FU-08: tables and keys are made once, whoever is first
    let folder = tempfile::tempdir().expect("a folder for the server");
    let server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    let first = Fixture::postgres_section(&server, "together", folder.path());
    let opened = futures::future::join_all((0..4).map(|_| fixture::open(&first))).await;
    let stores: Vec<_> = opened.into_iter().map(|store| store.expect("each node opens the store")).collect();
    // One code, four nodes, fifty copies each: V-11 over nodes.
    let lab = Fixture::over(stores[0].clone(), first.clone());
    let factor = lab.enrolled("ann").await;
    let mut copies = Vec::new();
    for copy in 0..200 {
        let commit = stores[copy % stores.len()].services().commit;
        let request = factor.allow(&uuid::Uuid::now_v7().to_string(), 500);
        copies.push(tokio::spawn(async move { commit::allowed(&commit, request).await }));
    }
    let mut committed = 0;
    for copy in copies {
        committed += u32::from(copy.await.expect("no panic") == AllowResult::Committed);
    }
    assert_eq!(committed, 1);
    lab.assert_chain_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_on_one_database_let_in_once_by_each_proof() {
    // V-11, V-21, V-53, B-80, B-88: a code, an approval, a sent code, a bypass, a temporary code; 200 copies of each
    let folder = tempfile::tempdir().expect("a folder for the server");
    let server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    let section = Fixture::postgres_section(&server, "three", folder.path());
    let opened = futures::future::join_all((0..3).map(|_| fixture::open(&section))).await;
    let stores: Vec<_> = opened.into_iter().map(|store| store.expect("each node opens the store")).collect();
    let lab = Fixture::over(stores[0].clone(), section.clone());
    let ann = lab.enrolled("ann").await;
    let prompt = prompts::prompt_id(&lab, &ann, "approved", fixture::NOON_MS).await;
    prompts::resolved(&lab, prompts::answer(&prompt, "approved", fixture::NOON_MS + 1_000)).await;
    assert!(sent_codes::opened(&lab, sent_codes::open(&ann, "sent", 1, fixture::NOON_MS)).await.opened);
    sent_codes::checked(&lab, &ann, "sent", 1, fixture::NOON_MS).await;
    lab.bypass(&ann.user_id, "let-in", "vpn", fixture::NOON_MS).await;
    let temporary = secrets::temporary_proof(&lab, &ann, "temporary").await;
    let handles = [prompt.as_str(), temporary.as_str()];
    type Ask = fn(&fixture::Enrolled, &str, [&str; 2]) -> proto::user_store::CommitAllowRequest;
    let asks: [(&str, Ask); 5] = [
        ("code", |ann, copy, _| ann.allow(copy, 500)),
        ("approval", |ann, _, [prompt, _]| prompts::allow_by(ann, "approved", prompt, fixture::NOON_MS)),
        ("sent code", |ann, _, _| sent_codes::allow_by(ann, "sent")),
        ("bypass", |ann, copy, _| remembered::by_bypass(ann, copy, "let-in")),
        ("temporary code", |ann, _, [_, handle]| secrets::by_temporary_code(ann, "temporary", handle)),
    ];
    for (name, ask) in asks {
        let mut copies = Vec::new();
        for copy in 0..200 {
            let commit = stores[copy % stores.len()].services().commit;
            let mut request = ask(&ann, &uuid::Uuid::now_v7().to_string(), handles);
            request.evaluation = format!("{name}-{copy}");
            copies.push(tokio::spawn(async move { commit::allowed(&commit, request).await }));
        }
        let mut committed = 0;
        for copy in copies {
            committed += u32::from(copy.await.expect("no panic") == AllowResult::Committed);
        }
        assert_eq!(committed, 1, "{name}");
    }
    assert_eq!(lab.events("authentication").await.len(), 5);
    lab.assert_chain_is_whole().await;
}

/// So many events at once, each of an attempt of its own.
async fn recorded_at_once(lab: &Fixture, who: &fixture::Enrolled, reason: &str, count: usize) -> Vec<tonic::Code> {
    let records = (0..count).map(|number| {
        let transaction = format!("{reason}-{number}");
        let event = proto::user_store::AuditEvent { reason: reason.into(), ..who.event(&transaction) };
        let request = proto::user_store::RecordRequest { event: Some(event), ..Default::default() };
        lab.services.commit.record(tonic::Request::new(request))
    });
    let outcomes = futures::future::join_all(records).await;
    outcomes.into_iter().map(|outcome| outcome.map_or_else(|status| status.code(), |_| tonic::Code::Ok)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_the_database_undoes_for_another_is_made_once_more() {
    // 40001 and 40P01 ask for it; nobody is refused for them
    let folder = tempfile::tempdir().expect("a folder for the server");
    let server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    let lab = Fixture::postgres(&server, "undone").await;
    let ann = lab.enrolled("ann").await;
    lab.tamper(
        "CREATE SEQUENCE undone; \
         CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.reason LIKE 'undone%' AND nextval('undone') IN (1, 60) THEN \
         RAISE EXCEPTION 'undone' USING ERRCODE = CASE NEW.reason WHEN 'undone-1' THEN '40001' ELSE '40P01' END; \
         END IF; RETURN NEW; END $$; \
         CREATE TRIGGER undo BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION undo()",
    )
    .await;
    for reason in ["undone-1", "undone-2"] {
        let codes = recorded_at_once(&lab, &ann, reason, 40).await;
        assert!(codes.iter().all(|code| *code == tonic::Code::Ok), "{reason}: {codes:?}");
    }
    assert!(lab.number("SELECT last_value FROM undone").await > 80, "two were undone");
    lab.assert_chain_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_in_a_group_is_not_asked_for_each_of_it() {
    // V-42: a group that is refused is taken apart, and the disk is full by then
    let folder = tempfile::tempdir().expect("a folder for the server");
    let server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    let lab = Fixture::postgres(&server, "away").await;
    let ann = lab.enrolled("ann").await;
    lab.tamper(
        "CREATE SEQUENCE alone; \
         CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF (SELECT COUNT(*) FROM added WHERE reason = 'away') > 1 THEN \
         RAISE EXCEPTION 'refused' USING ERRCODE = '23514'; \
         ELSIF EXISTS (SELECT 1 FROM added WHERE reason = 'away') THEN \
         PERFORM nextval('alone'); RAISE EXCEPTION 'away' USING ERRCODE = '53100'; \
         END IF; RETURN NULL; END $$; \
         CREATE TRIGGER away AFTER INSERT ON audit REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION away()",
    )
    .await;
    let codes = recorded_at_once(&lab, &ann, "away", 100).await;
    assert!(codes.iter().all(|code| *code == tonic::Code::Unavailable), "{codes:?}");
    // The first may have been a group of its own.
    let asked = lab.number("SELECT last_value FROM alone").await;
    assert!((1..=4).contains(&asked), "asked {asked} times");
}

#[tokio::test]
async fn who_was_let_in_is_recorded_where_the_mail_about_it_cannot_be_sealed() {
    // V-30, V-40: a node that does not read its data keys any more
    let lab = Fixture::sqlite().await;
    let ann = lab.enrolled("ann").await;
    lab.tamper("ALTER TABLE data_keys RENAME TO away").await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    tokio::time::resume();
    notes::told(&lab, notes::passed(&ann, "t1"), false).await.expect("recorded");
    assert_eq!(lab.events("authentication").await.len(), 1);
    assert_eq!(lab.number("SELECT COUNT(*) FROM outbox WHERE kind = 'fail_open'").await, 0);
    lab.tamper("ALTER TABLE away RENAME TO data_keys").await;
    lab.store.tend_keys().await.expect("read again");
    notes::told(&lab, notes::passed(&ann, "t2"), false).await.expect("recorded");
    assert_eq!(lab.number("SELECT COUNT(*) FROM outbox WHERE kind = 'fail_open'").await, 1, "the next one tells");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_wait_for_each_other_whatever_isolation_the_server_has_as_its_default() {
    let folder = tempfile::tempdir().expect("a folder for the server");
    let server = lab::Postgres::start(folder.path()).expect("PostgreSQL 15 is installed and starts");
    server.sql("postgres", "ALTER SYSTEM SET default_transaction_isolation = 'repeatable read'").expect("set");
    server.sql("postgres", "SELECT pg_reload_conf()").expect("read again");
    let section = Fixture::postgres_section(&server, "isolated", folder.path());
    let opened = futures::future::join_all((0..3).map(|_| fixture::open(&section))).await;
    let labs: Vec<Fixture> = opened
        .into_iter()
        .map(|store| Fixture::over(store.expect("each node opens the store"), section.clone()))
        .collect();
    let ann = labs[0].enrolled("ann").await;
    for round in 0..20 {
        let reasons: Vec<String> = (0..labs.len()).map(|node| format!("node-{node}-{round}")).collect();
        let all = labs.iter().zip(&reasons).map(|(lab, reason)| recorded_at_once(lab, &ann, reason, 5));
        let codes = futures::future::join_all(all).await.concat();
        assert!(codes.iter().all(|code| *code == tonic::Code::Ok), "{codes:?}");
    }
    labs[0].assert_chain_is_whole().await;
}
