//! What is wrong with a configuration: each fault with its place and a hint, gathered and shown all at once.

use std::cell::RefCell;
use std::fmt;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line of the configuration file, from 1.
    Line(usize),
    /// An environment variable.
    Env(String),
    /// Nowhere: the file as a whole, or a default.
    Whole,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the faulty value was written.
    pub place: Place,
    /// What is wrong.
    pub text: String,
    /// What to do about it; empty when the text says it.
    pub hint: String,
}

/// All faults of one configuration. Shared by the sections while they are read, so that reading goes on after a fault.
#[derive(Debug, Default)]
pub struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    /// Notes a fault.
    pub fn add(&self, place: &Place, text: impl Into<String>, hint: impl Into<String>) {
        self.0.borrow_mut().push(Fault {
            place: place.clone(),
            text: text.into(),
            hint: hint.into(),
        });
    }

    /// The faults in the order of their lines; those of the environment and of the whole come after.
    pub fn into_sorted(self) -> Vec<Fault> {
        let mut faults = self.0.into_inner();
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        faults.dedup();
        faults
    }

    /// Whether there is a fault at `place`.
    pub fn stands_at(&self, place: &Place) -> bool {
        self.0.borrow().iter().any(|fault| fault.place == *place)
    }

    /// Whether nothing was wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A configuration that can't be used.
#[derive(Debug)]
pub struct Refused {
    /// The file, as it was named.
    pub file: String,
    /// At least one fault.
    pub faults: Vec<Fault>,
}

impl std::error::Error for Refused {}

impl Refused {
    /// Each fault behind its place, with what to do about it.
    pub fn each(&self) -> impl Iterator<Item = (String, &str)> {
        self.faults.iter().map(|fault| {
            let place = match &fault.place {
                Place::Line(line) => format!("{}:{line}", self.file),
                Place::Env(name) => format!("environment {name}"),
                Place::Whole => self.file.clone(),
            };
            (format!("{place}: {}", fault.text), fault.hint.as_str())
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, hint) in self.each() {
            writeln!(f, "{fault}")?;
            if !hint.is_empty() {
                writeln!(f, "    hint: {hint}")?;
            }
        }
        match self.faults.len() {
            1 => write!(f, "1 fault, nothing was started"),
            n => write!(f, "{n} faults, nothing was started"),
        }
    }
}

/// The known name that is nearest to `wrong`, when one is near enough to be meant.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// Edits from `a` to `b`: characters put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.chars().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(from != to)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("topc", "topic", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn a_near_name_is_meant_and_a_far_one_is_not() {
        let known = ["bind", "transport", "name"];
        assert_eq!(did_you_mean("bnid", known), Some("bind"));
        assert_eq!(did_you_mean("transprot", known), Some("transport"));
        assert_eq!(did_you_mean("colour", known), None);
    }
}
