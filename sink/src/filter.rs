//! A route's filter: an MQTT topic filter in which `{name}` matches one level and captures it.

use smallvec::SmallVec;

/// What each capture of a filter stood for, in the order of [`Filter::captures`].
pub(crate) type Captured<'a> = SmallVec<[&'a str; 4]>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Exact(Box<str>),
    /// `+`
    One,
    /// `{name}`
    Capture(Box<str>),
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    levels: Vec<Level>,
    /// Whether it ends in `#`.
    rest: bool,
    captures: bool,
}

impl Filter {
    /// Reads a filter. A level is a name, `+`, `{name}`, or `#` as the last one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 65_535 || text.contains('\0') {
            return Err("a filter has 1 to 65,535 bytes and no U+0000".to_owned());
        }
        let mut levels = Vec::new();
        let mut rest = false;
        for level in text.split('/') {
            if rest {
                return Err("# stands only at the end".to_owned());
            }
            match level {
                "#" => rest = true,
                "+" => levels.push(Level::One),
                _ => levels.push(Self::level(level, &levels)?),
            }
        }
        let captures = levels.iter().any(|level| matches!(level, Level::Capture(_)));
        Ok(Self {
            levels,
            rest,
            captures,
        })
    }

    fn level(level: &str, earlier: &[Level]) -> Result<Level, String> {
        if let Some(name) = level.strip_prefix('{').and_then(|l| l.strip_suffix('}')) {
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(fine) {
                return Err(format!("{level} is not a capture: a-z A-Z 0-9 _ between braces"));
            }
            let taken = Level::Capture(name.into());
            if earlier.contains(&taken) || crate::template::RESERVED.contains(&name) {
                return Err(format!("the name {name} is already taken"));
            }
            return Ok(taken);
        }
        if level.contains(['+', '#', '{', '}']) {
            return Err(format!(
                "+, # and {{name}} stand alone in a level, not as in {level}"
            ));
        }
        Ok(Level::Exact(level.into()))
    }

    /// The names that it captures.
    pub(crate) fn captures(&self) -> Vec<&str> {
        let names = self.levels.iter().filter_map(|level| match level {
            Level::Capture(name) => Some(&**name),
            _ => None,
        });
        names.collect()
    }

    /// Whether it captures anything.
    pub(crate) fn has_captures(&self) -> bool {
        self.captures
    }

    /// Whether it matches `topic`, as MQTT has it: `a/#` matches `a`, and no wildcard matches a first level that
    /// begins with `$` [MQTT-4.7.2-1].
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.walk(topic, |_| {})
    }

    /// What the captures stand for in a topic that it matches.
    pub(crate) fn capture<'a>(&self, topic: &'a str, into: &mut Captured<'a>) -> bool {
        into.clear();
        self.walk(topic, |level| into.push(level))
    }

    fn walk<'a>(&self, topic: &'a str, mut captured: impl FnMut(&'a str)) -> bool {
        let begins_exact = matches!(self.levels.first(), Some(Level::Exact(_)));
        if topic.starts_with('$') && !begins_exact {
            return false;
        }
        let mut names = topic.split('/');
        for level in &self.levels {
            let Some(name) = names.next() else {
                return false;
            };
            match level {
                Level::Exact(exact) if &**exact != name => return false,
                Level::Capture(_) => captured(name),
                Level::Exact(_) | Level::One => {}
            }
        }
        self.rest || names.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_match_as_mqtt_has_it() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b", "a", false),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("{d}/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("/+", "/a", true),
            ("+", "/a", false),
            ("devices/{device_id}/#", "devices/d7/telemetry", true),
            ("devices/{device_id}/#", "devices", false),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(
                Filter::parse(filter).unwrap().matches(topic),
                expected,
                "{filter} {topic}"
            );
        }
    }

    #[test]
    fn captures_are_the_levels_they_stand_for() {
        let filter = Filter::parse("{site}/devices/{device_id}/#").unwrap();
        assert_eq!(filter.captures(), ["site", "device_id"]);
        let mut captured = Captured::new();
        assert!(filter.capture("north/devices/d7/x", &mut captured));
        assert_eq!(captured[..], ["north", "d7"]);
        assert!(!filter.capture("north/machines/d7", &mut captured));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "", "a/#/b", "a+/b", "a/b#", "{}", "{a b}", "x{a}", "{a}/{a}", "{qos}/x", "a\0", "{a", "a}",
        ] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_topic_without_wildcards_matches_itself_only(topic in "[a-c]{0,2}(/[a-c]{0,2}){0,3}", other in "[a-c]{0,2}(/[a-c]{0,2}){0,3}") {
            prop_assume!(!topic.is_empty());
            let filter = Filter::parse(&topic).unwrap();
            prop_assert!(filter.matches(&topic));
            prop_assert_eq!(filter.matches(&other), topic == other);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,30}", topic in "\\PC{0,30}") {
            if let Ok(filter) = Filter::parse(&text) {
                let _ = filter.matches(&topic);
            }
        }
    }
}
