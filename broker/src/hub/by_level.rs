//! Topics in the order of a walk over their levels, and a filter's way through them: what it can't take is jumped over,
//! so that a filter with wildcards costs what it finds, not what is there.

use std::cmp::Ordering;

/// Compares topics: those below a topic follow it at once. U+0000 is in no topic, so `/` can stand in its place.
pub fn compare(a: &str, b: &str) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => rank(a).cmp(&rank(b)),
        None => a.len().cmp(&b.len()),
    }
}

/// A topic in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByLevel<T>(pub T);

impl<T: AsRef<str> + Eq> Ord for ByLevel<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.0.as_ref(), other.0.as_ref())
    }
}

impl<T: AsRef<str> + Eq> PartialOrd for ByLevel<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a filter says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It takes it.
    Takes,
    /// It does not, nor anything before this, which stands behind the topic.
    GoOnAt(String),
    /// It takes nothing from here on.
    NoMore,
}

/// Where the topics that `filter` takes begin.
pub fn begin(filter: &str) -> &str {
    let wild = filter.find(['+', '#']);
    let above = wild.and_then(|at| filter.get(..at)).unwrap_or(filter);
    match wild {
        Some(_) => above.strip_suffix('/').unwrap_or(above), // `a/#` takes `a` too
        None => above,
    }
}

/// What `filter` says of `topic`. Wildcards in the first level take nothing that begins with `$` [MQTT-4.7.2-1].
pub fn look(filter: &str, topic: &str) -> Look {
    if filter.starts_with(['+', '#']) && topic.starts_with('$') {
        return Look::GoOnAt("%".to_owned()); // what comes behind all that begins with `$`
    }
    let (mut wanted, mut given) = (filter.split('/'), topic.split('/'));
    let mut at = 0; // where the level begins
    let mut plus_end = None; // where the last level ends that a `+` took
    let cut = |end: usize| topic.get(..end).unwrap_or_default();
    loop {
        match (wanted.next(), given.next()) {
            (Some("#"), _) | (None, None) => return Look::Takes,
            (Some("+"), Some(level)) => {
                plus_end = Some(at + level.len());
                at += level.len() + 1;
            }
            (Some(want), Some(level)) => match level.cmp(want) {
                Ordering::Equal => at += level.len() + 1,
                Ordering::Less => return Look::GoOnAt([cut(at), want].concat()),
                Ordering::Greater => return plus_end.map_or(Look::NoMore, |end| behind(cut(end))),
            },
            (Some("+"), None) => return Look::GoOnAt([topic, "/"].concat()),
            (Some(want), None) => return Look::GoOnAt([topic, "/", want].concat()),
            (None, Some(_)) => return behind(cut(at.saturating_sub(1))),
        }
    }
}

/// Behind `topic` and all below it.
fn behind(topic: &str) -> Look {
    Look::GoOnAt([topic, "\u{1}"].concat())
}
