//! The words of a command line, with places for arguments.

use umbel_proto::{Map, TaskError, Value, codec::json};

/// One word: text and places in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Positional(usize),
    Named(String),
}

/// What the places are filled from.
pub(crate) struct Arguments<'a> {
    /// Positional arguments.
    pub(crate) args: &'a [Value],
    /// Keyword arguments.
    pub(crate) kwargs: &'a Map,
    /// What is known of the call; stronger than keyword arguments of the same name.
    pub(crate) known: &'a [(&'static str, String)],
}

impl Template {
    /// Reads `{0}` (a positional argument), `{name}` (a keyword argument, or one of `task_id`, `task_name`, `root_id`,
    /// `queue`, `attempt`, `retries`), `{{` and `}}` (braces).
    ///
    /// # Errors
    /// The end of a sentence that begins with the word.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        if word.contains('\0') {
            return Err("has a NUL character in it".to_owned());
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = word.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    text.push(c);
                }
                '}' => return Err("has a } that closes nothing (write }} for the character)".to_owned()),
                '{' => {
                    let mut place = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some(c) if c.is_alphanumeric() || c == '_' => place.push(c),
                            _ => return Err("has a { that does not begin the name of an argument (write {{ for the character)".to_owned()),
                        }
                    }
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(match place.parse() {
                        Ok(index) => Part::Positional(index),
                        Err(_) if place.is_empty() => return Err("has {} without the name of an argument in it".to_owned()),
                        Err(_) => Part::Named(place),
                    });
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    /// The word with its places filled. Text goes in as it is, always within this one word: nothing splits or expands it.
    /// Numbers, booleans, lists and maps go in as JSON; null as nothing.
    ///
    /// # Errors
    /// Python's `TypeError` for an argument that was not given, `ValueError` for one that no command line can carry.
    pub(crate) fn fill(&self, from: &Arguments<'_>) -> Result<String, TaskError> {
        let mut word = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => word.push_str(text),
                Part::Positional(index) => {
                    let missing = || TaskError::new("builtins", "TypeError", format!("missing positional argument {{{index}}}"));
                    push(&mut word, from.args.get(*index).ok_or_else(missing)?);
                }
                Part::Named(name) => match from.known.iter().find(|(known, _)| known == name) {
                    Some((_, value)) => word.push_str(value),
                    None => {
                        let missing = || TaskError::new("builtins", "TypeError", format!("missing keyword argument {{{name}}}"));
                        push(&mut word, from.kwargs.get(name).ok_or_else(missing)?);
                    }
                },
            }
        }
        if word.contains('\0') {
            return Err(TaskError::new("builtins", "ValueError", "an argument has a NUL character in it"));
        }
        Ok(word)
    }
}

fn push(word: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Str(text) => word.push_str(text),
        value => word.push_str(&String::from_utf8_lossy(&json::write(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(word: &str) -> Result<String, String> {
        let list = Value::List(vec![Value::Int(1), Value::Str("x".into())]);
        let args = [Value::Str("a b; rm -rf $HOME".into()), Value::Int(-2), Value::Null, Value::Bool(true), list];
        let kwargs: Map = [("input", "in.mp4"), ("task_id", "forged"), ("nul", "a\0b")]
            .map(|(name, value)| (name.to_owned(), Value::Str(value.into())))
            .into_iter()
            .collect();
        let from = Arguments { args: &args, kwargs: &kwargs, known: &[("task_id", "real".to_owned())] };
        Template::parse(word)?.fill(&from).map_err(|error| match &error.exc_message[0] {
            Value::Str(text) => format!("{}: {text}", error.exc_type),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn places_are_filled() {
        for (word, filled) in [
            ("plain", "plain"),
            ("", ""),
            ("{0}", "a b; rm -rf $HOME"),
            ("x{1}y{2}z", "x-2yz"),
            ("{3}", "true"),
            ("{4}", "[1,\"x\"]"),
            ("--in={input}", "--in=in.mp4"),
            ("{task_id}", "real"),
            ("{{{input}}}", "{in.mp4}"),
            ("{{0}}", "{0}"),
        ] {
            assert_eq!(fill(word).as_deref().map(|filled| filled.replace(", ", ",")), Ok(filled.to_owned()), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        for (word, error) in [
            ("{9}", "TypeError: missing positional argument {9}"),
            ("{nope}", "TypeError: missing keyword argument {nope}"),
            ("{nul}", "ValueError: an argument has a NUL character in it"),
            ("{", "has a { that does not begin the name of an argument (write {{ for the character)"),
            ("{a b}", "has a { that does not begin the name of an argument (write {{ for the character)"),
            ("{}", "has {} without the name of an argument in it"),
            ("a}", "has a } that closes nothing (write }} for the character)"),
        ] {
            assert_eq!(fill(word), Err(error.to_owned()), "{word}");
        }
    }
}
