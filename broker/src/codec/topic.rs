//! Topic names and topic filters: what is allowed and what matches what (5.0 sections 4.7 and 4.8.2).

use super::cursor::{CONTROL, holds_any, holds_control, is_plain, text, utf8};
use super::reason::DecodeError;

pub(crate) const SHARE: &str = "$share/";

/// Whether this can be published to: not empty, no wildcard, no control character. (0x90 and 0x8F are for what is formed
/// well and not accepted: section 3.14.2.1.)
pub fn check_name(name: &str) -> Result<(), DecodeError> {
    if name.is_empty() {
        return Err(DecodeError::malformed("a topic name is empty [MQTT-4.7.3-1]"));
    }
    if holds_any(name.as_bytes(), [b'+', b'#']) {
        return Err(DecodeError::malformed(
            "a topic name holds a wildcard [MQTT-3.3.2-2]",
        ));
    }
    if holds_control(name) {
        return Err(CONTROL);
    }
    Ok(())
}

/// The topic name of a PUBLISH, with all its rules but that it is not empty: the way of every message, so one look at
/// those that are as topics mostly are.
#[inline]
pub(super) fn name_or_empty(bytes: &[u8]) -> Result<&str, DecodeError> {
    if is_plain(bytes) && !holds_any(bytes, [b'+', b'#']) {
        return utf8(bytes);
    }
    let name = text(bytes)?;
    check_name(name).map(|()| name)
}

/// Whether this can be subscribed to: not empty, `#` only as the whole last level, `+` only as a whole level, and the
/// form of `$share/{group}/{filter}`.
pub fn check_filter(filter: &str) -> Result<(), DecodeError> {
    if filter.is_empty() {
        return Err(DecodeError::malformed("a topic filter is empty [MQTT-4.7.3-1]"));
    }
    if holds_control(filter) {
        return Err(CONTROL);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let alone = level.len() == 1;
        if level.contains('#') && !(alone && levels.peek().is_none()) {
            return Err(DecodeError::malformed(
                "'#' is not the whole last level [MQTT-4.7.1-1]",
            ));
        }
        if level.contains('+') && !alone {
            return Err(DecodeError::malformed("'+' is not a whole level [MQTT-4.7.1-2]"));
        }
    }
    filter.strip_prefix(SHARE).map_or(Ok(()), check_share)
}

/// What stands behind `$share/`: a well-formed filter all the same, so what is wrong breaks a rule of the protocol.
fn check_share(rest: &str) -> Result<(), DecodeError> {
    let (group, filter) = rest.split_once('/').ok_or(DecodeError::protocol(
        "a shared subscription has no filter [MQTT-4.8.2-2]",
    ))?;
    if group.is_empty() {
        return Err(DecodeError::protocol("a share name is empty [MQTT-4.8.2-1]"));
    }
    if group.contains(['+', '#']) {
        return Err(DecodeError::protocol(
            "a share name holds a wildcard [MQTT-4.8.2-2]",
        ));
    }
    if filter.is_empty() {
        return Err(DecodeError::protocol(
            "a shared subscription's filter is empty [MQTT-4.7.3-1]",
        ));
    }
    Ok(())
}

/// Whether a filter that [`check_filter`] accepts, without its `$share` part, takes this topic name. Wildcards in the
/// first level do not match names that begin with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut wanted = filter.split('/');
    let mut given = name.split('/');
    loop {
        match (wanted.next(), given.next()) {
            // "#" also takes the level above it: "a/#" matches "a" (section 4.7.1.2).
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// The group and the plain filter of `$share/{group}/{filter}`; `None` for any other filter.
pub fn split_share(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix(SHARE)?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::reason::Reason;

    #[test]
    fn wildcards_match_as_the_specification_says() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/B", false),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("a", "/a", false),
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/#", "sport", true),
            ("#", "a", true),
            ("#", "/", true),
            ("#", "a/b/c", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+", "/finance", false),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "", true),
            ("+/b/#", "a/b", true),
            ("+/b/#", "a/c", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/+", "$SYS/x", true),
            ("a/#", "a/$x", true),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
        ];
        for (filter, name, expected) in cases {
            assert_eq!(matches(filter, name), expected, "{filter} on {name}");
        }
    }

    #[test]
    fn names_and_filters_are_held_to_their_form() {
        for name in ["a", "/", "$SYS/a", "a b", "ä/ß", "a//b"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a/+", "#", "a\0", "a\n", "\u{9F}", "\u{FFFE}a"] {
            assert_eq!(
                check_name(name).map_err(|e| e.reason),
                Err(Reason::MalformedPacket),
                "{name}"
            );
        }
        for filter in [
            "a",
            "#",
            "+",
            "a/#",
            "+/+/#",
            "/",
            "//",
            "$share/g/a",
            "$share/g//",
            "$share",
            "$shared/x",
        ] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        let ill_formed = [
            "",
            "a#",
            "a/#/b",
            "#/a",
            "a+",
            "+a/b",
            "a/b+/c",
            "##",
            "++",
            "a\0b",
            "a\u{7F}",
            "$share/g+/a",
            "$share/#/a",
            "$share/g/a#",
        ];
        let no_share = ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a"];
        let expected = |reason| move |filter| (filter, Err(reason));
        let cases = ill_formed.map(expected(Reason::MalformedPacket)).into_iter();
        for (filter, expected) in cases.chain(no_share.map(expected(Reason::ProtocolError))) {
            let reason = check_filter(filter).map_err(|e| e.reason);
            assert_eq!(reason, expected, "{filter}");
        }
    }

    #[test]
    fn a_shared_filter_is_taken_apart() {
        assert_eq!(split_share("$share/g/a/b"), Some(("g", "a/b")));
        assert_eq!(split_share("$share/g//"), Some(("g", "/")));
        assert_eq!(split_share("a/b"), None);
        assert_eq!(split_share("$shared/g/a"), None);
    }
}
