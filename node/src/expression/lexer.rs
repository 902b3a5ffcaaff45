//! Text to tokens.

use umbel_proto::Value;

use super::ExpressionError;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name with its dots: `app.tasks.add.s`.
    Name(String),
    /// A number or text.
    Literal(Value),
    /// One of `( ) [ ] { } , = : | .`
    Mark(char),
    End,
}

impl Token {
    /// What it is, for an error.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("the name {name}"),
            Self::Literal(Value::Str(_)) => "a text".to_owned(),
            Self::Literal(_) => "a number".to_owned(),
            Self::Mark(mark) => format!("{mark:?}"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// All tokens of `text`, each with the byte it begins at; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ExpressionError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        let token = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '(' | ')' | '[' | ']' | '{' | '}' | ',' | '=' | ':' | '|' => {
                at += 1;
                Token::Mark(c)
            }
            '.' if !text[at + 1..].starts_with(|c: char| c.is_ascii_digit()) => {
                at += 1;
                Token::Mark('.')
            }
            '"' | '\'' => {
                let (string, end) = string(text, at, c)?;
                at = end;
                Token::Literal(Value::Str(string))
            }
            '0'..='9' | '-' | '+' | '.' => {
                let (value, end) = number(text, at)?;
                at = end;
                Token::Literal(value)
            }
            c if c.is_alphabetic() || c == '_' => {
                at = name_end(text, at);
                Token::Name(text[start..at].to_owned())
            }
            c => return Err(ExpressionError::new(text, at, format!("{c:?} has no meaning here"))),
        };
        found.push((start, token));
    }
    found.push((text.len(), Token::End));
    Ok(found)
}

/// Whether a character may stand inside a name.
pub(super) fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// Dots belong to a name where another part of it follows.
fn name_end(text: &str, start: usize) -> usize {
    let mut end = start;
    let mut chars = text[start..].char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        let part_follows = c == '.' && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric() || *next == '_');
        if !in_name(c) && !part_follows {
            break;
        }
        end = start + offset + c.len_utf8();
    }
    end
}

fn string(text: &str, start: usize, quote: char) -> Result<(String, usize), ExpressionError> {
    let mut out = String::new();
    let mut chars = text[start + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        let at = start + 1 + offset;
        match c {
            c if c == quote => return Ok((out, at + 1)),
            '\\' => {
                let Some((_, escaped)) = chars.next() else { break };
                let digits = match escaped {
                    'n' => {
                        out.push('\n');
                        continue;
                    }
                    't' => {
                        out.push('\t');
                        continue;
                    }
                    'r' => {
                        out.push('\r');
                        continue;
                    }
                    '\\' | '\'' | '"' | '/' => {
                        out.push(escaped);
                        continue;
                    }
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => {
                        return Err(
                            ExpressionError::new(text, at, format!("\\{escaped} is not an escape")).hint("write \\\\ for a backslash")
                        );
                    }
                };
                let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                let code = (hex.len() == digits).then(|| u32::from_str_radix(&hex, 16).ok()).flatten();
                match code.and_then(char::from_u32) {
                    Some(c) => out.push(c),
                    None => return Err(ExpressionError::new(text, at, format!("\\{escaped}{hex} is not a character"))),
                }
            }
            c => out.push(c),
        }
    }
    Err(ExpressionError::new(text, start, "this text is not closed").hint(format!("close it with {quote}")))
}

fn number(text: &str, start: usize) -> Result<(Value, usize), ExpressionError> {
    let word_end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-'));
    let end = text[start..].find(word_end).map_or(text.len(), |offset| start + offset);
    let written = &text[start..end];
    let digits = written.replace('_', "");
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    let bad = || ExpressionError::new(text, start, format!("{written} is not a number"));
    let value = if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let trimmed = unsigned.trim_start_matches('0');
        let plain = if trimmed.is_empty() { "0" } else { trimmed };
        let sign = if digits.starts_with('-') && plain != "0" { "-" } else { "" };
        let plain = format!("{sign}{plain}");
        plain.parse().map(Value::Int).unwrap_or_else(|_| Value::BigInt(plain.into()))
    } else if matches!(unsigned, "Infinity" | "inf") {
        Value::Float(if digits.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY })
    } else if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        Value::Float(digits.parse().map_err(|_| bad())?)
    } else {
        return Err(bad());
    };
    Ok((value, end))
}
