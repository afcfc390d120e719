//! A text by one HTTP request, as the settings or a preset lay it out.

use super::Outgoing;
use super::preset::{Preset, preset};
use super::template::{Place, Unfit, Values, fill};
use crate::providers::ask::{Kind, Refusal};
use crate::providers::http;
use domain::Secret;
use domain::settings::{Adapter, HttpMethod, PointerMatch, Provider};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;

/// An answer is a few hundred octets.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is kept of the provider's name for a message.
const ID_BYTES_MAX: usize = 128;

/// One provider, ready to be asked.
pub struct HttpCarrier {
    client: Client,
    layout: Layout,
    secret: Secret,
}

/// What a provider said that took a text.
#[derive(Debug, PartialEq)]
pub struct Taken {
    /// What it calls it; empty = nothing.
    pub id: String,
    /// What it charges, where it says so.
    pub price: Option<f64>,
}

/// The request and how its answer reads, settings and preset in one.
struct Layout {
    account: String,
    sender: String,
    url: String,
    method: Method,
    headers: Vec<(String, String)>,
    form: Vec<(String, String)>,
    json: String,
    success: Vec<u16>,
    success_pointer: Option<PointerMatch>,
    id_pointer: String,
    prices: Option<(&'static str, &'static str)>,
    /// What other values at the pointer of success mean; of those that are not listed it is a refusal.
    codes: &'static [(&'static str, Kind)],
}

impl HttpCarrier {
    pub fn new(provider: &Provider, secret: Secret) -> Result<Self, Refusal> {
        let Adapter::Http { ca, .. } = &provider.adapter else {
            return Err(Refusal::new(Kind::Misconfigured, "it is no HTTP provider"));
        };
        let client = http::client(ca).map_err(|error| Refusal::new(Kind::Misconfigured, error.to_string()))?;
        let layout =
            Layout::of(&provider.adapter, &secret).ok_or(Refusal::new(Kind::Misconfigured, "it has no url"))?;
        if layout.url.starts_with("http://") {
            let provider = provider.name.as_str();
            tracing::warn!(provider, "texts, with their codes, go to a provider without TLS");
        }
        Ok(Self { client, layout, secret })
    }

    pub async fn send(&self, outgoing: &Outgoing<'_>, id: &str) -> Result<Taken, Refusal> {
        let request = self.request(outgoing, id)?;
        let answer = request.send().await.map_err(http::refusal)?;
        let status = answer.status();
        // 3xx is no success: a redirect would take the code somewhere nobody configured.
        let good = match self.layout.success.as_slice() {
            [] => status.is_success(),
            listed => listed.contains(&status.as_u16()),
        };
        if !good {
            let kind = Kind::of_status(status.as_u16());
            return Err(Refusal::new(kind, format!("HTTP {}", status.as_u16())));
        }
        if self.layout.success_pointer.is_none() && self.layout.id_pointer.is_empty() {
            return Ok(Taken { id: String::new(), price: None });
        }
        let body = http::body(answer, ANSWER_BYTES_MAX).await.map_err(http::refusal)?;
        let body = body.ok_or_else(|| Refusal::new(Kind::Refused, "its answer is too long"))?;
        self.layout.read(serde_json::from_slice(&body).ok())
    }

    fn request(&self, outgoing: &Outgoing<'_>, id: &str) -> Result<RequestBuilder, Refusal> {
        let unfit = |_: Unfit| Refusal::new(Kind::Misconfigured, "a value cannot stand in a header");
        let layout = &self.layout;
        let values = Values {
            phone: outgoing.to.expose(),
            text: outgoing.text,
            id,
            account: &layout.account,
            sender: &layout.sender,
            secret: self.secret.expose_str().unwrap_or_default(),
            callback: outgoing.callback,
        };
        let url = fill(&layout.url, Place::Url, &values).map_err(unfit)?;
        let url: Url = url.parse().map_err(|_| Refusal::new(Kind::Misconfigured, "its url is none"))?;
        let mut headers = HeaderMap::new();
        for (name, template) in &layout.headers {
            let value = fill(template, Place::Header, &values).map_err(unfit)?;
            let name = HeaderName::try_from(name.as_str());
            let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_bytes(value.as_bytes())) else {
                return Err(Refusal::new(Kind::Misconfigured, "a header is none"));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut request = self.client.request(layout.method.clone(), url);
        if !layout.json.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            request = request.body(fill(&layout.json, Place::Json, &values).map_err(unfit)?);
        } else if !layout.form.is_empty() {
            let filled: Result<Vec<_>, _> = layout
                .form
                .iter()
                .map(|(name, template)| Ok((name.as_str(), fill(template, Place::Form, &values)?)))
                .collect();
            let content = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.entry(CONTENT_TYPE).or_insert(content);
            let filled = filled.map_err(unfit)?;
            // What is empty is left out: such as a callback where nobody knows the portal.
            let said =
                filled.iter().map(|(name, value)| (*name, value.as_str())).filter(|(_, value)| !value.is_empty());
            request = request.body(http::form(said));
        }
        Ok(request.headers(headers))
    }
}

