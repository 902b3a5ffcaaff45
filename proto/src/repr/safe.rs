//! What Celery calls `saferepr`: a `repr` that is cut short.
//!
//! As of 5.7, which closes the brackets it has opened; 5.6 leaves some of them open, and nobody reads them.

use super::special;
use crate::{Map, Value};

/// Celery's `argsrepr_maxsize`, `kwargsrepr_maxsize` and `resultrepr_maxsize`, in characters.
const CHARACTERS: usize = 1024;

/// How deep lists and maps are shown; deeper ones are `[...]` and `{...}`.
const LEVELS: usize = 3;

/// What `value` looks like in events and logs.
pub fn safe_repr(value: &Value) -> String {
    let mut printer = Printer::new();
    printer.value(value);
    printer.out
}

/// `repr(tuple(args))`: `(2, 2)`, `(1,)`, `()`; cut at 1024 characters as Celery's `saferepr` does.
pub fn args_repr(args: &[Value]) -> String {
    let mut printer = Printer::new();
    let end = if args.len() == 1 { ",)" } else { ")" };
    printer.list("(", end, args);
    printer.out
}

/// `repr(kwargs)`, cut likewise.
pub fn kwargs_repr(kwargs: &Map) -> String {
    let mut printer = Printer::new();
    printer.map(kwargs);
    printer.out
}

/// Writes until there is no room left.
struct Printer {
    out: String,
    /// Characters left; closing brackets may make use of more.
    room: isize,
    level: usize,
    /// Whether `, ...` has been written: from then on only brackets are closed.
    cut: bool,
}

impl Printer {
    fn new() -> Self {
        Self { out: String::new(), room: CHARACTERS as isize, level: 0, cut: false }
    }

    /// Writes a token; says whether there was room.
    fn token(&mut self, token: &str) -> bool {
        if self.cut {
            return false;
        }
        if self.room <= 0 {
            self.out.push_str(", ...");
            self.cut = true;
            return false;
        }
        self.out.push_str(token);
        self.room -= token.chars().count() as isize;
        true
    }

    /// Writes a closing bracket, for which there always is room.
    fn close(&mut self, bracket: &str) {
        self.out.push_str(bracket);
        self.room -= bracket.chars().count() as isize;
        self.level -= 1;
    }

    fn quoted(&mut self, text: &str) {
        let room = self.room;
        self.token(&format!("'{}'", truncated(text, room).replace('\'', "\\'")));
    }

    /// Writes the `repr` of something that is not shown in pieces.
    fn whole(&mut self, repr: &str) {
        let room = self.room;
        self.token(&truncated(repr, room));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let most = usize::try_from(self.room).unwrap_or_default();
        let (shown, ellipsis) = if bytes.len() > most { (&bytes[..most], "...") } else { (bytes, "") };
        let text = match std::str::from_utf8(shown) {
            Ok(text) => text.to_owned(),
            Err(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        self.token(&format!("b'{text}{ellipsis}'"));
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Str(text) => self.quoted(text),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::List(items) => self.list("[", "]", items),
            Value::Map(map) => match special::of_map(map) {
                Some(special::Shown::Text(text)) => self.whole(&text),
                Some(special::Shown::Bytes(bytes)) => self.bytes(&bytes),
                None => self.map(map),
            },
            scalar => {
                let repr = super::repr(scalar);
                self.whole(&repr);
            }
        }
    }

    /// Enters a list or map; says whether it is to be shown.
    fn open(&mut self, open: &str, close: &str) -> bool {
        if self.level >= LEVELS {
            self.token(&format!("{open}...{close}"));
            return false;
        }
        let shown = self.token(open);
        self.level += usize::from(shown);
        shown
    }

    fn list(&mut self, open: &str, close: &str, items: &[Value]) {
        if self.open(open, close) {
            for (index, item) in items.iter().enumerate() {
                if self.cut || (index > 0 && !self.token(", ")) {
                    break;
                }
                self.value(item);
            }
            self.close(close);
        }
    }

    fn map(&mut self, map: &Map) {
        if self.open("{", "}") {
            for (index, (key, value)) in map.iter().enumerate() {
                if self.cut || (index > 0 && !self.token(", ")) {
                    break;
                }
                self.quoted(key);
                self.token(": ");
                self.value(value);
            }
            self.close("}");
        }
    }
}

/// `text`, or when it has as many characters as there is room: what fits, up to the last space in it, and `...`.
fn truncated(text: &str, room: isize) -> String {
    let Ok(room) = usize::try_from(room) else { return text.to_owned() };
    if room == 0 || text.len() < room {
        return text.to_owned();
    }
    let end = match text.char_indices().nth(room) {
        Some((end, _)) => end,
        None if text.chars().count() >= room => text.len(),
        None => return text.to_owned(),
    };
    let fits = &text[..end];
    format!("{}...", fits.rsplit_once(' ').map_or(fits, |(words, _)| words))
}
