//! Topic names and filters (section 4.7).

use super::reason::{DecodeError, Reason};

/// Checks a topic name: not empty, no wildcard [MQTT-3.3.2-2, MQTT-4.7.3-1].
pub fn check_name(name: &str) -> Result<(), DecodeError> {
    let wild = name
        .bytes()
        .fold(false, |wild, byte| wild | (byte == b'+') | (byte == b'#'));
    match name.is_empty() || wild {
        false => Ok(()),
        true => Err(DecodeError {
            reason: Reason::TopicNameInvalid,
            text: "a topic name is empty or holds a wildcard [MQTT-3.3.2-2, MQTT-4.7.3-1]",
        }),
    }
}

/// Checks a topic filter, `$share/group/filter` included [MQTT-4.7.1-1 to 3, MQTT-4.8.2-1, MQTT-4.8.2-2].
pub fn check_filter(filter: &str) -> Result<(), DecodeError> {
    let invalid = DecodeError {
        reason: Reason::TopicFilterInvalid,
        text: "a topic filter is empty or has a wildcard in the wrong place [MQTT-4.7.1-1 to 3]",
    };
    let filter = match filter.strip_prefix("$share/") {
        None => filter,
        Some(shared) => match shared.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => filter,
            _ => return Err(invalid),
        },
    };
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fine = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            _ => !level.contains(['+', '#']),
        };
        if !fine {
            return Err(invalid);
        }
    }
    if filter.is_empty() { Err(invalid) } else { Ok(()) }
}

/// Group and filter of a shared subscription (section 4.8.2).
pub fn split_share(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

/// Whether `filter` (without `$share`) takes `name`. A wildcard at its start does not match names that begin with
/// `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}
