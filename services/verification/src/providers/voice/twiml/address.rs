//! Where a provider asks us: `call/<prompt>/<attempt>/<step>/<what>`, and `call/<prompt>/<attempt>/status`. The address is part of what
//! the provider signs, so that an answer is for one step of one try of one prompt.

/// What a callback is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Somebody, or something, picked up.
    Answer,
    Keys,
    Silence,
    /// How the call goes, from outside.
    Status,
}

/// A parsed address.
#[derive(Debug, PartialEq, Eq)]
pub struct Address<'a> {
    pub prompt_id: &'a str,
    pub attempt: u32,
    pub step: Option<u32>,
    pub what: What,
}

pub fn write(prompt_id: &str, attempt: u32, step: Option<u32>, what: What) -> String {
    match (step, what) {
        (Some(step), What::Answer) => format!("call/{prompt_id}/{attempt}/{step}/answer"),
        (Some(step), What::Keys) => format!("call/{prompt_id}/{attempt}/{step}/keys"),
        (Some(step), What::Silence) => format!("call/{prompt_id}/{attempt}/{step}/silence"),
        (_, What::Status) | (None, _) => format!("call/{prompt_id}/{attempt}/status"),
    }
}

pub fn read(path: &str) -> Option<Address<'_>> {
    let parts: Vec<&str> = path.split('/').collect();
    let (prompt_id, attempt, step, what) = match parts.as_slice() {
        ["call", prompt_id, attempt, "status"] => (*prompt_id, *attempt, None, What::Status),
        ["call", prompt_id, attempt, step, what] => {
            let what = match *what {
                "answer" => What::Answer,
                "keys" => What::Keys,
                "silence" => What::Silence,
                _ => return None,
            };
            (*prompt_id, *attempt, Some(number(step)?), what)
        }
        _ => return None,
    };
    let good = (1..=64).contains(&prompt_id.len())
        && prompt_id.bytes().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, b'-' | b'_'));
    good.then_some(Address { prompt_id, attempt: number(attempt)?, step, what })
}

/// Without a sign, so that one number is written one way.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.len() <= 6 && text.bytes().all(|sign| sign.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written_and_nothing_else_is() {
        for (step, what) in
            [(Some(0), What::Answer), (Some(3), What::Keys), (Some(12), What::Silence), (None, What::Status)]
        {
            let path = write("0199-a_b", 2, step, what);
            assert_eq!(read(&path), Some(Address { prompt_id: "0199-a_b", attempt: 2, step, what }), "{path}");
        }
        for path in [
            "",
            "call",
            "call//1/status",
            "call/p/1",
            "call/p/1/status/",
            "call/p/x/status",
            "call/p/1/2/approve",
            "call/p/1/-2/keys",
            "call/p/1/+2/keys",
            "call/p/1/2/keys/3",
            "call/p%2f/1/status",
            "call/p/1234567/status",
            "sms/p/1/status",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}
