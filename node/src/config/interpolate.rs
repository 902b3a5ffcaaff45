//! `${VAR}` and `${VAR:-x}` inside text.

/// Replaces `${NAME}` by the variable's value and `${NAME:-x}` by it or `x` when it is unset or empty; `$$` is a dollar
/// sign. What is put in is not looked into again, so no value can make another one appear.
///
/// # Errors
/// What is wrong, without quoting any value.
pub(super) fn interpolate(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('{') {
            let end = tail.find('}').ok_or("has ${ without its }")?;
            out.push_str(&expand(&tail[..end], lookup)?);
            rest = &tail[end + 1..];
        } else {
            // A lone dollar is itself: passwords have them.
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn expand(inside: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.as_bytes()[0].is_ascii_digit();
    if !named {
        return Err(format!("has ${{{name}}}, which is not the name of a variable"));
    }
    match (lookup(name).filter(|value| !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!("needs the variable {name}, which is not set (or write ${{{name}:-default}})")),
    }
}

#[cfg(test)]
mod tests {
    use super::interpolate;

    #[test]
    fn variables_are_put_in() {
        let lookup = |name: &str| match name {
            "HOST" => Some("redis".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".to_owned()),
            _ => None,
        };
        for (text, is) in [
            ("redis://${HOST}:6379", Ok("redis://redis:6379")),
            ("${NONE:-x}/${EMPTY:-y}", Ok("x/y")),
            ("${NONE:-}", Ok("")),
            ("${NONE:-redis://h:6379/0}", Ok("redis://h:6379/0")),
            ("${TRICK}", Ok("${HOST}")),
            ("a$$b $5 $", Ok("a$b $5 $")),
            ("${NONE}", Err("needs the variable NONE, which is not set (or write ${NONE:-default})")),
            ("${HOST", Err("has ${ without its }")),
            ("${}", Err("has ${}, which is not the name of a variable")),
            ("${1a}", Err("has ${1a}, which is not the name of a variable")),
        ] {
            assert_eq!(interpolate(text, &lookup), is.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
