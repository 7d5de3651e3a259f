//! What a command writes into a page, between its marks.

use anyhow::{Context, Result};

/// The text with `page` between its marks.
pub fn put(text: &str, marks: (&str, &str), page: &str) -> Result<String> {
    let (begin, end) = marks;
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("the file has no {begin}"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("the file has no {end}"))?;
    Ok(format!("{before}{begin}\n{page}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_stands_between_its_marks() {
        let marks = ("<!-- a -->", "<!-- b -->");
        let new = put("1\n<!-- a -->\nold\n<!-- b -->\n2\n", marks, "new\n").unwrap();
        assert_eq!(new, "1\n<!-- a -->\nnew\n<!-- b -->\n2\n");
        assert_eq!(put(&new, marks, "new\n").unwrap(), new);
        assert!(put("a", marks, "new").is_err());
    }
}
