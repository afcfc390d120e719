//! What the gateways tell of clients and of home servers, in words for people: the console's and the command line's.

use proto::user_store::{ClientReport, HomeServerSeen};

/// What one node saw of a client, a line a fact.
pub fn of_client(report: &ClientReport) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.protocols.is_empty() {
        lines.push(format!("sends {}", report.protocols.join(", ")));
    }
    if report.signed > 0 || report.unsigned > 0 {
        lines.push(format!("requests with Message-Authenticator {}, without {}", report.signed, report.unsigned));
    }
    let seconds = |milliseconds: u32| format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100);
    if report.retry_interval_ms > 0 {
        let how = if report.retries_anew { "with a new request" } else { "with the same request" };
        lines.push(format!("tries again after {}, {how}", seconds(report.retry_interval_ms)));
    } else if report.retries_anew {
        lines.push("tries again with a new request".to_owned());
    }
    if report.retries_elsewhere {
        lines.push("tries again at other nodes too".to_owned());
    }
    if report.waits_ms > 0 {
        lines.push(format!("waits {} for an answer", seconds(report.waits_ms)));
    }
    let mut dropped: Vec<(&String, &u64)> = report.dropped.iter().collect();
    dropped.sort();
    if !dropped.is_empty() {
        let dropped: Vec<String> = dropped.into_iter().map(|(code, count)| format!("{code} {count}")).collect();
        lines.push(format!("packets without an answer: {}", dropped.join(", ")));
    }
    lines
}

/// How one node finds a home server.
pub fn of_home_server(seen: &HomeServerSeen) -> String {
    let state = in_words(&seen.state);
    match seen.accounting_state.as_str() {
        same if same == seen.state || same == "alive" => state.to_owned(),
        other => format!("{state}; accounting: {}", in_words(other)),
    }
}

fn in_words(state: &str) -> &'static str {
    match state {
        "alive" => "alive",
        "zombie" => "zombie: it leaves requests unanswered, and others are asked first",
        "dead" => "dead: it is only asked whether it is back",
        _ => "not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_in_words_and_its_accounting_where_that_is_worse_off() {
        //
        let seen = |state: &str, accounting: &str| {
            of_home_server(&HomeServerSeen {
                state: state.into(),
                accounting_state: accounting.into(),
                ..HomeServerSeen::default()
            })
        };
        assert_eq!(seen("alive", "alive"), "alive");
        assert_eq!(seen("dead", "alive"), "dead: it is only asked whether it is back");
        assert_eq!(seen("dead", "dead"), "dead: it is only asked whether it is back");
        assert_eq!(
            seen("alive", "zombie"),
            "alive; accounting: zombie: it leaves requests unanswered, and others are asked first"
        );
        assert_eq!(seen("undead", "alive"), "not known", "of another version");
    }
}
