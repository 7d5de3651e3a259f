//! A password file: who may connect, and by which password.

use std::collections::HashMap;
use std::path::Path;

use super::file::{self, Faults, FileFault};
use super::password::Stored;

/// Iterations of mosquitto_passwd, and what an unknown user costs where there is no user at all.
pub const USUAL_ITERATIONS: u32 = 101;

/// The users of a password file.
#[derive(Debug, Clone)]
pub struct Users {
    stored: HashMap<Box<str>, Stored>,
    /// No password fits: it is checked for users that are not there.
    nobody: Stored,
}

impl Users {
    /// Reads `file`.
    pub fn load(path: &Path) -> Result<Self, Vec<FileFault>> {
        Self::parse(path, &file::read(path)?)
    }

    /// Reads the text of `file`: a line `user:$7$...` for each user; empty lines and such that begin with `#` are
    /// skipped.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<FileFault>> {
        const FORM: &str = "a line is NAME:HASH; make it by forebay passwd FILE NAME";
        let mut faults = Faults::of(file);
        let mut stored = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, hash)) = line.split_once(':') else {
                faults.add(number, "there is no `:` behind the user's name", FORM);
                continue;
            };
            let name = name.trim();
            match Stored::parse(hash.trim()) {
                _ if name.is_empty() => faults.add(number, "the user's name is missing", FORM),
                Err(wrong) => faults.add(number, format!("user {name}: {}", wrong.text), wrong.hint),
                Ok(hash) => {
                    if stored.insert(name.into(), hash).is_some() {
                        let hint = "keep one of the lines: Mosquitto would take the one that it read last";
                        faults.add(number, format!("user {name} stands here a second time"), hint);
                    }
                }
            }
        }
        let most = stored.values().map(Stored::iterations).max();
        faults.none_or(Self {
            nobody: Stored::nobody(most.unwrap_or(USUAL_ITERATIONS)),
            stored,
        })
    }

    /// Users in all.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether nobody may connect by a password.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// What to check a password of `name` against, and whether there is such a user.
    pub(super) fn find(&self, name: &str) -> (&Stored, bool) {
        match self.stored.get(name) {
            Some(stored) => (stored, true),
            None => (&self.nobody, false),
        }
    }

    /// The most iterations that a user of this file takes. A check takes as many whoever it is for, or its time would
    /// say who is there.
    pub(super) fn most_iterations(&self) -> u32 {
        self.nobody.iterations()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$6$oTXWLDknf1Jdp2E7$mdPCsbfxbptWN5DHjQw/Oe6P+bWuUhoF3kzDMHLnc9SMYS4PRilFbkC+kb0NCZvIjsOg58aAjL0SlqwMywwM4g==";

    #[test]
    fn a_file_is_read_as_mosquitto_reads_it() {
        let text = format!("# made by hand\n\ncarol:{HASH}\r\n  dave :{HASH}  \n");
        let users = Users::parse(Path::new("pw"), &text).unwrap();
        assert_eq!(users.len(), 2);
        for name in ["carol", "dave"] {
            let (stored, known) = users.find(name);
            assert!(known && stored.verify(b"geheim"), "{name}");
        }
        let (nobody, known) = users.find("eve");
        assert!(!known && !nobody.verify(b"geheim"));
    }

    #[test]
    fn faults_are_told_with_their_lines() {
        let text = format!("carol:{HASH}\nnocolon\n:{HASH}\nplain:word\ncarol:{HASH}\n");
        let faults = Users::parse(Path::new("/etc/pw"), &text).unwrap_err();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [Some(2), Some(3), Some(4), Some(5)]);
        assert!(
            faults[2]
                .to_string()
                .starts_with("/etc/pw:4: user plain: the password is not hashed"),
            "{}",
            faults[2]
        );
        assert!(faults.iter().all(|fault| !fault.hint.is_empty()));
    }
}
