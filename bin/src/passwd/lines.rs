//! The text of a password file, changed line by line: what a change is not about stays as it is, comments too.

use std::path::Path;

use anyhow::bail;
use forebay_broker::auth::Stored;

/// Bytes of a user name in CONNECT.
const MOST_NAME_BYTES: usize = 65_535;

/// Whether a line of a file can say this name so that it is read back.
pub fn check_name(name: &str) -> anyhow::Result<()> {
    let wrong = if name.is_empty() {
        "is empty"
    } else if name.len() > MOST_NAME_BYTES {
        "is longer than 65535 bytes"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else if name.contains(':') {
        "holds a `:`, which ends a name in the file"
    } else if name.trim() != name {
        "begins or ends with a blank, which would not be read back"
    } else if name.starts_with('#') {
        "begins with `#`, which makes a comment of its line"
    } else {
        return Ok(());
    };
    bail!("the user name {wrong}")
}

/// Name and password of a line; none for an empty one, a comment, and what has no colon.
fn parts(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (name, password) = line.split_once(':').filter(|_| !line.starts_with('#'))?;
    Some((name.trim(), password.trim()))
}

fn is_of(line: &str, user: &str) -> bool {
    parts(line).is_some_and(|(name, _)| name == user)
}

/// `user` with `hash` in the place of its line, or at the end. A second line of it goes: no reader takes both.
pub fn with_user(text: &str, user: &str, hash: &str) -> String {
    let own = format!("{user}:{hash}\n");
    let mut waits = Some(own.as_str());
    let mut result = String::with_capacity(text.len() + own.len() + 1);
    for line in text.split_inclusive('\n') {
        if is_of(line, user) {
            result.push_str(waits.take().unwrap_or_default());
        } else {
            result.push_str(line);
        }
    }
    if let Some(own) = waits {
        if !result.is_empty() && !result.ends_with('\n') {
            result.push('\n');
        }
        result.push_str(own);
    }
    result
}

/// The text without `user`; none when it is not there.
pub fn without_user(text: &str, user: &str) -> Option<String> {
    let mut lines = text.split_inclusive('\n');
    lines.any(|line| is_of(line, user)).then(|| {
        text.split_inclusive('\n')
            .filter(|line| !is_of(line, user))
            .collect()
    })
}

/// The text with each plain password hashed, and how many there were. What is hashed already stays as it is; `file` is
/// named in faults.
pub fn upgraded(
    file: &Path,
    text: &str,
    hash: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<(String, usize)> {
    let mut result = String::with_capacity(text.len());
    let mut count = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            result.push_str(line);
            continue;
        }
        let place = format!("{}:{}", file.display(), index + 1);
        let Some((name, password)) =
            parts(line).filter(|(name, password)| !name.is_empty() && !password.is_empty())
        else {
            bail!("{place}: a line is NAME:PASSWORD; nothing was changed");
        };
        match Stored::parse(password) {
            Ok(_) => result.push_str(line),
            // A hash that can't be read must not become the password that it is a hash of.
            Err(wrong)
                if ["$6$", "$7$", "$argon2"]
                    .iter()
                    .any(|start| password.starts_with(start)) =>
            {
                bail!(
                    "{place}: user {name}: {}; nothing was changed ({})",
                    wrong.text,
                    wrong.hint
                )
            }
            Err(_) => {
                result.push_str(&format!("{name}:{}\n", hash(password)?));
                count += 1;
            }
        }
    }
    Ok((result, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHED: &str = "$6$oTXWLDknf1Jdp2E7$mdPCsbfxbptWN5DHjQw/Oe6P+bWuUhoF3kzDMHLnc9SMYS4PRilFbkC+kb0NCZvIjsOg58aAjL0SlqwMywwM4g==";

    #[test]
    fn what_a_change_is_not_about_stays() {
        let text = "# users\r\n\nann:1\r\n bob : 2 \nno colon\n#ann:old\nann:3\ncarl:4";
        assert_eq!(
            with_user(text, "ann", "H"),
            "# users\r\n\nann:H\n bob : 2 \nno colon\n#ann:old\ncarl:4"
        );
        assert_eq!(with_user(text, "dora", "H"), format!("{text}\ndora:H\n"));
        assert_eq!(with_user("", "dora", "H"), "dora:H\n");
        assert_eq!(
            without_user(text, "bob").unwrap(),
            "# users\r\n\nann:1\r\nno colon\n#ann:old\nann:3\ncarl:4"
        );
        assert_eq!(without_user(text, "#ann"), None);
        assert_eq!(without_user(text, "eve"), None);
    }

    #[test]
    fn plain_passwords_are_hashed_once_and_no_hash_is_hashed() {
        let text = format!("# c\nann:{HASHED}\n bob : with:colon \ncarl:$money");
        let hash = |password: &str| Ok(format!("<{password}>"));
        let done = upgraded(Path::new("f"), &text, hash).unwrap();
        assert_eq!(
            done,
            (format!("# c\nann:{HASHED}\nbob:<with:colon>\ncarl:<$money>\n"), 2)
        );
        for (line, place) in [
            ("no colon", "f:2: a line is NAME:PASSWORD"),
            ("bob:", "f:2: a line is"),
            (":x", "f:2: a line is"),
            ("bob:$7$101$c2FsdA==", "f:2: user bob: a hash is cut short"),
            ("bob:$argon2id$v=19$x", "f:2: user bob: a hash is neither"),
        ] {
            let error = upgraded(Path::new("f"), &format!("a:b\n{line}\n"), hash).unwrap_err();
            assert!(error.to_string().starts_with(place), "{error}");
        }
    }

    #[test]
    fn a_name_that_would_not_be_read_back_is_refused() {
        for name in ["ann", "a b", "ä#", "$x"] {
            check_name(name).unwrap();
        }
        for name in ["", "a:b", " a", "a\t", "a\nb", "#a", &"n".repeat(65_536)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
