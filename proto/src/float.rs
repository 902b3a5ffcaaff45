//! Floats as Python prints them: the shortest digits that read back the same, `1.0`, `1e+16`, `1e-05`.

/// `json.dumps(float)`.
pub(crate) fn json(float: f64) -> String {
    let mut out = String::new();
    push_json(float, &mut out);
    out
}

/// Appends `json.dumps(float)`: `NaN`, `Infinity` and `-Infinity` are bare.
pub(crate) fn push_json(float: f64, out: &mut String) {
    if float.is_nan() {
        out.push_str("NaN");
    } else if float.is_infinite() {
        out.push_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        push_finite(float, out);
    }
}

/// Appends `repr(float)`: `nan`, `inf`, `-inf`.
pub(crate) fn push_repr(float: f64, out: &mut String) {
    if float.is_nan() {
        out.push_str("nan");
    } else if float.is_infinite() {
        out.push_str(if float > 0.0 { "inf" } else { "-inf" });
    } else {
        push_finite(float, out);
    }
}

fn push_finite(float: f64, out: &mut String) {
    use std::fmt::Write;
    // Rust's `{:e}` gives the same shortest digits as Python's repr; only the layout differs.
    let mut text = String::with_capacity(24);
    let _ = write!(text, "{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.push_str(sign);
    if !(-4..16).contains(&exponent) {
        let _ = write!(out, "{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
        return;
    }
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    match usize::try_from(exponent) {
        Ok(shift) if rest.len() > shift => {
            let (whole, fraction) = rest.split_at(shift);
            let _ = write!(out, "{first}{whole}.{fraction}");
        }
        Ok(shift) => {
            let _ = write!(out, "{first}{rest}{}.0", "0".repeat(shift - rest.len()));
        }
        Err(_) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or_default();
            let _ = write!(out, "0.{}{first}{rest}", "0".repeat(zeros));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::json;

    #[test]
    fn floats_are_laid_out_as_python_does() {
        let vectors = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (123.456, "123.456"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (1e-5, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (5e-324, "5e-324"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (float, text) in vectors {
            assert_eq!(json(float), text);
        }
    }
}
