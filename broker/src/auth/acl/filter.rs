//! What filters have in common: whether one takes all that another takes, and whether some topic is taken by both. Pure
//! functions on filters that are well formed, without a `$share` part.

/// The levels of a filter; `#` alone as `+/#`, which takes the same: a topic has at least one level.
fn levels(filter: &str) -> impl Iterator<Item = &str> {
    let (first, rest) = if filter == "#" {
        (Some("+"), "#")
    } else {
        (None, filter)
    };
    first.into_iter().chain(rest.split('/'))
}

fn begins_wild(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}

/// Whether every topic that `narrow` takes is taken by `wide`.
pub fn covers(wide: &str, narrow: &str) -> bool {
    if begins_wild(wide) && narrow.starts_with('$') {
        return false; // [MQTT-4.7.2-1]
    }
    let (mut wide, mut narrow) = (levels(wide), levels(narrow));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) => return false, // it takes the level above too, and any number below
            (Some("+"), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            _ => return false,
        }
    }
}

/// Whether some topic is taken by both.
pub fn overlaps(one: &str, other: &str) -> bool {
    if (begins_wild(one) && other.starts_with('$')) || (begins_wild(other) && one.starts_with('$')) {
        return false;
    }
    let (mut one, mut other) = (levels(one), levels(other));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::topic;

    /// All texts of up to `most` levels out of `words`.
    fn texts(words: &[&str], most: usize) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut last = vec![String::new()];
        for depth in 0..most {
            last = last
                .iter()
                .flat_map(|text| {
                    words.iter().map(move |word| match depth {
                        0 => (*word).to_owned(),
                        _ => format!("{text}/{word}"),
                    })
                })
                .collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    /// Filters of up to three levels against all topics of up to five: longer ones tell no more.
    #[test]
    fn they_say_what_trying_every_topic_says() {
        let filters: Vec<String> = texts(&["a", "$b", "", "+", "#"], 3)
            .into_iter()
            .filter(|filter| topic::check_filter(filter).is_ok())
            .collect();
        // `x` stands for every word that no filter names. The empty name, which is no topic, is all that `+` and `/#` share.
        let topics: Vec<String> = texts(&["a", "$b", "", "x"], 5)
            .into_iter()
            .filter(|name| name.is_empty() || topic::check_name(name).is_ok())
            .collect();
        let taken: Vec<Vec<bool>> = filters
            .iter()
            .map(|filter| topics.iter().map(|name| topic::matches(filter, name)).collect())
            .collect();
        for (one, by_one) in filters.iter().zip(&taken) {
            for (other, by_other) in filters.iter().zip(&taken) {
                let both = || by_one.iter().zip(by_other);
                let covered = both().all(|(wide, narrow)| *wide || !*narrow);
                assert_eq!(covers(one, other), covered, "{one} covers {other}");
                let shared = both().any(|(a, b)| *a && *b);
                assert_eq!(overlaps(one, other), shared, "{one} overlaps {other}");
            }
        }
    }
}
