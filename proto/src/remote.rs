//! The ports over the network: each generated client is an implementation of its own server trait that forwards.
//!
//! So a part that is given `Arc<dyn Verification>` cannot tell, and need not know, whether the decision is made in its
//! own process or behind mutual TLS. Deadlines and trace context are the channel's business (service-kit).

use tonic::{
    Request, Response, Status, async_trait,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};

/// A client that stands in for the service it calls.
#[derive(Clone)]
pub struct Remote<C>(C);

impl<C> Remote<C> {
    pub fn new(client: C) -> Self {
        Self(client)
    }
}

macro_rules! forward {
    ($module:ident :: $service:ident, $server:ident, $client_module:ident :: $client:ident, { $($method:ident($request:ident) -> $reply:ident;)* }) => {
        #[async_trait]
        impl<T> crate::$module::$server::$service for Remote<crate::$module::$client_module::$client<T>>
        where
            T: GrpcService<Body> + Clone + Send + Sync + 'static,
            T::Error: Into<StdError>,
            T::Future: Send,
            T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
            <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
        {
            $(
                async fn $method(
                    &self,
                    request: Request<crate::$module::$request>,
                ) -> Result<Response<crate::$module::$reply>, Status> {
                    self.0.clone().$method(request).await
                }
            )*
        }
    };
}

forward!(verification::Verification, verification_server, verification_client::VerificationClient, {
    appended_forms(AppendedFormsRequest) -> AppendedFormsReply;
    begin(BeginRequest) -> Outcome;
    complete(CompleteRequest) -> Outcome;
    answer(AnswerRequest) -> Outcome;
    r#await(AwaitRequest) -> Outcome;
    cancel(CancelRequest) -> CancelReply;
    report(ReportRequest) -> ReportReply;
    password_changed(PasswordChangedRequest) -> PasswordChangedReply;
});

forward!(verification::Enrolment, enrolment_server, enrolment_client::EnrolmentClient, {
    start_code(StartCodeRequest) -> StartCodeReply;
    confirm_code(ConfirmCodeRequest) -> ConfirmCodeReply;
    resync(ResyncRequest) -> ResyncReply;
    find_token(FindTokenRequest) -> FindTokenReply;
    start_phone(StartPhoneRequest) -> StartPhoneReply;
    confirm_phone(ConfirmPhoneRequest) -> ConfirmReply;
    start_device(StartDeviceRequest) -> StartDeviceReply;
    device_state(DeviceStateRequest) -> DeviceStateReply;
    new_recovery_codes(NewRecoveryCodesRequest) -> NewRecoveryCodesReply;
    try_method(TryMethodRequest) -> TryMethodReply;
    test_provider(TestProviderRequest) -> TestProviderReply;
    start_passkey(StartPasskeyRequest) -> StartPasskeyReply;
    confirm_passkey(ConfirmPasskeyRequest) -> ConfirmReply;
});

forward!(verification::Phone, phone_server, phone_client::PhoneClient, {
    pi(PiRequest) -> PiReply;
    begin_activation(BeginActivationRequest) -> BeginActivationReply;
    finish_activation(FinishActivationRequest) -> FinishActivationReply;
    update_device(UpdateDeviceRequest) -> UpdateDeviceReply;
    open_prompts(OpenPromptsRequest) -> OpenPromptsReply;
    decide(DecideRequest) -> DecideReply;
    confirm_device_code(ConfirmDeviceCodeRequest) -> ConfirmDeviceCodeReply;
});

forward!(verification::Callback, callback_server, callback_client::CallbackClient, {
    receive(CallbackRequest) -> CallbackReply;
});

forward!(directory::PasswordCheck, password_check_server, password_check_client::PasswordCheckClient, {
    check(CheckRequest) -> CheckReply;
    resolve(ResolveRequest) -> ResolveReply;
    probe(ProbeRequest) -> ProbeReply;
});

forward!(directory::Directories, directories_server, directories_client::DirectoriesClient, {
    inspect(InspectRequest) -> InspectReply;
    find_users(FindUsersRequest) -> FindUsersReply;
    find_places(FindPlacesRequest) -> FindPlacesReply;
    find_attributes(FindAttributesRequest) -> FindAttributesReply;
    holders(HoldersRequest) -> HoldersReply;
});

