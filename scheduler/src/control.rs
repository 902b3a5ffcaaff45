//! Remote control: who is meant, how much is too much, and what the texts of answers say.

use std::collections::BTreeSet;

use fancy_regex::RegexBuilder;
use umbel_proto::{Millis, control::Request, repr};

/// How far a pattern may go before it counts as one that does not match.
const BACKTRACKS: usize = 10_000;

/// The longest pattern that is read, in bytes; names of nodes are shorter.
const PATTERN_MAX: usize = 1_024;

/// Whether a command is for the node of that name (`kombu/pidbox.py::handle_message`): by destination, else by pattern, else it
/// is for everybody. A pattern that is not valid, is too long, or whose kind is not known, means nobody.
pub fn is_for(request: &Request, node: &str) -> bool {
    match (&request.destination, &request.pattern, &request.matcher) {
        (Some(destination), ..) if !destination.is_empty() => destination.iter().any(|name| name == node),
        (_, Some(pattern), Some(matcher)) if !pattern.is_empty() && !matcher.is_empty() => {
            if pattern.len() > PATTERN_MAX {
                return false;
            }
            let expression = match matcher.as_str() {
                "glob" => glob(pattern),
                "pcre" => format!("^(?:{pattern})"),
                _ => return false,
            };
            let regex = RegexBuilder::new(&expression).backtrack_limit(BACKTRACKS).build();
            regex.is_ok_and(|regex| regex.is_match(node).unwrap_or(false))
        }
        _ => true,
    }
}

/// Python's `fnmatch.translate`.
fn glob(pattern: &str) -> String {
    let mut expression = String::from("(?s)^");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                let rest: String = chars.clone().collect();
                // A bracket that stands first in a set is a member of it.
                let from = if rest.starts_with("!]") { 2 } else { usize::from(rest.starts_with(']')) };
                let Some(end) = rest.get(from..).and_then(|tail| tail.find(']')).map(|end| end + from) else {
                    expression.push_str("\\[");
                    continue;
                };
                let (negated, set) = match rest[..end].strip_prefix('!') {
                    Some(set) => ("^", set),
                    None => ("", &rest[..end]),
                };
                let set = set.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace('^', "\\^").replace("&&", "&\\&");
                expression.push_str(&format!("[{negated}{set}]"));
                chars.by_ref().take(rest[..=end].chars().count()).for_each(drop);
            }
            c => expression.push_str(&fancy_regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    expression
}

/// How much control traffic is listened to: a bucket of tokens, one a command.
#[derive(Debug, Clone)]
pub struct Flood {
    per_second: f64,
    capacity: f64,
    tokens: f64,
    at: Millis,
}

impl Flood {
    /// `per_second` commands in the long run, `capacity` at once.
    pub fn new(per_second: f64, capacity: f64, now: Millis) -> Self {
        Self { per_second, capacity, tokens: capacity, at: now }
    }

    /// Whether one more command is listened to now.
    pub fn admits(&mut self, now: Millis) -> bool {
        let passed = (now - self.at).max(0) as f64 / 1e3;
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.capacity);
        let admits = self.tokens >= 1.0;
        if admits {
            self.tokens -= 1.0;
        }
        admits
    }
}

/// Python's `repr` of a set of texts, in the order of the alphabet; `set()` when it is empty.
pub fn set_repr(texts: &BTreeSet<String>) -> String {
    if texts.is_empty() {
        return "set()".to_owned();
    }
    let items: Vec<String> = texts.iter().map(|text| repr::repr(&text.as_str().into())).collect();
    format!("{{{}}}", items.join(", "))
}

/// The number of a signal by its name (`SIGTERM`, `TERM`, `term`) or number, if it is one that a process can be sent.
pub fn signal(text: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 12] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STOP", 19),
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = name.parse::<i32>().ok().filter(|number| (1..=64).contains(number));
    number.or_else(|| NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(matcher: &str, pattern: &str) -> Request {
        Request { pattern: Some(pattern.to_owned()), matcher: Some(matcher.to_owned()), ..Request::new("ping") }
    }

    /// Goal: destination counts before pattern, and a pattern means what it means to Python.
    #[test]
    fn commands_are_for_those_they_name() {
        let node = "w1@host1";
        assert!(is_for(&Request::new("ping"), node));
        for (request, meant) in [
            (Request { destination: Some(vec!["w1@host1".to_owned()]), ..pattern("glob", "no") }, true),
            (Request { destination: Some(vec!["w2@host1".to_owned()]), ..pattern("glob", "*") }, false),
            (Request { destination: Some(Vec::new()), ..Request::new("ping") }, true),
            (pattern("glob", "w1*"), true),
            (pattern("glob", "w1"), false),
            (pattern("glob", "w?@host[0-9]"), true),
            (pattern("glob", "w[!2]@*"), true),
            (pattern("glob", "w[!1]@*"), false),
            (pattern("glob", "[]w]1@host1"), true),
            (pattern("glob", "w1@host["), false),
            (pattern("pcre", "w[1]@.*"), true),
            (pattern("pcre", "w1"), true),
            (pattern("pcre", "host"), false),
            (pattern("pcre", "("), false),
            (pattern("pcre", "(a*)*b|w1@(?:host1|x)+y"), false),
            (pattern("sql", "w1*"), false),
            (pattern("glob", &"*".repeat(PATTERN_MAX)), true),
            (pattern("glob", &"*".repeat(PATTERN_MAX + 1)), false),
        ] {
            assert_eq!(is_for(&request, node), meant, "{request:?}");
        }
    }

    #[test]
    fn a_flood_is_cut_to_its_rate() {
        let mut flood = Flood::new(10.0, 5.0, 0);
        assert_eq!((0..100).filter(|_| flood.admits(0)).count(), 5);
        assert_eq!((0..100).filter(|_| flood.admits(200)).count(), 2);
        assert!(!flood.admits(100), "a clock that goes back gives nothing");
        assert_eq!((0..100).filter(|_| flood.admits(1_000_000)).count(), 5);
    }

    #[test]
    fn sets_and_signals_read_as_in_python() {
        let set = |texts: &[&str]| set_repr(&texts.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!((set(&[]), set(&["b", "a'"])), ("set()".to_owned(), "{\"a'\", 'b'}".to_owned()));
        for (text, number) in [("SIGTERM", Some(15)), ("kill", Some(9)), ("9", Some(9)), ("0", None), ("SIGNONE", None), ("65", None)] {
            assert_eq!(signal(text), number, "{text}");
        }
    }
}
