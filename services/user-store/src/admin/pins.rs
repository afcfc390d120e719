//! PINs and answers set by somebody else.

use super::actor;
use super::change::Change;
use crate::Store;
use crate::answers;
use crate::commit::secrets::{NewPin, set_pin_of, set_random_pin};
use crate::hashing::{self, Purpose};
use crate::rpc::{StoreError, bounded};
use crate::sql::args;
use domain::Secret;
use proto::user_store::{ResetPinReply, ResetPinRequest, SetAnswersRequest, UserDetail};
use tonic::Status;

/// A random PIN, or a given one; either is changed at its first use (FV-21).
pub async fn reset_pin(store: &Store, request: ResetPinRequest) -> Result<ResetPinReply, StoreError> {
    let actor = actor(&request.actor)?;
    let mail = Some("pin_reset");
    let new = NewPin { user_id: &request.user_id, actor: &actor, must_change: true, mail, owed: false };
    if let Some(given) = request.pin.map(Secret::from) {
        let rule = set_pin_of(store, &given, new).await?.map_or(String::new(), |rule| rule.code().into());
        return Ok(ResetPinReply { pin: None, rule });
    }
    let pin = set_random_pin(store, new).await?;
    Ok(ResetPinReply { pin: Some(pin.into()), rule: String::new() })
}

/// All of a user's questions with their answers, in the place of those before; none = there are none any more.
pub async fn set_answers(store: &Store, request: SetAnswersRequest) -> Result<UserDetail, StoreError> {
    let answers: Vec<Secret> = request.answers.into_iter().map(Secret::from).collect();
    let questions: Vec<String> = request.questions.iter().map(|text| bounded(text.trim(), 256)).collect();
    if let Some(problem) =
        answers::problem(&questions, &answers).filter(|_| !questions.is_empty() || !answers.is_empty())
    {
        return Err(Status::invalid_argument(problem).into());
    }
    let mut rows = Vec::with_capacity(answers.len());
    for (question, answer) in questions.iter().zip(&answers) {
        let purpose = Purpose { user_id: &request.user_id, kind: "answer", label: question };
        let salt = hashing::salt();
        rows.push((question, salt, store.hasher().hash(purpose, &salt, &answers::folded(answer)).await?));
    }
    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    let (user_id, now_ms, by) = (change.user_id.clone(), change.now_ms, change.actor.clone());
    let sql = "DELETE FROM hashed WHERE user_id = $1 AND kind = 'answer'";
    let before = change.session.execute(sql, args![&user_id]).await?;
    for (question, salt, hash) in rows {
        let sql = "INSERT INTO hashed (hashed_id, user_id, kind, label, salt, hash, uses_left, expires_ms, created_ms, made_by, \
                   text) VALUES ($1, $2, 'answer', $3, $4, $5, -1, 0, $6, $7, '')";
        let hashed_id = uuid::Uuid::now_v7().to_string();
        let arguments = args![hashed_id, &user_id, question, salt.as_slice(), hash, now_ms, &by];
        change.session.execute(sql, arguments).await?;
    }
    change.note("answers.set", format!("{before} questions -> {}", questions.len()));
    change.end_remembered();
    change.mail("updated", &[]).await?;
    change.finish().await
}
