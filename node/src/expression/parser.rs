//! Tokens to signatures: a parser that looks one token ahead.

use umbel_proto::{Signature, SubtaskType, TaskName, Value};

use super::{
    DEPTH_MAX, ExpressionError, LENGTH_MAX,
    lexer::{Token, tokens},
};
use crate::config::suggest::closest;

pub(super) fn parse(text: &str, known: Option<&[&str]>) -> Result<Signature, ExpressionError> {
    if text.len() > LENGTH_MAX {
        return Err(ExpressionError::new(text, 0, format!("the expression is longer than {LENGTH_MAX} bytes"))
            .hint("put it into a file of signatures"));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, next: 0, depth: 0, known };
    let signature = parser.pipe()?;
    match parser.peek() {
        Token::End => Ok(signature),
        Token::Mark(',') => Err(parser.error("one expression is enough").hint("side by side is group(…, …)")),
        _ => Err(parser.expected("\"|\" or the end")),
    }
}

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    known: Option<&'a [&'a str]>,
}

/// The functions of the notation; no task is called like one of them without its module.
const FUNCTIONS: &[&str] = &["chain", "group", "chord", "xmap", "starmap", "xstarmap", "chunks"];

impl Parser<'_> {
    // What all rules use.

    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    pub(super) fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    pub(super) fn take(&mut self) -> Token {
        let token = self.peek().clone();
        // The end is never taken, so there always is a next token.
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    pub(super) fn takes(&mut self, mark: char) -> bool {
        let is = *self.peek() == Token::Mark(mark);
        if is {
            self.next += 1;
        }
        is
    }

    /// The token before the one that was taken last.
    pub(super) fn token_before_last(&self) -> &Token {
        &self.tokens[self.next.saturating_sub(2)].1
    }

    /// The name of a keyword argument and its `=`, if they come next. Any name may be quoted; keyword arguments need not be
    /// Python identifiers on the wire.
    pub(super) fn keyword(&mut self) -> Option<String> {
        let name = match self.peek() {
            Token::Name(name) => name.clone(),
            Token::Literal(Value::Str(name)) => name.clone(),
            _ => return None,
        };
        if self.tokens.get(self.next + 1).map(|(_, token)| token) != Some(&Token::Mark('=')) {
            return None;
        }
        self.next += 2;
        Some(name)
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> ExpressionError {
        ExpressionError::new(self.text, self.at(), problem)
    }

    pub(super) fn error_at(&self, at: usize, problem: impl Into<String>) -> ExpressionError {
        ExpressionError::new(self.text, at, problem)
    }

    pub(super) fn expected(&self, what: &str) -> ExpressionError {
        self.error(format!("expected {what}, found {}", self.peek().describe()))
    }

    pub(super) fn need(&mut self, mark: char) -> Result<(), ExpressionError> {
        if self.takes(mark) { Ok(()) } else { Err(self.expected(&format!("{mark:?}"))) }
    }

    /// One level deeper while `rule` is read.
    pub(super) fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T, ExpressionError>) -> Result<T, ExpressionError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(format!("this is nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let read = rule(self);
        self.depth -= 1;
        read
    }

    /// `item, item` up to `close`, which is taken; a comma may stand behind the last.
    pub(super) fn items<T>(
        &mut self,
        close: char,
        item: impl Fn(&mut Self) -> Result<T, ExpressionError>,
    ) -> Result<Vec<T>, ExpressionError> {
        self.deeper(|parser| {
            let mut items = Vec::new();
            while !parser.takes(close) {
                items.push(item(parser)?);
                if !parser.takes(',') && *parser.peek() != Token::Mark(close) {
                    return Err(parser.expected(&format!("',' or {close:?}")));
                }
            }
            Ok(items)
        })
    }

    // The rules.

    /// `term | term | …`
    pub(super) fn pipe(&mut self) -> Result<Signature, ExpressionError> {
        let first = self.term()?;
        let mut steps = vec![first];
        while self.takes('|') {
            steps.push(self.term()?);
        }
        Ok(if steps.len() == 1 { steps.remove(0) } else { chain(steps) })
    }

    /// A call, or an expression in brackets, and the methods behind it.
    fn term(&mut self) -> Result<Signature, ExpressionError> {
        let at = self.at();
        let mut signature = match self.take() {
            Token::Mark('(') => {
                let inner = self.deeper(Self::pipe)?;
                self.need(')')?;
                inner
            }
            Token::Name(name) => self.named(&name, at)?,
            Token::Literal(Value::Str(name)) => self.quoted(&name, at)?,
            Token::Mark('[') => {
                return Err(self.error_at(at, "a list stands for nothing here").hint("side by side is group(…, …)"));
            }
            other => return Err(self.error_at(at, format!("expected a task, found {}", other.describe()))),
        };
        while self.takes('.') {
            signature = self.method(signature)?;
        }
        Ok(signature)
    }

    /// `"odd name"(…)`, also with `.s` or `.si` between.
    fn quoted(&mut self, name: &str, at: usize) -> Result<Signature, ExpressionError> {
        let mut immutable = false;
        if self.takes('.') {
            immutable = match self.take() {
                Token::Name(method) if method == "si" => true,
                Token::Name(method) if method == "s" => false,
                _ => return Err(self.error_at(at, "a quoted name is called by (…), .s(…) or .si(…)")),
            };
        }
        self.need('(')?;
        let call = self.call(name, at)?;
        Ok(if immutable { call.immutable() } else { call })
    }

    fn named(&mut self, name: &str, at: usize) -> Result<Signature, ExpressionError> {
        if !self.takes('(') {
            let call = name.trim_end_matches(".s").trim_end_matches(".si");
            return Err(self.expected(&format!("'(' after {name}")).hint(format!("a call is written {call}(…)")));
        }
        if FUNCTIONS.contains(&name) {
            return self.function(name, at);
        }
        let is_known = self.known.is_some_and(|known| known.contains(&name));
        match name.rsplit_once('.') {
            Some((task, "s")) if !is_known => self.call(task, at),
            Some((task, "si")) if !is_known => self.call(task, at).map(Signature::immutable),
            Some((task, "map" | "starmap" | "chunks")) if !is_known => {
                let task = Signature::new(self.task(task, at)?);
                self.over_items(name.rsplit('.').next().unwrap_or_default(), task)
            }
            Some((task, method @ ("delay" | "apply_async" | "apply"))) if !is_known => Err(self
                .error_at(at, format!("{method} would send it now"))
                .hint(format!("write {task}(…); it is sent when the whole is read"))),
            _ => self.call(name, at),
        }
    }

    /// The arguments of a call, behind its bracket.
    fn call(&mut self, name: &str, at: usize) -> Result<Signature, ExpressionError> {
        let mut signature = Signature::new(self.task(name, at)?);
        let (args, kwargs) = self.arguments()?;
        signature.args = args;
        signature.kwargs = kwargs;
        Ok(signature)
    }

    fn task(&self, name: &str, at: usize) -> Result<TaskName, ExpressionError> {
        if name.is_empty() {
            return Err(self.error_at(at, "a task has a name"));
        }
        match self.known {
            Some(known) if !known.contains(&name) => {
                let error = self.error_at(at, format!("no task is called {name}"));
                Err(match closest(name, known.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error.hint("see: node tasks ls"),
                })
            }
            _ => Ok(TaskName::from(name)),
        }
    }

    /// `chain(…)`, `group(…)`, … behind the bracket.
    fn function(&mut self, name: &str, at: usize) -> Result<Signature, ExpressionError> {
        match name {
            "chain" => {
                let steps = self.signatures()?;
                if steps.is_empty() {
                    return Err(self.error_at(at, "a chain has at least one step"));
                }
                Ok(chain(steps))
            }
            "group" => Ok(Signature::group(self.signatures()?)),
            "chord" => self.chord(at),
            _ => {
                let task = self.deeper(Self::pipe)?;
                if task.subtask_type.is_some() {
                    return Err(self.error_at(at, format!("{name} takes a task, not a workflow")));
                }
                self.need(',')?;
                self.over_items(name, task)
            }
        }
    }

    /// `a, b)` or `[a, b])`.
    fn signatures(&mut self) -> Result<Vec<Signature>, ExpressionError> {
        if self.takes('[') {
            let items = self.items(']', Self::pipe)?;
            self.takes(',');
            self.need(')')?;
            return Ok(items);
        }
        self.items(')', Self::pipe)
    }

    fn chord(&mut self, at: usize) -> Result<Signature, ExpressionError> {
        let header = if self.takes('[') {
            self.items(']', Self::pipe)?
        } else {
            let header = self.deeper(Self::pipe)?;
            match header.subtask_type {
                Some(SubtaskType::Group) => header.tasks().unwrap_or_default(),
                _ => return Err(self.error_at(at, "the header of a chord is a list or a group").hint("write chord([…, …], body())")),
            }
        };
        let body = if self.takes(',') && !matches!(self.peek(), Token::Mark(')')) {
            if *self.peek() == Token::Name("body".to_owned())
                && self.tokens.get(self.next + 1).is_some_and(|(_, token)| *token == Token::Mark('='))
            {
                self.next += 2;
            }
            let body = self.deeper(Self::pipe)?;
            self.takes(',');
            self.need(')')?;
            body
        } else {
            self.need(')')?;
            if !self.takes('(') {
                return Err(self.error_at(at, "a chord has a body").hint("write chord([…, …], body()); without a body it is a group"));
            }
            let body = self.deeper(Self::pipe)?;
            self.need(')')?;
            body
        };
        Ok(Signature::chord(header, body))
    }

    /// `[1, 2])` of map and starmap, `[1, 2], 10)` of chunks.
    fn over_items(&mut self, kind: &str, task: Signature) -> Result<Signature, ExpressionError> {
        let at = self.at();
        let Value::List(items) = self.value()? else {
            return Err(self.error_at(at, "expected a list of arguments"));
        };
        let stars = matches!(kind, "starmap" | "xstarmap" | "chunks");
        if stars && !items.iter().all(|item| matches!(item, Value::List(_))) {
            return Err(self
                .error_at(at, "each item is a list of arguments")
                .hint(format!("write [[1, 2], [3, 4]]; {kind} calls the task with each")));
        }
        let signature = match kind {
            "chunks" => {
                self.need(',')?;
                let at = self.at();
                match self.value()?.as_i64().and_then(|size| usize::try_from(size).ok()) {
                    Some(size @ 1..) => Signature::chunks(task, items, size),
                    _ => return Err(self.error_at(at, "expected the number of items in a chunk, at least 1")),
                }
            }
            "starmap" | "xstarmap" => Signature::starmap(task, items),
            _ => Signature::map(task, items),
        };
        self.takes(',');
        self.need(')')?;
        Ok(signature)
    }

    /// What stands behind a dot: `set(…)`, `link(…)`, `link_error(…)`.
    fn method(&mut self, mut signature: Signature) -> Result<Signature, ExpressionError> {
        const METHODS: &[&str] = &["set", "link", "link_error"];
        let at = self.at();
        let Token::Name(name) = self.take() else {
            return Err(self.error_at(at, "expected set, link or link_error"));
        };
        if !METHODS.contains(&name.as_str()) {
            let error = self.error_at(at, format!("a call has no .{name}"));
            let near = closest(&name, METHODS.iter().copied()).map(|near| format!("did you mean .{near}?"));
            return Err(error.hint(near.unwrap_or_else(|| "it has .set(…), .link(…) and .link_error(…)".to_owned())));
        }
        self.need('(')?;
        if name == "set" {
            let (args, options) = self.arguments()?;
            if !args.is_empty() {
                return Err(self.error_at(at, "options have names").hint("write .set(queue=\"name\")"));
            }
            for linked in ["link", "link_error", "chord", "chain"] {
                if options.contains_key(linked) {
                    return Err(self
                        .error_at(at, format!("{linked} is not an option to set"))
                        .hint("write .link(…), .link_error(…), | or chord(…)"));
                }
            }
            signature.options.0.extend(options);
            return Ok(signature);
        }
        for other in self.items(')', Self::pipe)? {
            signature = if name == "link" { signature.link(other) } else { signature.link_error(other) };
        }
        Ok(signature)
    }
}

/// One after the other; a chain among the steps gives its own steps, unless something was said about it as a whole.
fn chain(steps: Vec<Signature>) -> Signature {
    let mut spliced = Vec::new();
    for step in steps {
        let plain = step.subtask_type == Some(SubtaskType::Chain) && step.options.0.is_empty() && !step.immutable;
        match step.tasks() {
            Ok(inner) if plain => spliced.extend(inner),
            _ => spliced.push(step),
        }
    }
    Signature::chain(spliced)
}
