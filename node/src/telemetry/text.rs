//! Text lines: `[2026-11-21 05:45:09,950: INFO/node] message key=value`.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::fields::{Fields, level};
use crate::facts::line;

pub(super) struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let fields = Fields::of(event);
        if let Some(line) = fields.as_written(event) {
            return writeln!(writer, "{line}");
        }
        let Fields { message, others } = fields;
        let now = jiff::Zoned::now();
        let time = now.strftime("%Y-%m-%d %H:%M:%S");
        write!(writer, "[{time},{:03}: {}/node] ", now.millisecond(), level(*event.metadata().level()))?;
        escape(&mut writer, &message)?;
        // The sentence about a task says it all.
        let says_all = event.metadata().target() == line::TARGET;
        for (name, value) in others.iter().filter(|(name, _)| !says_all && *name != "traceback") {
            write!(writer, " {name}=")?;
            match value {
                Value::String(text) => escape(&mut writer, text)?,
                value => write!(writer, "{value}")?,
            }
        }
        writer.write_char('\n')?;
        let traceback = others.iter().find(|(name, _)| *name == "traceback").and_then(|(_, value)| value.as_str());
        for line in traceback.into_iter().flat_map(str::lines) {
            writer.write_str("    ")?;
            escape(&mut writer, line)?;
            writer.write_char('\n')?;
        }
        Ok(())
    }
}

/// Whether a character could begin a line, move a cursor or turn the direction of writing.
pub(super) fn is_harmful(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes text so that it stays on its line and moves no cursor: control characters, line and paragraph separators and
/// what turns the direction of writing are written as escapes.
pub(super) fn escape(writer: &mut impl Write, text: &str) -> fmt::Result {
    if !text.contains(is_harmful) {
        return writer.write_str(text);
    }
    for char in text.chars() {
        if is_harmful(char) { write!(writer, "{}", char.escape_default())? } else { writer.write_char(char)? }
    }
    Ok(())
}
