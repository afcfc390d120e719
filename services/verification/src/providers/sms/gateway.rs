//! A text by a mail that a gateway turns into one: the SMTP providers of the settings carry it.

use super::Outgoing;
use super::template::{Place, Values, fill};
use crate::providers::ask::{Kind, Refusal};
use crate::providers::mail::smtp::{Letter, Letters};
use crate::settings::Known;
use domain::settings::{Adapter, Provider};
use std::sync::Arc;
use tokio::time::Instant;

pub struct GatewayCarrier {
    to: String,
    subject: String,
    body: String,
    letters: Arc<Letters>,
}

impl GatewayCarrier {
    pub fn new(provider: &Provider, letters: Arc<Letters>) -> Result<Self, Refusal> {
        let Adapter::MailGateway { to, subject, body } = &provider.adapter else {
            return Err(Refusal::new(Kind::Misconfigured, "it is no mail gateway"));
        };
        Ok(Self { to: to.clone(), subject: subject.clone(), body: body.clone(), letters })
    }

    pub async fn send(
        &self,
        outgoing: &Outgoing<'_>,
        known: &Known,
        id: &str,
        until: Instant,
    ) -> Result<String, Refusal> {
        // A subject is a header: its text is one line.
        let one_line = outgoing.text.replace(char::is_control, " ");
        let values =
            |text| Values { phone: outgoing.to.expose(), text, id, account: "", sender: "", secret: "", callback: "" };
        let filled = |template: &str, place, text| {
            fill(template, place, &values(text))
                .map_err(|_| Refusal::new(Kind::Misconfigured, "a value cannot stand there"))
        };
        let letter = Letter {
            id: id.to_owned(),
            to: filled(&self.to, Place::Header, "")?,
            subject: filled(&self.subject, Place::Header, &one_line)?,
            text: filled(&self.body, Place::Form, outgoing.text)?,
            html: None,
        };
        self.letters.first_that_takes(known, &letter, until).await.map(|_| String::new())
    }
}