impl Layout {
    fn of(adapter: &Adapter, secret: &Secret) -> Option<Self> {
        let Adapter::Http {
            preset: named,
            account,
            sender,
            url,
            method,
            headers,
            form,
            json,
            success,
            success_pointer,
            id_pointer,
            ca: _,
        } = adapter
        else {
            return None;
        };
        let base = named.map_or_else(Preset::default, preset);
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect();
        let given = |pairs: &std::collections::BTreeMap<String, String>| {
            pairs.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        let mut all_headers: Vec<(String, String)> = owned(base.headers);
        // What a preset says without a secret to say it with, is not said.
        if secret.is_empty() && account.is_empty() {
            all_headers.retain(|(name, _)| !name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
        }
        all_headers.extend(given(headers));
        let own_body = !form.is_empty() || !json.is_empty();
        let url = if url.is_empty() { base.url.to_owned() } else { url.clone() };
        if url.is_empty() {
            return None;
        }
        Some(Self {
            account: account.clone(),
            sender: sender.clone(),
            url,
            method: match method.or(base.method).unwrap_or(HttpMethod::Post) {
                HttpMethod::Get => Method::GET,
                HttpMethod::Post => Method::POST,
                HttpMethod::Put => Method::PUT,
            },
            headers: all_headers,
            form: if own_body { given(form) } else { owned(base.form) },
            json: if own_body { json.clone() } else { base.json.to_owned() },
            success: if success.is_empty() { base.success.to_vec() } else { success.clone() },
            success_pointer: success_pointer.clone().or(base.success_pointer()),
            prices: base.prices,
            codes: if success_pointer.is_none() { base.codes } else { &[] },
            id_pointer: if id_pointer.is_empty() { base.id_pointer.to_owned() } else { id_pointer.clone() },
        })
    }

    /// Did the answer say yes, and what does it call the message?
    fn read(&self, answer: Option<Value>) -> Result<Taken, Refusal> {
        let at = |pointer: &str| answer.as_ref().and_then(|answer| answer.pointer(pointer)).map(text);
        if let Some(expected) = &self.success_pointer {
            let found = at(&expected.pointer);
            let kind = |found: &str| {
                self.codes.iter().find(|(code, _)| *code == found).map_or(Kind::Refused, |(_, kind)| *kind)
            };
            match found {
                Some(found) if found == expected.value => {}
                // A code or a word may be shown; what may be a number or a text that is echoed may not.
                Some(found)
                    if found.len() <= 12 && found.chars().all(|sign| sign.is_ascii_alphabetic() || sign == '_') =>
                {
                    return Err(Refusal::new(kind(&found), format!("its answer says {found}")));
                }
                Some(found) if found.len() <= 3 && found.bytes().all(|sign| sign.is_ascii_digit()) => {
                    return Err(Refusal::new(kind(&found), format!("its answer says {found}")));
                }
                _ => return Err(Refusal::new(Kind::Refused, "its answer does not say that it was accepted")),
            }
        }
        let id = if self.id_pointer.is_empty() { None } else { at(&self.id_pointer) };
        let id = id.unwrap_or_default().chars().filter(|sign| !sign.is_control()).take(ID_BYTES_MAX).collect();
        Ok(Taken { id, price: answer.as_ref().and_then(|answer| self.price(answer)) })
    }

    /// `None`: it names none.
    fn price(&self, answer: &Value) -> Option<f64> {
        let (list, place) = self.prices?;
        let price =
            |part: &Value| text(part.pointer(place)?).parse::<f64>().ok().filter(|price| (0.0..1000.0).contains(price));
        let prices: Vec<f64> = answer.pointer(list)?.as_array()?.iter().filter_map(price).collect();
        (!prices.is_empty()).then(|| prices.iter().sum())
    }
}

/// A string as it is, everything else as JSON writes it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layout(adapter: Value) -> Option<Layout> {
        layout_with("secret", adapter)
    }

    fn layout_with(secret: &str, adapter: Value) -> Option<Layout> {
        Layout::of(&serde_json::from_value(adapter).expect("an adapter"), &secret.into())
    }

