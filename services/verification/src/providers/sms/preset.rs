//! What the presets of the HTTP adapter fill in where the settings are silent. Facts from the vendors' public references.

use crate::providers::ask::Kind;
use domain::settings::{HttpMethod, HttpPreset, PointerMatch};

/// One vendor's request and how its answer reads.
#[derive(Default)]
pub struct Preset {
    /// Empty: the device stands in the customer's own network, and the settings have to name it.
    pub url: &'static str,
    pub method: Option<HttpMethod>,
    pub headers: &'static [(&'static str, &'static str)],
    pub form: &'static [(&'static str, &'static str)],
    pub json: &'static str,
    pub success: &'static [u16],
    pub success_pointer: Option<(&'static str, &'static str)>,
    pub id_pointer: &'static str,
    /// Where the answer says what was charged: pointers to a list with an entry for each part, and to the price in it.
    pub prices: Option<(&'static str, &'static str)>,
    /// Values at the pointer of success that are not about the message.
    pub codes: &'static [(&'static str, Kind)],
}

pub fn preset(preset: HttpPreset) -> Preset {
    match preset {
        // Programmable Messaging, the Message resource: 201 with "sid".
        HttpPreset::Twilio => Preset {
            url: "https://api.twilio.com/2010-04-01/Accounts/{account}/Messages.json",
            headers: &[("Authorization", "Basic {basic}")],
            form: &[("To", "{phone}"), ("From", "{sender}"), ("Body", "{text}"), ("StatusCallback", "{callback}")],
            success: &[200, 201],
            id_pointer: "/sid",
            ..Preset::default()
        },
        // SMS API: 200 whatever happens; the status of the message says it. Numbers without a plus. No callback: its receipts are not
        // signed in a way that is checked here.
        HttpPreset::Vonage => Preset {
            url: "https://rest.nexmo.com/sms/json",
            form: &[
                ("api_key", "{account}"),
                ("api_secret", "{secret}"),
                ("to", "{digits}"),
                ("from", "{sender}"),
                ("text", "{text}"),
                ("type", "unicode"),
                ("client-ref", "{id}"),
            ],
            success: &[200],
            success_pointer: Some(("/messages/0/status", "0")),
            id_pointer: "/messages/0/message-id",
            prices: Some(("/messages", "/message-price")),
            // Throttled, internal error, too many binds; not authorised in one way or another, no credit left.
            codes: &[
                ("1", Kind::Busy),
                ("5", Kind::Busy),
                ("10", Kind::Busy),
                ("4", Kind::Misconfigured),
                ("8", Kind::Misconfigured),
                ("9", Kind::Misconfigured),
                ("14", Kind::Misconfigured),
                ("29", Kind::Misconfigured),
            ],
            ..Preset::default()
        },
        // Channels API: the account is the workspace's id, the sender the channel's.
        HttpPreset::Bird => Preset {
            url: "https://api.bird.com/workspaces/{account}/channels/{sender}/messages",
            headers: &[("Authorization", "AccessKey {secret}")],
            json: r#"{"receiver":{"contacts":[{"identifierValue":"{phone}"}]},"reference":"{id}","body":{"type":"text","text":{"text":"{text}"}}}"#,
            success: &[200, 201, 202],
            id_pointer: "/id",
            ..Preset::default()
        },
        // Platform API: 202, each message with its own "accepted".
        HttpPreset::Clickatell => Preset {
            url: "https://platform.clickatell.com/messages",
            headers: &[("Authorization", "{secret}"), ("Accept", "application/json")],
            json: r#"{"content":"{text}","to":["{digits}"],"clientMessageId":"{id}"}"#,
            success: &[200, 202],
            success_pointer: Some(("/messages/0/accepted", "true")),
            id_pointer: "/messages/0/apiMessageId",
            ..Preset::default()
        },
        // APIv2 of the appliance: https://HOST/api/v2/messages/sms, one entry a number.
        HttpPreset::Smseagle => Preset {
            headers: &[("access-token", "{secret}")],
            json: r#"{"to":["{phone}"],"text":"{text}","encoding":"unicode"}"#,
            success: &[200],
            success_pointer: Some(("/0/status", "queued")),
            id_pointer: "/0/id",
            ..Preset::default()
        },
        // The REST gateway in front of a Gammu modem: https://HOST/sms.
        HttpPreset::Gammu => Preset {
            headers: &[("Authorization", "Basic {basic}")],
            json: r#"{"text":"{text}","number":"{phone}"}"#,
            success: &[200],
            ..Preset::default()
        },
    }
}

impl Preset {
    pub fn success_pointer(&self) -> Option<PointerMatch> {
        self.success_pointer.map(|(pointer, value)| PointerMatch { pointer: pointer.into(), value: value.into() })
    }
}
