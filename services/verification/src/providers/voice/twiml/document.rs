//! What we answer: a TwiML document. Whatever comes from settings or the store is escaped.

use super::super::flow::{Call, Collect, Speech, Then, Utter};
use super::super::words::{Spoken, spoken};
use super::address::{self, What};
use crate::settings::Known;
use domain::Language;
use std::fmt::Write;

/// Nobody pressed a key for so long.
const SILENCE_SECONDS: u32 = 6;

/// The document for this state of a call. `here` is the address that was called, for "come back in a moment".
pub fn of_call(known: &Known, prompt_id: &str, application: &str, call: &Call, speech: &Speech, here: &str) -> String {
    let url = |what| {
        let path = address::write(prompt_id, call.attempt, Some(call.step), what);
        escaped(&format!("{}/callback/{}/{path}", known.portal_url, call.provider))
    };
    let said = utterances(known, &speech.utter, &call.language, application);
    match speech.then {
        Then::HangUp => response(&format!("{said}<Hangup/>")),
        Then::Wait => {
            response(&format!("{said}<Pause length=\"1\"/><Redirect method=\"POST\">{}</Redirect>", escaped(here)))
        }
        Then::Collect(collect) => {
            let ends = match collect {
                Collect::Key => "finishOnKey=\"\" numDigits=\"1\"",
                Collect::Digits => "finishOnKey=\"#\"",
            };
            response(&format!(
                "<Gather input=\"dtmf\" {ends} timeout=\"{SILENCE_SECONDS}\" action=\"{}\" method=\"POST\">{said}</Gather>\
                 <Redirect method=\"POST\">{}</Redirect>",
                url(What::Keys),
                url(What::Silence),
            ))
        }
    }
}

/// One thing said, and nothing asked.
pub fn of_test(known: &Known, utter: &[Utter], language: &Language) -> String {
    response(&format!("{}<Hangup/>", utterances(known, utter, language, "")))
}

fn response(inside: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response>{inside}</Response>\n")
}

fn utterances(known: &Known, utter: &[Utter], language: &Language, application: &str) -> String {
    let mut said = String::new();
    for one in utter {
        let written = match one {
            // Half a second for each w.
            Utter::Dial(keys) => write!(said, "<Play digits=\"wwww{}wwww\"/>", escaped(keys)),
            Utter::Say(slot) => match spoken(known, *slot, language, application) {
                Spoken::Words(words) => {
                    write!(said, "<Say language=\"{}\">{}</Say>", escaped(&voice_of(language)), escaped(&words))
                }
                Spoken::Recording(url) => write!(said, "<Play>{}</Play>", escaped(&url)),
            },
        };
        written.expect("a string takes everything");
    }
    said
}

/// Voices have a region: `de` is spoken as in Germany.
fn voice_of(language: &Language) -> String {
    match language.as_str() {
        "en" => "en-US".into(),
        "da" => "da-DK".into(),
        "sv" => "sv-SE".into(),
        "ja" => "ja-JP".into(),
        "zh" => "zh-CN".into(),
        "cs" => "cs-CZ".into(),
        "el" => "el-GR".into(),
        tag if tag.len() == 2 => format!("{tag}-{}", tag.to_ascii_uppercase()),
        tag => tag.into(),
    }
}

/// Text and attribute values of XML; what XML 1.0 cannot carry at all is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(' '),
            sign if sign.is_control() || matches!(sign, '\u{fffe}' | '\u{ffff}') => {}
            sign => escaped.push(sign),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::super::flow::Slot;
    use super::super::super::words::tests::known;
    use super::*;
    use crate::providers::Callee;
    use domain::PhoneNumber;

    fn call() -> Call {
        let to = PhoneNumber::new("+4930901820").expect("valid");
        let language = Language::new("de").expect("valid");
        let callee = Callee {
            to: &to,
            extension: "",
            backup: None,
            language: &language,
            pin: false,
            new_pin: false,
            activation: false,
        };
        Call::new(&callee, false).dialled_by("voice")
    }

    #[test]
    fn a_question_reports_keys_and_silence_to_its_own_step() {
        let known = known(serde_json::json!({}));
        let speech = Speech { utter: vec![Utter::Dial("12".into())], then: Then::Collect(Collect::Key) };
        let document = of_call(&known, "p1", "VPN", &call(), &speech, "https://mfa.example.com/x");
        assert_eq!(
            document,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Gather input=\"dtmf\" finishOnKey=\"\" numDigits=\"1\" \
             timeout=\"6\" action=\"https://mfa.example.com/callback/voice/call/p1/1/0/keys\" method=\"POST\">\
             <Play digits=\"wwww12wwww\"/></Gather>\
             <Redirect method=\"POST\">https://mfa.example.com/callback/voice/call/p1/1/0/silence</Redirect></Response>\n"
        );
        let speech = Speech { utter: vec![], then: Then::Collect(Collect::Digits) };
        assert!(of_call(&known, "p1", "VPN", &call(), &speech, "").contains("finishOnKey=\"#\" timeout"));
    }

    #[test]
    fn no_name_of_an_application_becomes_markup() {
        // V-82: names come from settings and directories
        let known = known(serde_json::json!({ "portal": { "company": "A & B \u{7}\u{ffff}" } }));
        let speech = Speech { utter: vec![Utter::Say(Slot::Greeting)], then: Then::HangUp };
        let document = of_call(&known, "p1", "</Say><Hangup/>\"'", &call(), &speech, "");
        let tree = roxmltree::Document::parse(&document).expect("well-formed");
        let response = tree.root_element();
        let names: Vec<_> = response.children().map(|node| node.tag_name().name().to_owned()).collect();
        assert_eq!(names, ["Say", "Hangup"]);
        let say = response.first_element_child().expect("one");
        assert_eq!(say.attribute("language"), Some("de-DE"));
        let words = say.text().expect("words");
        assert!(words.contains("A & B ") && words.contains("</Say><Hangup/>\"'"), "{words}");
    }
}
