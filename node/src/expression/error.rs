//! Where a text is not an expression.

use std::fmt;

use thiserror::Error;

/// The first mistake in an expression. Printed, it shows the line with a caret under the place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ExpressionError {
    /// The line at fault, its control characters replaced, cut to what is around the place.
    pub line: String,
    /// The column in that line, counted from 0 in characters.
    pub caret: usize,
    /// The column in the text, counted from 1 in characters.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What was perhaps meant, or what to write instead.
    pub hint: Option<String>,
}

/// Characters shown on each side of the place.
const AROUND: usize = 60;

impl ExpressionError {
    /// A mistake at byte `at` of `text`.
    pub(super) fn new(text: &str, at: usize, problem: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.chars().count();
        let in_line = before[line_start..].chars().count();
        let skipped = in_line.saturating_sub(AROUND);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let shown = line.chars().skip(skipped).take(2 * AROUND);
        Self {
            line: shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
            caret: in_line - skipped,
            column: column + 1,
            problem: problem.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}\n  {}\n  {:>caret$}^", self.column, self.problem, self.line, "", caret = self.caret)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}
