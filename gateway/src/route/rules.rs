//! Whether one of the owner's rules is meant for a call.

use std::fmt;

use talkstack_control::pattern::Pattern;
use talkstack_control::port::{Numbering, RouteRule, RouteSource};

use super::{Line, Question, Router, dialled, hours, international, number_digits};

/// Why a rule does not match, the first reason that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// It looks at other lines.
    Line,
    /// It holds at other hours.
    Hours,
    /// None of its patterns matches the called number.
    Called,
    /// None of its patterns matches the caller.
    Caller,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mismatch::Line => "it looks at other lines",
            Mismatch::Hours => "it holds at other hours",
            Mismatch::Called => "the called number matches none of its patterns",
            Mismatch::Caller => "the caller matches none of its patterns",
        })
    }
}

/// The called number as the rule rewrites it, or why the rule is not meant for this call.
pub(super) fn check(rule: &RouteRule, question: &Question<'_>, router: &Router<'_>) -> Result<String, Mismatch> {
    let is_line = match (&rule.from, question.line) {
        (RouteSource::Any, _) => true,
        (RouteSource::Trunk { trunk_id }, Line::Trunk(id)) => trunk_id == id,
        (RouteSource::Extensions, Line::Extension(..)) => true,
        (RouteSource::Trunk { .. } | RouteSource::Extensions, _) => false,
    };
    if !is_line {
        return Err(Mismatch::Line);
    }
    if !hours::is_within(&rule.hours, router.at) {
        return Err(Mismatch::Hours);
    }
    let called = router.called_forms(question);
    let rewritten = match rule.called.is_empty() {
        true => called.into_iter().next(),
        false => first_match(&rule.called, &called),
    };
    let rewritten = rewritten.ok_or(Mismatch::Called)?;
    if !rule.callers.is_empty() && first_match(&rule.callers, &router.caller_forms(question)).is_none() {
        return Err(Mismatch::Caller);
    }
    Ok(rewritten)
}

/// What the first pattern that matches makes of the first form that it matches. A text that is no pattern matches
/// nothing: control lets none in.
fn first_match(patterns: &[String], forms: &[String]) -> Option<String> {
    let patterns = patterns.iter().filter_map(|text| Pattern::parse(text).ok());
    patterns.flat_map(|pattern| forms.iter().filter_map(move |form| pattern.apply(form))).next()
}

impl Router<'_> {
    /// The called number in the forms that a pattern may be written for: as dialled, then as E.164 with and without `+`.
    fn called_forms(&self, question: &Question<'_>) -> Vec<String> {
        let mut forms = Vec::new();
        for user in [question.request_user, question.to_user] {
            self.add_forms(&mut forms, question.line, user);
        }
        forms
    }

    fn caller_forms(&self, question: &Question<'_>) -> Vec<String> {
        let mut forms = Vec::new();
        match question.line {
            // What it has proven counts, and not what its From says.
            Line::Extension(user, extension) => {
                forms.push(user.to_owned());
                if let Some(number) = &extension.number {
                    forms.extend([format!("+{number}"), number.clone()]);
                }
            }
            Line::Trunk(_) | Line::Agent(_) | Line::Other => self.add_forms(&mut forms, question.line, question.caller),
        }
        forms
    }

    fn add_forms(&self, forms: &mut Vec<String>, line: Line<'_>, user: &str) {
        let Some(number) = dialled(user) else {
            let name = user.split(';').next().unwrap_or_default();
            return if !name.is_empty() {
                forms.push(name.to_owned())
            };
        };
        let known = || number_digits(&number).filter(|digits| self.snapshot.numbers.contains_key(digits));
        let full = self.numbering(line).and_then(|numbering| international(numbering, &number));
        let full = full.map(|full| full.digits().to_owned()).or_else(known);
        forms.push(number);
        if let Some(full) = full {
            forms.extend([format!("+{full}"), full]);
        }
    }

    /// How numbers are written on a line.
    pub(super) fn numbering(&self, line: Line<'_>) -> Option<&Numbering> {
        match line {
            Line::Trunk(id) => self.snapshot.trunks.get(id).map(|trunk| &trunk.numbering),
            Line::Extension(user, _) => self.snapshot.extensions.get(user).map(|extension| &extension.numbering),
            Line::Agent(_) | Line::Other => None,
        }
    }
}
