//! When directories are synchronised, and what needs approval: `[sync]` of the settings (FS-01 to FS-07).

use super::door::{Administrator, Sent};
use super::draft::{Change, Draft, Finding, Step, step};
use super::form::{Entry, Form, Part, Shape, number};
use super::pages::{self, FormPage, Frame, Message, show};
use crate::app::App;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::settings::SyncSchedule;
use http::StatusCode;
use std::sync::Arc;

const ADDRESS: &str = "/console/sync/schedule";
const SAVED: &str = "/console/sync/schedule/saved";
const BACK: &str = "/console/sync";

pub(super) async fn page(State(app): State<Arc<App>>, by: Administrator) -> Response {
    match Draft::open(&app).await {
        Ok(draft) => {
            let revision = draft.revision().to_string();
            show(StatusCode::OK, &filled(&app, &by, form(&draft.settings.sync), revision))
        }
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

pub(super) async fn save(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let change = Change {
        title: "Change the schedule?".to_owned(),
        address: ADDRESS.to_owned(),
        back: BACK,
        form: true,
        users: false,
        notes: Vec::new(),
        secrets: Vec::new(),
    };
    let (typed, findings) = typed(&sent);
    let taken = step(&app, &sent, change, |settings| {
        settings.sync = typed.clone();
        if findings.is_empty() { Ok(()) } else { Err(findings.clone()) }
    });
    match taken.await {
        Ok(Step::Again(findings)) => {
            let mut form = form(&typed);
            form.retype(&sent);
            form.finds("sync.", findings);
            let status = form.status();
            show(status, &filled(&app, &sent.by, form, sent.text("revision").to_owned()))
        }
        Ok(Step::Look(page)) => show(StatusCode::OK, &*page),
        Ok(Step::Applied) => Redirect::to(SAVED).into_response(),
        Err(problem) => pages::refused(&app, Some(&sent.by), &problem),
    }
}

pub(super) async fn saved(State(app): State<Arc<App>>, by: Administrator) -> Response {
    let sentences = vec!["It holds from the next run on.".to_owned()];
    let frame = Frame::of(&app, &by, "The schedule is changed");
    let page = Message { frame, sentences, bad: false, way_on: BACK.into(), label: "To synchronisation" };
    show(StatusCode::OK, &page)
}

fn filled(app: &App, by: &Administrator, form: Form, revision: String) -> FormPage {
    FormPage {
        frame: Frame::of(app, by, "Schedule and approval"),
        address: ADDRESS.to_owned(),
        back: BACK,
        revision,
        form,
    }
}

/// As it was typed; what is no number is 0 here, and is said.
fn typed(sent: &Sent) -> (SyncSchedule, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut of = |name: &str| number(sent, "sync.", name, &mut findings);
    let schedule = SyncSchedule {
        enabled: sent.text("enabled") == "yes",
        interval_minutes: of("interval_minutes"),
        always_full: sent.text("always_full") == "yes",
        approval_over_users: of("approval_over_users"),
        approval_over_percent: of("approval_over_percent"),
        approval_days: of("approval_days"),
        grace_days: of("grace_days"),
        phone_hold_hours: of("phone_hold_hours"),
        phone_back_minutes: of("phone_back_minutes"),
        preferred_nodes: sent.text("preferred_nodes").split_whitespace().map(str::to_owned).collect(),
    };
    (schedule, findings)
}

fn form(now: &SyncSchedule) -> Form {
    let by = SyncSchedule::default();
    let runs = vec![
        Entry::new(
            "enabled",
            "Synchronise by itself",
            Shape::Check { checked: now.enabled },
            "Off by default. Runs begin by themselves once somebody has asked for the first one, and again after sync items changed.",
        ),
        Entry::new(
            "interval_minutes",
            "Every so many minutes",
            Shape::number(now.interval_minutes, 1..=1440),
            format!("From start to start; {} by default.", by.interval_minutes),
        ),
        Entry::new(
            "always_full",
            "Read everything each time",
            Shape::Check { checked: now.always_full },
            "Off by default: what the directory tells of changes is followed where it tells, and everything is read once a day.",
        ),
        Entry::new(
            "preferred_nodes",
            "Hosts that lead while one of them can",
            Shape::Lines { value: now.preferred_nodes.join("\n"), placeholder: "any".to_owned() },
            "Any by default; one a line.",
        ),
    ];
    let approval = vec![
        Entry::new(
            "approval_over_users",
            "Approval over so many users",
            Shape::number(now.approval_over_users, 1..=999),
            format!(
                "More users who would be disabled, removed or newly exempt in a run wait for an administrator; {} by default.",
                by.approval_over_users
            ),
        ),
        Entry::new(
            "approval_over_percent",
            "Or over so many percent",
            Shape::number(now.approval_over_percent, 0..=100),
            format!(
                "Of the users of a directory, and at least three of them; {} by default, 0: the number alone decides.",
                by.approval_over_percent
            ),
        ),
        Entry::new(
            "approval_days",
            "Days that a list waits",
            Shape::number(now.approval_days, 1..=30),
            format!("Then it is void, and a run that finds the same makes a new one; {} by default.", by.approval_days),
        ),
        Entry::new(
            "grace_days",
            "Days that a removed user's second factors are kept",
            Shape::number(now.grace_days, 0..=365),
            format!("Then they are erased for good; {} by default, 0: at once.", by.grace_days),
        ),
    ];
    let phones = vec![
        Entry::new(
            "phone_hold_hours",
            "Hours that a changed number waits",
            Shape::number(now.phone_hold_hours, 0..=168),
            format!(
                "A number that synchronisation changed gets neither text nor call for so long; {} by default.",
                by.phone_hold_hours
            ),
        ),
        Entry::new(
            "phone_back_minutes",
            "Minutes in which a number that goes back is told",
            Shape::number(now.phone_back_minutes, 0..=1440),
            format!("Administrators hear of it by mail; {} by default, 0: never.", by.phone_back_minutes),
        ),
    ];
    Form {
        parts: vec![
            Part { title: "Runs", entries: runs },
            Part { title: "Approval", entries: approval },
            Part { title: "Phone numbers", entries: phones },
        ],
        ..Form::default()
    }
}
