//! The filter of a rule, with places for the client's id and its user name. What a client calls itself must never make
//! a rule take more than it says.

use std::borrow::Cow;

use super::Who;
use crate::codec::topic;

/// A filter, in which `%c` stands for the client's id and `%u` for its user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    has_places: bool,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no topic filter: {1}")]
pub struct NoPattern(String, &'static str);

/// What a rule's filter is for one client.
pub enum Resolved<'a> {
    /// This filter.
    Filter(Cow<'a, str>),
    /// The client has a name that would make it another filter.
    Dangerous,
    /// The client has no user name, and the filter asks for it.
    Nameless,
}

/// Any word: a filter is checked with it in its places.
const WORD: &str = "x";

impl Pattern {
    /// A filter without places: `%` is a character like any other.
    pub fn plain(text: &str) -> Result<Self, NoPattern> {
        check(text, text)?;
        Ok(Self {
            text: text.into(),
            has_places: false,
        })
    }

    /// A filter of `[[acl]]`.
    pub fn of_rule(text: &str) -> Result<Self, NoPattern> {
        let short = text.replace("{client_id}", "%c").replace("{username}", "%u");
        if short.contains(['{', '}']) {
            return Err(NoPattern(
                text.to_owned(),
                "a place in it is {client_id} or {username}",
            ));
        }
        Self::short(text, short)
    }

    /// A filter behind `pattern` in Mosquitto's acl_file, which knows `%c` and `%u` alone.
    pub fn of_file(text: &str) -> Result<Self, NoPattern> {
        Self::short(text, text.to_owned())
    }

    fn short(text: &str, short: String) -> Result<Self, NoPattern> {
        check(text, &short.replace("%c", WORD).replace("%u", WORD))?;
        Ok(Self {
            has_places: short.contains("%c") || short.contains("%u"),
            text: short.into(),
        })
    }

    /// Whether the user name has a place in it.
    pub fn names_user(&self) -> bool {
        self.has_places && self.text.contains("%u")
    }

    /// The filter for `who`.
    pub fn resolve(&self, who: Who<'_>) -> Resolved<'_> {
        if !self.has_places {
            return Resolved::Filter(Cow::Borrowed(&self.text));
        }
        let mut filter = String::with_capacity(self.text.len() + 32);
        let mut rest = &*self.text;
        while let Some(at) = rest.find('%') {
            let (before, place) = rest.split_at(at);
            filter.push_str(before);
            let word = match place.as_bytes().get(1) {
                Some(b'c') => who.client_id,
                Some(b'u') => match who.username {
                    Some(username) => username,
                    None => return Resolved::Nameless,
                },
                _ => {
                    filter.push('%');
                    rest = place.get(1..).unwrap_or_default();
                    continue;
                }
            };
            // A name with `$` in front would lead out of the tree that `+` and `#` mean.
            if word.contains(['+', '#', '/']) || (filter.is_empty() && word.starts_with('$')) {
                return Resolved::Dangerous;
            }
            filter.push_str(word);
            rest = place.get(2..).unwrap_or_default();
        }
        filter.push_str(rest);
        Resolved::Filter(Cow::Owned(filter))
    }

    /// The filter with `+` in the levels that have a place: at least what it is for anyone.
    pub fn widest(&self) -> String {
        let level = |level| match level {
            level if str::contains(level, "%c") || str::contains(level, "%u") => "+",
            level => level,
        };
        self.text.split('/').map(level).collect::<Vec<_>>().join("/")
    }
}

fn check(text: &str, filter: &str) -> Result<(), NoPattern> {
    if filter.starts_with(topic::SHARE) {
        return Err(NoPattern(
            text.to_owned(),
            "a rule is about topics, whoever shares them: leave $share/GROUP/ out",
        ));
    }
    topic::check_filter(filter).map_err(|error| NoPattern(text.to_owned(), error.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, client_id: &str, username: Option<&str>) -> String {
        let pattern = Pattern::of_rule(text).unwrap();
        match pattern.resolve(Who { client_id, username }) {
            Resolved::Filter(filter) => filter.into_owned(),
            Resolved::Dangerous => "dangerous".to_owned(),
            Resolved::Nameless => "nameless".to_owned(),
        }
    }

    #[test]
    fn places_take_names_and_no_more() {
        assert_eq!(resolved("d/%c/u/%u/#", "c1", Some("u1")), "d/c1/u/u1/#");
        assert_eq!(resolved("d/{client_id}/{username}", "c1", Some("u1")), "d/c1/u1");
        assert_eq!(resolved("d/a%c-%u/%d%", "c1", Some("u1")), "d/ac1-u1/%d%");
        assert_eq!(resolved("d/%u", "c1", None), "nameless");
        assert_eq!(resolved("d/%c", "%u", Some("u1")), "d/%u");
        for name in ["+", "#", "a/b", "a+", "#b", "/"] {
            assert_eq!(resolved("d/%c/#", name, None), "dangerous", "{name}");
            assert_eq!(resolved("d/%u/#", "c", Some(name)), "dangerous", "{name}");
            assert_eq!(
                resolved("d/%c/#", "c", Some(name)),
                "d/c/#",
                "{name} is not asked for"
            );
        }
        assert_eq!(resolved("%c/#", "$SYS", None), "dangerous");
        assert_eq!(resolved("d/%c/#", "$SYS", None), "d/$SYS/#");
        assert_eq!(Pattern::of_rule("d/%c/x%u/#").unwrap().widest(), "d/+/+/#");
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "",
            "a/#/b",
            "a+",
            "%c#",
            "+%c",
            "$share/g/a",
            "{device_id}/x",
            "a\0",
        ] {
            assert!(Pattern::of_rule(text).is_err(), "{text}");
        }
        assert!(Pattern::plain("a/{x}/%c").is_ok());
        assert!(Pattern::of_file("a/{x}/%c").is_ok());
    }
}
