//! Whether a change comes from one of our own pages (V-81).

use crate::config::PublicUrl;
use http::HeaderMap;
use http::header::ORIGIN;

/// Browsers say where a request comes from, and no page can change what they say. One that says nothing is refused: every
/// browser that can show our pages sends `Origin` with a POST.
pub(crate) fn same_origin(headers: &HeaderMap, public: &PublicUrl) -> bool {
    match (headers.get("sec-fetch-site"), headers.get(ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin == public.origin(),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_from_our_own_origin_only() {
        // V-81, B-91
        let public = PublicUrl::try_from("https://mfa.example.com".to_owned()).expect("an origin");
        let asked = |site: Option<&str>, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().expect("a value"));
                }
            }
            same_origin(&headers, &public)
        };
        assert!(asked(Some("same-origin"), Some("https://mfa.example.com")));
        // Reached under another of its names: the browser still vouches.
        assert!(asked(Some("same-origin"), Some("https://localhost:8443")));
        assert!(asked(None, Some("https://mfa.example.com")));
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!asked(Some(site), Some("https://mfa.example.com")), "{site}");
        }
        for origin in ["null", "https://evil.example", "https://mfa.example.com.evil.example", "http://mfa.example.com"]
        {
            assert!(!asked(None, Some(origin)), "{origin}");
        }
        assert!(!asked(None, None));
    }
}
