//! Signatures back to text.

use umbel_proto::{Map, Signature, SubtaskType, Value};

use super::lexer::in_name;

/// The expression for `signature`, which reads back as an equal one if it came from an expression. For people otherwise: what
/// the notation has no form for (bytes, keys of later versions) is shown as well as can be. Parts that are no signatures are `?`.
pub fn print(signature: &Signature) -> String {
    let mut out = String::new();
    expression(signature, &mut out);
    out
}

fn expression(signature: &Signature, out: &mut String) {
    match signature.subtask_type {
        None => call(signature, out),
        Some(SubtaskType::Chain) => chain(signature, out),
        Some(SubtaskType::Group) => {
            out.push_str("group(");
            parts(signature, out);
            out.push(')');
        }
        Some(SubtaskType::Chord) => {
            out.push_str("chord([");
            parts(signature, out);
            out.push_str("], ");
            match signature.body() {
                Ok(Some(body)) => expression(&body, out),
                _ => out.push('?'),
            }
            out.push(')');
        }
        Some(kind) => over_items(kind, signature, out),
    }
    options(signature, out);
}

fn call(signature: &Signature, out: &mut String) {
    let name = signature.task.as_str();
    let (_, last) = name.rsplit_once('.').unwrap_or(("", name));
    // A task whose own name ends like a method is told from it by quotes, in which nothing is a method.
    let method = matches!(last, "s" | "si" | "map" | "starmap" | "chunks" | "delay" | "apply_async" | "apply");
    let function = matches!(name, "chain" | "group" | "chord" | "xmap" | "starmap" | "xstarmap" | "chunks");
    let plain = is_name(name) && !method && !function;
    if plain {
        out.push_str(name)
    } else {
        text(name, out)
    }
    if signature.immutable {
        out.push_str(".si");
    }
    out.push('(');
    arguments(&signature.args, &signature.kwargs, out);
    out.push(')');
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.split('.').enumerate().all(|(index, part)| {
            let first = part.chars().next();
            let starts = first.is_some_and(|c| c.is_alphabetic() || c == '_' || index > 0 && c.is_alphanumeric());
            starts && part.chars().all(in_name)
        })
}

fn chain(signature: &Signature, out: &mut String) {
    let Ok(steps) = signature.tasks() else { return out.push('?') };
    // One step would read back as itself, and methods would be the last step's.
    if steps.len() < 2 || !signature.options.0.is_empty() {
        out.push_str("chain(");
        parts(signature, out);
        return out.push(')');
    }
    for (index, step) in steps.iter().enumerate() {
        out.push_str(if index > 0 { " | " } else { "" });
        expression(step, out);
    }
}

fn parts(signature: &Signature, out: &mut String) {
    let Ok(tasks) = signature.tasks() else { return out.push('?') };
    for (index, task) in tasks.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        expression(task, out);
    }
}

fn over_items(kind: SubtaskType, signature: &Signature, out: &mut String) {
    out.push_str(match kind {
        SubtaskType::Map => "xmap(",
        SubtaskType::Starmap => "starmap(",
        _ => "chunks(",
    });
    match signature.kwargs.get("task").map(Signature::from_value) {
        Some(Ok(task)) => expression(&task, out),
        _ => out.push('?'),
    }
    out.push_str(", ");
    value(signature.kwargs.get("it").unwrap_or(&Value::Null), out);
    if let Some(size) = signature.kwargs.get("n") {
        out.push_str(", ");
        value(size, out);
    }
    out.push(')');
}

fn options(signature: &Signature, out: &mut String) {
    let plain = |name: &str| !matches!(name, "link" | "link_error");
    let set: Map = signature.options.0.iter().filter(|(name, _)| plain(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    if !set.is_empty() {
        out.push_str(".set(");
        arguments(&[], &set, out);
        out.push(')');
    }
    for (name, linked) in [("link", signature.options.link()), ("link_error", signature.options.link_error())] {
        for other in linked.unwrap_or_default() {
            out.push_str(&format!(".{name}("));
            expression(&other, out);
            out.push(')');
        }
    }
}

fn arguments(args: &[Value], kwargs: &Map, out: &mut String) {
    let mut first = true;
    let mut comma = |out: &mut String| {
        out.push_str(if std::mem::take(&mut first) { "" } else { ", " });
    };
    for arg in args {
        comma(out);
        value(arg, out);
    }
    for (name, arg) in kwargs {
        comma(out);
        if is_name(name) && !name.contains('.') {
            out.push_str(name)
        } else {
            text(name, out)
        }
        out.push('=');
        value(arg, out);
    }
}

fn value(of: &Value, out: &mut String) {
    match of {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(int) => out.push_str(&int.to_string()),
        Value::BigInt(digits) => out.push_str(digits),
        Value::Float(float) if float.is_nan() => out.push_str("NaN"),
        Value::Float(float) if float.is_infinite() => out.push_str(if *float > 0.0 { "Infinity" } else { "-Infinity" }),
        // `{:?}` keeps the point or exponent that makes it a float.
        Value::Float(float) => out.push_str(&format!("{float:?}")),
        Value::Str(string) => text(string, out),
        Value::Bytes(bytes) => text(&format!("{} bytes", bytes.len()), out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                value(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                text(key, out);
                out.push_str(": ");
                value(item, out);
            }
            out.push('}');
        }
    }
}

fn text(string: &str, out: &mut String) {
    out.push('"');
    for c in string.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