    #[test]
    fn without_a_secret_a_preset_authorises_nothing_and_the_settings_still_may() {
        let gammu = |secret: &str, headers: Value| {
            let url = "https://gammu/sms";
            let adapter = json!({"kind": "http", "preset": "gammu", "url": url, "headers": headers});
            layout_with(secret, adapter).expect("whole").headers
        };
        let header = |value: &str| vec![("Authorization".to_owned(), value.to_owned())];
        assert_eq!(gammu("s3cret", json!({})), header("Basic {basic}"));
        assert_eq!(gammu("", json!({})), []);
        assert_eq!(gammu("", json!({"Authorization": "Bearer open"})), header("Bearer open"));
    }

    #[test]
    fn a_preset_fills_in_what_is_absent_and_only_that() {
        let twilio = layout(json!({"kind": "http", "preset": "twilio", "account": "AC1"})).expect("whole");
        assert_eq!(twilio.url, "https://api.twilio.com/2010-04-01/Accounts/{account}/Messages.json");
        assert_eq!((twilio.method, twilio.id_pointer.as_str()), (Method::POST, "/sid"));
        assert_eq!(twilio.form.len(), 4);
        let own = layout(json!({
            "kind": "http", "preset": "twilio", "url": "https://x/{account}", "json": "{}", "success": [299],
        }))
        .expect("whole");
        assert_eq!((own.url.as_str(), own.json.as_str(), own.form.len()), ("https://x/{account}", "{}", 0));
        assert_eq!(own.success, [299]);
        for preset in ["twilio", "vonage", "bird", "clickatell"] {
            assert!(layout(json!({"kind": "http", "preset": preset})).is_some(), "{preset}");
        }
        // These stand in the customer's network, wherever that is.
        for preset in ["smseagle", "gammu"] {
            assert!(layout(json!({"kind": "http", "preset": preset})).is_none(), "{preset}");
            assert!(layout(json!({"kind": "http", "preset": preset, "url": "https://eagle/x"})).is_some(), "{preset}");
        }
        assert!(layout(json!({"kind": "http"})).is_none());
    }

    #[test]
    fn every_json_of_a_preset_is_json_when_it_is_filled() {
        let values = Values {
            phone: "+4915123456789",
            text: "\"\\\n",
            id: "1",
            account: "a",
            sender: "s",
            secret: "x",
            callback: "",
        };
        for name in ["bird", "clickatell", "smseagle", "gammu"] {
            let layout = layout(json!({"kind": "http", "preset": name, "url": "https://x"})).expect("whole");
            let filled = fill(&layout.json, Place::Json, &values).expect("fits");
            assert!(serde_json::from_str::<Value>(&filled).is_ok(), "{name}: {filled}");
        }
    }

    #[test]
    fn what_a_text_costs_is_read_where_the_answer_says_so() {
        // For twinlock_message_cost_total.
        let vonage = layout(json!({"kind": "http", "preset": "vonage"})).expect("whole");
        let price = |parts: Value| vonage.read(Some(json!({"messages": parts}))).expect("taken").price;
        let part = |price: Value| json!({"status": "0", "message-price": price});
        assert_eq!(price(json!([part(json!("0.0333"))])), Some(0.0333));
        assert_eq!(price(json!([part(json!("0.25")), part(json!(0.5))])), Some(0.75), "each part is charged");
        assert_eq!(price(json!([{"status": "0"}])), None);
        for bad in ["-1", "NaN", "inf", "much"] {
            assert_eq!(price(json!([part(json!(bad))])), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_a_yes_only_where_it_says_so() {
        let vonage = layout(json!({"kind": "http", "preset": "vonage"})).expect("whole");
        let read = |answer: Option<Value>| vonage.read(answer).map(|taken| taken.id).map_err(|refusal| refusal.detail);
        let answer = |status: Value| Some(json!({"messages": [{"status": status, "message-id": "0C1"}]}));
        assert_eq!(read(answer(json!("0"))).as_deref(), Ok("0C1"));
        assert_eq!(read(answer(json!(0))).as_deref(), Ok("0C1"));
        assert_eq!(read(answer(json!("9"))), Err("its answer says 9".into()));
        // What is echoed is no place for a number to leak through.
        let silent = "its answer does not say that it was accepted";
        assert_eq!(read(answer(json!("4915123456789"))), Err(silent.into()));
        assert_eq!(read(answer(json!("failed"))), Err("its answer says failed".into()));
        assert!(read(Some(json!({}))).is_err() && read(None).is_err());
        let kind =
            |status: &str| vonage.read(answer(json!(status))).map(|taken| taken.id).map_err(|refusal| refusal.kind);
        assert_eq!(kind("6"), Err(Kind::Refused), "about the message");
        assert_eq!([kind("1"), kind("4")], [Err(Kind::Busy), Err(Kind::Misconfigured)]);
    }
}
