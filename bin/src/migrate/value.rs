//! Values of mosquitto.conf, and values of TOML.

use std::fmt::Write;

/// `true` or `false`, as Mosquitto reads them.
pub fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A span such as `14d`, in seconds: hours, days, weeks, months of 30 days, years of 365.
pub fn span_s(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        'h' => 3600,
        'd' => 24 * 3600,
        'w' => 7 * 24 * 3600,
        'm' => 30 * 24 * 3600,
        'y' => 365 * 24 * 3600,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(seconds).filter(|total| *total > 0)
}

/// A text of TOML, in quotes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_unit() {
        assert_eq!(span_s("2h"), Some(7200));
        assert_eq!(span_s("14d"), Some(14 * 86_400));
        assert_eq!(span_s("1y"), Some(365 * 86_400));
        for wrong in ["", "d", "5", "0d", "-1d", "5x", "99999999999999999999y"] {
            assert_eq!(span_s(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn texts_of_toml_hold_anything() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
    }
}