forward!(user_store::Settings, settings_server, settings_client::SettingsClient, {
    fetch(FetchRequest) -> FetchReply;
    pin_service_account(PinServiceAccountRequest) -> PinServiceAccountReply;
    learn_client(LearnClientRequest) -> LearnClientReply;
    key_ring(KeyRingRequest) -> KeyRingReply;
});

forward!(user_store::Radius, radius_server, radius_client::RadiusClient, {
    report_clients(ReportClientsRequest) -> ReportClientsReply;
    record_accounting(RecordAccountingRequest) -> RecordAccountingReply;
});

forward!(user_store::Facts, facts_server, facts_client::FactsClient, {
    login(LoginFactsRequest) -> LoginFactsReply;
    named(NamedRequest) -> NamedReply;
});

forward!(user_store::Commit, commit_server, commit_client::CommitClient, {
    reserve_try(ReserveTryRequest) -> ReserveTryReply;
    try_code(TryCodeRequest) -> TryCodeReply;
    spend_code(SpendCodeRequest) -> SpendCodeReply;
    allow(CommitAllowRequest) -> CommitAllowReply;
    record(RecordRequest) -> RecordReply;
    add_pending_factor(AddPendingFactorRequest) -> AddPendingFactorReply;
    confirm_factor(ConfirmFactorRequest) -> ConfirmFactorReply;
    resync_factor(ResyncFactorRequest) -> ResyncFactorReply;
    forget_remembered(ForgetRememberedRequest) -> ForgetRememberedReply;
    check_secret(CheckSecretRequest) -> CheckSecretReply;
    set_pin(SetPinRequest) -> SetPinReply;
    new_recovery_codes(StoreRecoveryCodesRequest) -> StoreRecoveryCodesReply;
    set_phone(SetPhoneRequest) -> SetPhoneReply;
    open_prompt(OpenPromptRequest) -> OpenPromptReply;
    resolve_prompt(ResolvePromptRequest) -> ResolvePromptReply;
    get_prompts(GetPromptsRequest) -> GetPromptsReply;
    user_prompts(UserPromptsRequest) -> GetPromptsReply;
    update_prompt(UpdatePromptRequest) -> UpdatePromptReply;
    open_sent_code(OpenSentCodeRequest) -> OpenSentCodeReply;
    check_sent_code(CheckSentCodeRequest) -> CheckSentCodeReply;
    open_activation(OpenActivationRequest) -> OpenActivationReply;
    find_activation(FindActivationRequest) -> FindActivationReply;
    put_device(PutDeviceRequest) -> PutDeviceReply;
    touch_device(TouchDeviceRequest) -> TouchDeviceReply;
    get_device(GetDeviceRequest) -> GetDeviceReply;
    put_passkey(PutPasskeyRequest) -> PutPasskeyReply;
    see_once(SeeOnceRequest) -> SeeOnceReply;
    get_sealed(GetSealedRequest) -> GetSealedReply;
    put_sealed(PutSealedRequest) -> PutSealedReply;
    note_message(NoteMessageRequest) -> NoteMessageReply;
    list_seeds(ListSeedsRequest) -> ListSeedsReply;
});

forward!(user_store::Outbox, outbox_server, outbox_client::OutboxClient, {
    put(PutMailRequest) -> PutMailReply;
    take(TakeMailRequest) -> TakeMailReply;
    done(DoneMailRequest) -> DoneMailReply;
});

forward!(user_store::FailOpen, fail_open_server, fail_open_client::FailOpenClient, {
    record(RecordRequest) -> RecordReply;
});

forward!(user_store::PasswordTries, password_tries_server, password_tries_client::PasswordTriesClient, {
    reserve(ReservePasswordRequest) -> ReservePasswordReply;
    settle(SettlePasswordRequest) -> SettlePasswordReply;
});

forward!(user_store::Standing, standing_server, standing_client::StandingClient, {
    shut_out(ShutOutRequest) -> ShutOutReply;
});

forward!(user_store::Sync, sync_server, sync_client::SyncClient, {
    lead(LeadRequest) -> LeadReply;
    get_source(GetSourceRequest) -> GetSourceReply;
    begin_run(BeginRunRequest) -> BeginRunReply;
    apply_batch(ApplyBatchRequest) -> ApplyBatchReply;
    list_pending(ListPendingRequest) -> ListPendingReply;
    list_unseen(ListUnseenRequest) -> ListUnseenReply;
    finish_run(FinishRunRequest) -> FinishRunReply;
});

