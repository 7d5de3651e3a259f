//! A set of sequence numbers kept as ranges: small as long as the numbers come nearly in order.

use std::collections::BTreeMap;

/// Numbers as inclusive ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First number of a range to its last.
    spans: BTreeMap<u64, u64>,
}

impl Ranges {
    /// The numbers from `first` to `last`.
    pub fn span(first: u64, last: u64) -> Self {
        Self {
            spans: BTreeMap::from([(first, last)]),
        }
    }

    /// Adds a number. Returns whether it is new.
    pub fn insert(&mut self, number: u64) -> bool {
        let before = self
            .spans
            .range(..=number)
            .next_back()
            .map(|(&first, &last)| (first, last));
        if before.is_some_and(|(_, last)| number <= last) {
            return false;
        }
        let mut first = number;
        let mut last = number;
        if let Some((start, end)) = before
            && end + 1 == number
        {
            first = start;
        }
        if let Some(end) = number.checked_add(1).and_then(|next| self.spans.remove(&next)) {
            last = end;
        }
        self.spans.insert(first, last);
        true
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.spans
            .range(..=number)
            .next_back()
            .is_some_and(|(_, &last)| number <= last)
    }

    /// The ranges, rising.
    pub fn spans(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.spans.iter().map(|(&first, &last)| (first, last))
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.spans().map(|(first, last)| last - first + 1).sum()
    }

    /// How many numbers of `0..end` are in the set.
    pub fn len_below(&self, end: u64) -> u64 {
        self.spans
            .range(..end)
            .map(|(&first, &last)| last.min(end - 1) - first + 1)
            .sum()
    }

    /// Written as `3,7-9`.
    pub fn to_text(&self) -> String {
        let spans: Vec<String> = self
            .spans()
            .map(|(first, last)| {
                if first == last {
                    first.to_string()
                } else {
                    format!("{first}-{last}")
                }
            })
            .collect();
        spans.join(",")
    }

    /// Reads what [`Ranges::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut spans = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            spans.insert(first, last);
        }
        Some(Self { spans })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_join_to_ranges_in_any_order_and_are_taken_once() {
        let mut set = Ranges::default();
        for number in [5, 3, 4, 9, 0, 10] {
            assert!(set.insert(number));
            assert!(!set.insert(number));
        }
        assert_eq!(set.to_text(), "0,3-5,9-10");
        assert_eq!(set.len(), 6);
        assert_eq!(set.len_below(5), 3);
        assert!(set.contains(4) && !set.contains(6) && !set.contains(11));
    }

    #[test]
    fn text_comes_back_and_nonsense_does_not() {
        for text in ["", "7", "0-4,9"] {
            assert_eq!(Ranges::from_text(text).unwrap().to_text(), text);
        }
        for text in ["x", "4-2", "1,,a", "-3"] {
            assert_eq!(Ranges::from_text(text), None, "{text}");
        }
    }
}
