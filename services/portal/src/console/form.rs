//! Forms of many fields: what each asks, what stands in it, and what is wrong with it.

use super::door::Sent;
use super::draft::Finding;
use http::StatusCode;

/// A form, in parts.
#[derive(Default)]
pub(super) struct Form {
    pub parts: Vec<Part>,
    /// Fields that are carried along unseen.
    pub hidden: Vec<(&'static str, String)>,
    /// What is wrong and belongs to no field of it.
    pub failures: Vec<String>,
}

pub(super) struct Part {
    pub title: &'static str,
    pub entries: Vec<Entry>,
}

pub(super) struct Entry {
    /// As the key is called in the settings.
    pub name: &'static str,
    pub label: &'static str,
    pub help: String,
    pub shape: Shape,
    pub problems: Vec<String>,
}

pub(super) enum Shape {
    Line {
        value: String,
        placeholder: String,
        suggestions: Vec<String>,
    },
    /// A line, or what is picked on a page of its own: the field `step` is `browse` then.
    Picked {
        value: String,
    },
    Lines {
        value: String,
        placeholder: String,
    },
    /// Attribute names, typed or picked from the list `attributes` of the page; a doubt is no problem.
    Attribute {
        value: String,
        placeholder: String,
        doubt: Option<String>,
    },
    Number {
        value: String,
        least: u32,
        most: u32,
    },
    Check {
        checked: bool,
    },
    Choice {
        value: String,
        options: Vec<Choice>,
    },
    /// Any of them, each under the same name.
    Several {
        values: Vec<String>,
        options: Vec<Choice>,
    },
    /// In an order, each under the same name; an empty one counts for nothing.
    Ordered {
        values: Vec<String>,
        options: Vec<Choice>,
    },
    /// Sent as `secret.NAME`; empty, always.
    Secret {
        placeholder: String,
    },
    /// Can be seen here, and is changed elsewhere.
    Shown {
        value: String,
    },
}

/// A value and what it is called.
#[derive(Clone)]
pub(super) struct Choice {
    pub value: String,
    pub label: String,
}

impl Choice {
    pub fn new(value: impl Into<String>, label: impl Into<String>) -> Self {
        Self { value: value.into(), label: label.into() }
    }
}

impl Entry {
    pub fn new(name: &'static str, label: &'static str, shape: Shape, help: impl Into<String>) -> Self {
        Self { name, label, help: help.into(), shape, problems: Vec::new() }
    }

    /// Of the field itself.
    pub fn id(&self) -> String {
        match self.shape {
            Shape::Secret { .. } => format!("secret.{}", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// Of what describes the field to a reader that speaks.
    pub fn described_by(&self) -> Option<String> {
        let help = (!self.help.is_empty()).then(|| format!("{}-help", self.name));
        let problem = (!self.problems.is_empty()).then(|| format!("{}-problem", self.name));
        let doubted = matches!(self.shape, Shape::Attribute { doubt: Some(_), .. });
        let doubt = doubted.then(|| format!("{}-doubt", self.name));
        let bounds = matches!(self.shape, Shape::Number { .. }).then(|| format!("{}-bounds", self.name));
        let ids: Vec<String> = [problem, doubt, help, bounds].into_iter().flatten().collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    }
}

impl Shape {
    pub fn line(value: impl Into<String>) -> Self {
        Self::Line { value: value.into(), placeholder: String::new(), suggestions: Vec::new() }
    }

    pub fn number(value: impl ToString, allowed: std::ops::RangeInclusive<u32>) -> Self {
        Self::Number { value: value.to_string(), least: *allowed.start(), most: *allowed.end() }
    }
}

impl Form {
    /// What is wrong is said beside the field of its key, `prefix` + name or a part of it, else at the head.
    pub fn finds(&mut self, prefix: &str, findings: Vec<Finding>) {
        for finding in findings {
            let key = finding.key.strip_prefix(prefix);
            let mut entries = self.parts.iter_mut().flat_map(|part| &mut part.entries);
            match key.and_then(|key| entries.find(|entry| is_at(key, entry.name))) {
                Some(entry) => entry.problems.push(finding.text),
                None => self.failures.push(finding.sentence()),
            }
        }
    }

    /// As somebody typed it, whether it can be read or not.
    pub fn retype(&mut self, sent: &Sent) {
        for entry in self.parts.iter_mut().flat_map(|part| &mut part.entries) {
            let text = || sent.text(entry.name).to_owned();
            match &mut entry.shape {
                Shape::Line { value, .. }
                | Shape::Attribute { value, .. }
                | Shape::Picked { value }
                | Shape::Lines { value, .. }
                | Shape::Number { value, .. }
                | Shape::Choice { value, .. } => *value = text(),
                Shape::Check { checked } => *checked = sent.text(entry.name) == "yes",
                Shape::Several { values, .. } | Shape::Ordered { values, .. } => *values = sent.all(entry.name),
                Shape::Secret { .. } | Shape::Shown { .. } => {}
            }
        }
    }

    /// Writes into a field of one line.
    pub fn set(&mut self, name: &str, text: &str) {
        let mut entries = self.parts.iter_mut().flat_map(|part| &mut part.entries);
        let shape = entries.find(|entry| entry.name == name).map(|entry| &mut entry.shape);
        if let Some(Shape::Line { value, .. } | Shape::Picked { value } | Shape::Choice { value, .. }) = shape {
            text.clone_into(value);
        }
    }

    pub fn status(&self) -> StatusCode {
        if self.is_refused() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
    }

    pub fn is_refused(&self) -> bool {
        !self.failures.is_empty() || self.wrong().next().is_some()
    }

    /// The fields with something wrong.
    pub fn wrong(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().flat_map(|part| &part.entries).filter(|entry| !entry.problems.is_empty())
    }
}

/// A number of a form; 0 where none was typed, which `findings` say then.
pub(super) fn number(sent: &Sent, prefix: &str, name: &str, findings: &mut Vec<Finding>) -> u32 {
    let text = sent.text(name);
    text.parse().unwrap_or_else(|_| {
        findings.push(Finding::new(format!("{prefix}{name}"), format!("found {text:?}; a number is expected")));
        0
    })
}

fn is_at(key: &str, name: &str) -> bool {
    key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_at_its_field_or_at_the_head() {
        let entry = |name| Entry::new(name, "", Shape::line(""), "");
        let mut form = Form::default();
        form.parts.push(Part { title: "Source", entries: vec![entry("source.dn"), entry("country")] });
        let findings =
            [("sync_item.staff.source.dn", "is empty"), ("sync_item.staff", "never has a user"), ("", "odd")];
        form.finds("sync_item.staff.", findings.map(|(key, text)| Finding::new(key, text)).into());
        assert_eq!(form.parts[0].entries[0].problems, ["is empty"]);
        assert!(form.parts[0].entries[1].problems.is_empty());
        assert_eq!(form.failures, ["sync_item.staff: never has a user", "odd"]);
        assert_eq!(form.parts[0].entries[0].described_by().as_deref(), Some("source.dn-problem"));
    }
}
