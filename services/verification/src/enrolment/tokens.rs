//! Tokens: put right by codes in a row, found by a code (V-12, V-13).

use super::SOURCE;
use crate::Service;
use crate::attempt::line;
use crate::budget::Budget;
use crate::facts::{Token, TokenKind, token};
use crate::methods::code::verdict;
use domain::{PresentedCode, Reason, Secret};
use otp::Verdict;
use proto::user_store::{ListSeedsRequest, ResyncFactorRequest, TryKind};
use proto::verification::{FindTokenReply, FindTokenRequest, ResyncReply, ResyncRequest};
use tonic::Status;

/// Tokens that are compared for one question; a stock is smaller.
const TOKENS_MAX: usize = 100_000;
const PAGE: u32 = 1_000;
/// More tokens than this show the same code by chance only where there are far too many.
const FOUND_MAX: usize = 20;

pub async fn resync(service: &Service, request: ResyncRequest, budget: Budget) -> Result<ResyncReply, Status> {
    let refused = |reason: Reason| Ok(ResyncReply { done: false, reason: reason.code().into() });
    let user = service.enabled_user(&request.user_id, budget).await?;
    let Some(token) = user.tokens.iter().find(|token| !token.pending && token.factor_id == request.factor_id) else {
        return refused(Reason::ChallengeGone);
    };
    let kind = TryKind::AfterPassword;
    let reserved = service.committer.reserve_try(&user.id, &token.factor_id, kind, SOURCE, budget).await?;
    if reserved.is_err() {
        return refused(Reason::LockedOut);
    }
    let typed = |secret: proto::common::Secret| PresentedCode::parse(Secret::from(secret).expose());
    let Some(codes) = request.codes.into_iter().map(typed).collect::<Option<Vec<_>>>() else {
        return refused(Reason::WrongCode);
    };
    let now = service.clock.now_ms();
    let found = match token.kind {
        TokenKind::Timed { .. } if !service.clock_check.is_fit() => {
            return Err(Status::unavailable(Reason::VerificationUnavailable.code()));
        }
        TokenKind::Timed { form, last_step, .. } => otp::resync_timed(&token.seed, form, &codes, now, last_step),
        TokenKind::Counted { algorithm, digits, next } => {
            otp::resync_counted(&token.seed, algorithm, digits, &codes, next).map(|counter| (counter, 0))
        }
    };
    let Some((step, drift)) = found else { return refused(Reason::WrongCode) };
    let resync = ResyncFactorRequest {
        user_id: user.id,
        factor_id: request.factor_id,
        step,
        drift,
        actor: line(&request.actor, 128),
        now_unix_ms: now,
    };
    let commit = &service.committer.commit;
    let reply = budget.ask("resync factor", resync, |request| commit.resync_factor(request)).await?;
    if reply.done { Ok(ResyncReply { done: true, reason: String::new() }) } else { refused(Reason::ReusedCode) }
}

/// Looks through every token. A code is six digits: some other token may show the same, so that all that do are named.
pub async fn find_token(
    service: &Service,
    request: FindTokenRequest,
    budget: Budget,
) -> Result<FindTokenReply, Status> {
    let typed: Secret = request.code.unwrap_or_default().into();
    let code = PresentedCode::parse(typed.expose()).ok_or_else(|| Status::invalid_argument("code is no code"))?;
    tracing::info!(event = "token_sought_by_code", actor = line(&request.actor, 128));
    let (mut serials, mut after, mut seen) = (Vec::new(), String::new(), 0);
    loop {
        let page = ListSeedsRequest { after: after.clone(), limit: PAGE };
        let commit = &service.committer.commit;
        let reply = budget.ask("list seeds", page, |request| commit.list_seeds(request)).await?;
        seen += reply.tokens.len();
        // One that cannot be read hides no other.
        for token in reply.tokens.into_iter().filter_map(token) {
            if serials.len() < FOUND_MAX && shows(service, &token, &code)? {
                serials.push(token.serial);
            }
        }
        if reply.next.is_empty() || reply.next == after || seen >= TOKENS_MAX {
            return Ok(FindTokenReply { serials });
        }
        after = reply.next;
        // Hashing a thousand seeds takes a while, which others need not wait for.
        tokio::task::yield_now().await;
    }
}

fn shows(service: &Service, token: &Token, code: &PresentedCode) -> Result<bool, Status> {
    match verdict(token, code, service.clock.now_ms(), &service.clock_check) {
        Some(Verdict::Match(_) | Verdict::Reused(_)) => Ok(true),
        Some(Verdict::NoMatch) => Ok(false),
        None => Err(Status::unavailable(Reason::VerificationUnavailable.code())),
    }
}
