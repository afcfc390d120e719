//! Users who were made by hand, and the entries of a batch that turn out to be theirs (FS-17).

use super::rows;
use super::users::{Known, Problem, Read};
use crate::audit::NewEvent;
use crate::by_hand::{self, NOWHERE};
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use std::collections::HashMap;

/// A user who is an entry's from now on.
pub struct Claim {
    /// Of the entry.
    pub object_id: String,
    /// As if the entry had always been theirs.
    pub known: Known,
}

/// What a batch says of those who were made by hand.
#[derive(Default)]
pub struct Claimed {
    pub taken: Vec<Claim>,
    /// Who is several entries', and whose they are called.
    refused: Vec<(Known, Vec<String>)>,
}

impl Claimed {
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let text = |others: &[String]| {
            format!("was made by hand, and its name is that of {}: none is taken", others.join(" and "))
        };
        self.refused.iter().map(move |(known, others)| Problem { who: known.username.clone(), text: text(others) })
    }

    /// Writes that they are. The caller holds the chain's lock.
    pub async fn write(
        &self,
        session: &mut Session,
        directory: &str,
        now_ms: i64,
    ) -> Result<Vec<NewEvent>, StoreError> {
        let mut events = Vec::new();
        for Claim { object_id, known } in &self.taken {
            by_hand::take_over(session, &known.user_id, directory, object_id, now_ms).await?;
            events.push(by_hand::linked("sync", directory, object_id, now_ms).about(&known.user_id, &known.username));
        }
        for (known, others) in &self.refused {
            let detail =
                format!("made by hand, and several entries of {directory} have the name: {}", others.join(", "));
            let event = NewEvent::administrative(now_ms, "user.link_refused", "sync", detail);
            events.push(event.about(&known.user_id, &known.username));
        }
        Ok(events)
    }
}

/// Whose username is that of exactly one entry which is nobody's yet and of some item. No other form of a name counts: people write
/// some of those into their entries themselves. Nor does an entry whose username somebody of the directory has already.
pub async fn claimed(
    session: &mut Session,
    read: &[Read],
    known: &HashMap<String, Known>,
    holders: &[Known],
    is_of_item: impl Fn(&Read) -> bool,
) -> Result<Claimed, StoreError> {
    let mut claimed = Claimed::default();
    // There are few, and mostly none: then nobody's names are compared.
    let sql = "SELECT user_id FROM users WHERE directory = $1 LIMIT 1";
    if session.row(sql, args![NOWHERE]).await?.is_none() {
        return Ok(claimed);
    }
    let held: HashMap<&str, &Known> = holders.iter().map(|it| (it.username_key.as_str(), it)).collect();
    let fresh = read.iter().filter(|it| !it.username_key.is_empty() && !known.contains_key(&it.person.object_id));
    let mut entries: HashMap<&str, Vec<&Read>> = HashMap::new();
    for entry in fresh.filter(|it| is_of_item(it)) {
        entries.entry(&entry.username_key).or_default().push(entry);
    }
    for mut user in rows::with_names(session, &[NOWHERE], entries.keys().copied()).await? {
        match entries.get(user.username_key.as_str()).map(Vec::as_slice) {
            Some([one]) => match held.get(user.username_key.as_str()) {
                Some(holder) => {
                    let others = vec![holder.username.clone(), one.user.distinguished_name.clone()];
                    claimed.refused.push((user, others));
                }
                None => {
                    user.person = one.person.clone();
                    claimed.taken.push(Claim { object_id: one.person.object_id.clone(), known: user });
                }
            },
            Some(several) => {
                let others = several.iter().map(|it| it.user.distinguished_name.clone()).collect();
                claimed.refused.push((user, others));
            }
            None => {}
        }
    }
    Ok(claimed)
}