forward!(user_store::PortalData, portal_data_server, portal_data_client::PortalDataClient, {
    put_session(PutSessionRequest) -> PutSessionReply;
    get_session(GetSessionRequest) -> GetSessionReply;
    end_session(EndSessionRequest) -> EndSessionReply;
    check_api_key(CheckApiKeyRequest) -> CheckApiKeyReply;
    redeem_invitation(RedeemInvitationRequest) -> RedeemInvitationReply;
    own_detail(OwnDetailRequest) -> UserDetail;
    announce(AnnounceRequest) -> AnnounceReply;
});

forward!(user_store::Admin, admin_server, admin_client::AdminClient, {
    list_users(ListUsersRequest) -> ListUsersReply;
    get_user(GetUserRequest) -> UserDetail;
    known_users(KnownUsersRequest) -> KnownUsersReply;
    set_user_state(SetUserStateRequest) -> UserDetail;
    unlock_user(UnlockUserRequest) -> UserDetail;
    block_user(BlockUserRequest) -> UserDetail;
    unblock_user(UnblockUserRequest) -> UserDetail;
    exempt_user(ExemptUserRequest) -> UserDetail;
    edit_user(EditUserRequest) -> UserDetail;
    create_user(CreateUserRequest) -> UserDetail;
    start_bypass(StartBypassRequest) -> StartBypassReply;
    end_bypass(EndBypassRequest) -> UserDetail;
    issue_temporary_code(IssueTemporaryCodeRequest) -> IssueTemporaryCodeReply;
    reset_pin(ResetPinRequest) -> ResetPinReply;
    set_answers(SetAnswersRequest) -> UserDetail;
    list_tokens(ListTokensRequest) -> ListTokensReply;
    import_tokens(ImportTokensRequest) -> ImportReply;
    assign_token(AssignTokenRequest) -> TokenSummary;
    unassign_token(UnassignTokenRequest) -> TokenSummary;
    revoke_token(RevokeTokenRequest) -> RevokeTokenReply;
    import_users(ImportUsersRequest) -> ImportReply;
    list_prompts(ListPromptsRequest) -> GetPromptsReply;
    list_remembered(ListRememberedRequest) -> ListRememberedReply;
    clear_remembered(ClearRememberedRequest) -> ClearRememberedReply;
    list_messages(ListMessagesRequest) -> ListMessagesReply;
    key_status(KeyStatusRequest) -> KeyStatusReply;
    rotate_keys(RotateKeysRequest) -> KeyStatusReply;
    revoke_factor(RevokeFactorRequest) -> UserDetail;
    invite(InviteRequest) -> InviteReply;
    export_settings(ExportSettingsRequest) -> ExportSettingsReply;
    apply_settings(ApplySettingsRequest) -> ApplySettingsReply;
    rotate_client_secret(RotateClientSecretRequest) -> RotateClientSecretReply;
    observe_client(ObserveClientRequest) -> ObserveClientReply;
    list_clients(ListClientsRequest) -> ListClientsReply;
    list_accounting(ListAccountingRequest) -> ListAccountingReply;
    list_audit(ListAuditRequest) -> ListAuditReply;
    verify_audit(VerifyAuditRequest) -> VerifyAuditReply;
    list_checkpoints(ListCheckpointsRequest) -> ListCheckpointsReply;
    create_api_key(CreateApiKeyRequest) -> CreateApiKeyReply;
    list_api_keys(ListApiKeysRequest) -> ListApiKeysReply;
    revoke_api_key(RevokeApiKeyRequest) -> RevokeApiKeyReply;
    sync_status(SyncStatusRequest) -> SyncStatusReply;
    list_sync_runs(ListSyncRunsRequest) -> ListSyncRunsReply;
    sync_changes(SyncChangesRequest) -> SyncChangesReply;
    list_approval_users(ListApprovalUsersRequest) -> ListApprovalUsersReply;
    request_sync(RequestSyncRequest) -> RequestSyncReply;
    decide_approval(DecideApprovalRequest) -> DecideApprovalReply;
});
