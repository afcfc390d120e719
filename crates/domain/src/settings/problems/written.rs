//! How a host, a web address, a mail address and a country are written. Strict on purpose: what stands here decides where
//! secrets go, so a form that two readers could take differently is none.

use std::net::{IpAddr, Ipv6Addr};

/// A name of the DNS: labels of letters, digits and hyphens (RFC 1123 section 2.1).
pub fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|sign| sign.is_ascii_alphanumeric() || sign == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A domain of the DNS as directories are named after it: labels of letters, digits, hyphens and underscores, of 63 octets at most
/// (RFC 1035 section 2.3.4), and in all so short that the name of a service fits before it.
pub fn is_domain_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|sign| sign.is_ascii_alphanumeric() || b"-_".contains(&sign))
    };
    text.len() <= 200 && text.split('.').all(label)
}

/// A name or an address; IPv6 without brackets.
pub fn is_host(text: &str) -> bool {
    is_host_name(text) || text.parse::<Ipv6Addr>().is_ok()
}

/// This machine, whatever the network does.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host:port`, IPv6 in brackets.
pub fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // "+80" is a number to the parser below, and to no other reader.
    port.bytes().all(|sign| sign.is_ascii_digit()).then_some(())?;
    Some((bare_host(host)?, port.parse().ok().filter(|port| *port != 0)?))
}

fn bare_host(host: &str) -> Option<&str> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => Some(host).filter(|host| is_host_name(host)),
    }
}

/// An address of the web, as far as its host.
pub struct Web<'a> {
    pub secure: bool,
    pub host: &'a str,
}

/// `https://host[:port][/...]`. No user and no placeholder before the path: they would choose who gets what is sent.
pub fn web_address(text: &str) -> Option<Web<'_>> {
    if text.len() > 2048 || text.chars().any(|sign| sign.is_control() || sign.is_whitespace()) {
        return None;
    }
    let (secure, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://")?),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match bare_host(authority) {
        Some(host) => host,
        None => host_and_port(authority)?.0,
    };
    Some(Web { secure, host })
}

/// `name@host`, in ASCII and without quotes.
pub fn is_mail_address(text: &str) -> bool {
    let Some((name, host)) = text.split_once('@') else { return false };
    let plain = |sign: u8| sign.is_ascii_graphic() && !b"<>()[],;:\\\"@".contains(&sign);
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && is_host_name(host)
}

/// `name@host` or `Some Words <name@host>`.
pub fn is_mailbox(text: &str) -> bool {
    match text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        Some((words, address)) => {
            words.len() <= 128
                && !words.chars().any(|sign| sign.is_control() || sign == '"')
                && is_mail_address(address)
        }
        None => is_mail_address(text),
    }
}

/// Two capital letters (ISO 3166-1 alpha-2).
pub fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|sign| sign.is_ascii_uppercase())
}

/// `08:00`
pub fn is_time_of_day(text: &str) -> bool {
    let Some((hours, minutes)) = text.split_once(':') else { return false };
    let number = |part: &str, below: u8| {
        part.len() == 2
            && part.bytes().all(|sign| sign.is_ascii_digit())
            && part.parse::<u8>().is_ok_and(|it| it < below)
    };
    number(hours, 24) && number(minutes, 60)
}

/// The words in braces that stand for something: `{phone}`. Braces of JSON hold quotes and are none of these.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let word = rest.split_once('}')?.0;
        (!word.is_empty() && word.bytes().all(|sign| sign.is_ascii_lowercase() || sign == b'_')).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_address_has_one_host_that_nobody_can_read_otherwise() {
        for (text, host) in [
            ("https://api.example.com", Some("api.example.com")),
            ("https://api.example.com:8443/a?b=c", Some("api.example.com")),
            ("http://127.0.0.1:8080/", Some("127.0.0.1")),
            ("https://[::1]:8443/ari", Some("::1")),
            ("https://api.example.com/{account}/send", Some("api.example.com")),
            ("https://api.example.com@evil.example/", None),
            ("https://api.example.com\\@evil.example/", None),
            ("https://{account}.example.com/", None),
            ("https://", None),
            ("https:///path", None),
            ("https://-x.example", None),
            ("https://a..b", None),
            ("https://host:0/", None),
            ("https://host:x/", None),
            ("https://host:+80/", None),
            ("ftp://host/", None),
            ("HTTPS://host/", None),
            ("https://host/a b", None),
        ] {
            assert_eq!(web_address(text).map(|web| web.host), host, "{text}");
        }
    }

    #[test]
    fn a_domain_is_labels_that_the_dns_takes() {
        let longest = format!("{}.example", "x".repeat(63));
        for domain in ["corp.example", "child.Corp.example", "_sites.corp", "corp-1", longest.as_str()] {
            assert!(is_domain_name(domain), "{domain}");
        }
        let long = [format!("{}.example", "x".repeat(64)), "x.".repeat(100) + "xy"];
        for text in ["", ".", "a..b", "corp.example.", "a b", "a/b", "a\\b", "a@b", "a:1", "k\u{f6}ln.example"] {
            assert!(!is_domain_name(text), "{text}");
        }
        assert!(long.iter().all(|text| !is_domain_name(text)));
    }

    #[test]
    fn this_machine_is_known_by_its_names_and_by_no_other() {
        for (host, own) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("::1", true),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("10.0.0.1", false),
            // Some readers take it for 127.0.0.1; this one takes it for a name.
            ("127.1", false),
        ] {
            assert_eq!(is_loopback(host), own, "{host}");
        }
    }

    #[test]
    fn addresses_of_people_and_places() {
        for (text, good) in [
            ("ann@example.com", true),
            ("ann+x@mail.example.com", true),
            ("ann", false),
            ("@example.com", false),
            ("ann@", false),
            ("ann@example.com, bob@example.com", false),
            ("ann@example.com\r\nBcc: x@y.example", false),
            ("Ann <ann@example.com>", false),
        ] {
            assert_eq!(is_mail_address(text), good, "{text}");
        }
        assert!(is_mailbox("Second lock <mfa@example.com>") && is_mailbox("mfa@example.com"));
        assert!(!is_mailbox("a\r\nb <mfa@example.com>") && !is_mailbox("x <y>"));
        assert!(is_country("DE") && !is_country("de") && !is_country("DEU") && !is_country(""));
        assert!(is_time_of_day("08:00") && is_time_of_day("23:59"));
        for bad in ["24:00", "8:00", "08:60", "0800", "+8:00", "08:00:00"] {
            assert!(!is_time_of_day(bad), "{bad}");
        }
        assert_eq!(host_and_port("smsc.example.com:2775"), Some(("smsc.example.com", 2775)));
        assert_eq!(host_and_port("[::1]:2775"), Some(("::1", 2775)));
        for bad in ["smsc.example.com", "smsc:0", ":2775", "::1:2775", "a b:1"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
        let found: Vec<&str> = placeholders("{\"to\": \"{phone}\", \"x\": {\"y\": \"{text} {}\"}}").collect();
        assert_eq!(found, ["phone", "text"]);
    }
}
