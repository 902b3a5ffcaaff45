//! A command line as a request: `celery/bin/control.py::_compile_arguments`.

use umbel_proto::{Map, Value, control::Request};

use super::table::{Command, Word};

/// The request that `words` make of a command.
///
/// # Errors
/// Which word is wrong and what is expected, for a person.
pub fn request(command: &Command, words: &[String]) -> Result<Request, String> {
    let mut arguments = Map::new();
    for ((name, kind), word) in command.words.iter().zip(words) {
        let value = read(*kind, word).ok_or_else(|| format!("`{word}` is not a {} for {} of {}", what(*kind), name, command.name))?;
        arguments.insert((*name).to_owned(), value);
    }
    let rest = words.get(command.words.len()..).unwrap_or_default();
    match command.variadic {
        Some(name) => {
            let rest = rest.iter().map(|word| word.as_str().into()).collect();
            arguments.insert(name.to_owned(), Value::List(rest));
        }
        None if !rest.is_empty() => return Err(format!("Command '{}' takes arguments: {}", command.name, command.signature)),
        None => {}
    }
    if let Some(missing) = command.required.iter().find(|name| !arguments.contains_key(**name)) {
        return Err(format!("{missing} is missing; command '{}' takes arguments: {}", command.name, command.signature));
    }
    Ok(Request { arguments, ..Request::new(command.name) })
}

fn read(kind: Word, word: &str) -> Option<Value> {
    match kind {
        Word::Text => Some(word.into()),
        Word::Int => word.parse::<i64>().ok().map(Value::Int),
        Word::Float => word.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::Float),
        Word::Bool => match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true.into()),
            "false" | "no" | "off" | "0" => Some(false.into()),
            _ => None,
        },
    }
}

fn what(kind: Word) -> &'static str {
    match kind {
        Word::Text => "text",
        Word::Int => "whole number",
        Word::Float => "number",
        Word::Bool => "yes or no",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::table::find, *};

    fn read(line: &str) -> Result<String, String> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let command = find(&words.next().unwrap()).unwrap();
        let words: Vec<String> = words.collect();
        request(command, &words).map(|request| umbel_proto::repr::repr(&Value::Map(request.arguments)))
    }

    #[test]
    fn words_become_arguments_as_celery_reads_them() {
        for (line, arguments) in [
            ("ping", "{}"),
            ("rate_limit proj.add 10/m", "{'task_name': 'proj.add', 'rate_limit': '10/m'}"),
            ("time_limit proj.add 60 120", "{'task_name': 'proj.add', 'soft': 60.0, 'hard': 120.0}"),
            ("pool_grow", "{}"),
            ("pool_grow 3", "{'n': 3}"),
            ("autoscale 10 3", "{'max': 10, 'min': 3}"),
            ("query_task a b", "{'ids': ['a', 'b']}"),
            ("terminate KILL a b", "{'signal': 'KILL', 'task_id': ['a', 'b']}"),
            ("revoke_by_stamped_headers a=1", "{'headers': ['a=1']}"),
            ("conf true", "{'with_defaults': True}"),
            ("registered rate_limit", "{'taskinfoitems': ['rate_limit']}"),
        ] {
            assert_eq!(read(line).unwrap(), arguments, "{line}");
        }
        for (line, says) in [
            ("pool_grow many", "`many` is not a whole number"),
            ("ping now", "takes arguments"),
            ("add_consumer", "queue is missing"),
            ("rate_limit proj.add", "rate_limit is missing"),
        ] {
            assert!(read(line).unwrap_err().contains(says), "{line}: {:?}", read(line));
        }
    }
}
