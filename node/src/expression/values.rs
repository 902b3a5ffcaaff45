//! Values and arguments.

use umbel_proto::{Map, Value};

use super::{ExpressionError, lexer::Token, parser::Parser};

impl Parser<'_> {
    /// A value in Python's or JSON's spelling.
    pub(super) fn value(&mut self) -> Result<Value, ExpressionError> {
        let at = self.at();
        match self.take() {
            Token::Literal(value) => Ok(value),
            Token::Name(name) => Ok(match name.as_str() {
                "True" | "true" => Value::Bool(true),
                "False" | "false" => Value::Bool(false),
                "None" | "null" => Value::Null,
                "NaN" | "nan" => Value::Float(f64::NAN),
                "Infinity" | "inf" => Value::Float(f64::INFINITY),
                _ if *self.peek() == Token::Mark('(') => {
                    let error = self.error_at(at, "a call cannot be an argument");
                    return Err(error.hint(format!("its result can: {name}(…) | …, or a chord for several")));
                }
                _ => {
                    let error = self.error_at(at, format!("expected a value, found the name {name}"));
                    return Err(error.hint(format!("a text has quotes: \"{name}\"")));
                }
            }),
            Token::Mark('[') => Ok(Value::List(self.items(']', Self::value)?)),
            Token::Mark('(') => self.tuple(),
            Token::Mark('{') => {
                let pairs = self.items('}', |parser| {
                    let key = parser.key()?;
                    parser.need(':')?;
                    Ok((key, parser.value()?))
                });
                Ok(Value::Map(pairs?.into_iter().collect()))
            }
            other => Err(self.error_at(at, format!("expected a value, found {}", other.describe()))),
        }
    }

    /// `(1, 2)` is a list on the wire; `(1)` is only a value in brackets, as in Python.
    fn tuple(&mut self) -> Result<Value, ExpressionError> {
        let mut items = self.items(')', Self::value)?;
        let comma = self.token_before_last() == &Token::Mark(',');
        Ok(if items.len() == 1 && !comma { items.remove(0) } else { Value::List(items) })
    }

    fn key(&mut self) -> Result<String, ExpressionError> {
        let at = self.at();
        match self.take() {
            Token::Literal(Value::Str(key)) => Ok(key),
            Token::Name(name) => Err(self.error_at(at, "a key has quotes").hint(format!("write {{\"{name}\": …}}"))),
            other => Err(self.error_at(at, format!("expected a key, found {}", other.describe())).hint("keys are texts, as in JSON")),
        }
    }

    /// `1, x=2)`: what stands behind the bracket of a call.
    pub(super) fn arguments(&mut self) -> Result<(Vec<Value>, Map), ExpressionError> {
        let found = self.items(')', |parser| {
            let at = parser.at();
            let name = parser.keyword();
            Ok((at, name, parser.value()?))
        })?;
        let (mut args, mut kwargs) = (Vec::new(), Map::new());
        for (at, name, value) in found {
            match name {
                None if !kwargs.is_empty() => return Err(self.error_at(at, "an argument without a name stands before those with one")),
                None => args.push(value),
                Some(name) if kwargs.contains_key(&name) => return Err(self.error_at(at, format!("{name} is given twice"))),
                Some(name) => {
                    kwargs.insert(name, value);
                }
            }
        }
        Ok((args, kwargs))
    }
}
