//! What recovery does with a place in the log, as a table: from what stands there and from who says that more was
//! durable, to what becomes of it. Pure, so that a test goes through every combination.

/// What stands at a place where a group is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A good group.
    Good,
    /// Bytes that are no group.
    Bad,
    /// Zeros, or the end of the file.
    Empty,
}

/// What is known of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What stands there.
    pub frame: Frame,
    /// A later group of the same segment says that what was due here was durable before it.
    pub later_group: bool,
    /// The header of a later segment says so.
    pub later_segment: bool,
    /// A consumer has saved a cursor beyond: it had read what was due here, and only what is durable is read.
    pub cursor: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable and stays where it is.
    Keep,
    /// It may stand in the page cache only: written again to the new segment, and synced.
    Copy,
    /// Lost though it was durable: set aside, counted, reported; what stands beside it is delivered.
    Damage,
    /// The write that a crash cut short, or nothing at all: the log ends here.
    Cut,
}

/// The table.
pub fn decide(facts: Facts) -> Verdict {
    let claimed = facts.later_group || facts.later_segment || facts.cursor;
    match (facts.frame, claimed) {
        (Frame::Good, true) => Verdict::Keep,
        (Frame::Good, false) => Verdict::Copy,
        (Frame::Bad | Frame::Empty, true) => Verdict::Damage,
        (Frame::Bad | Frame::Empty, false) => Verdict::Cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_its_verdict() {
        use Verdict::{Copy, Cut, Damage, Keep};
        // frame, later group, later segment, cursor
        let table = [
            (Frame::Good, false, false, false, Copy),
            (Frame::Good, false, false, true, Keep),
            (Frame::Good, false, true, false, Keep),
            (Frame::Good, false, true, true, Keep),
            (Frame::Good, true, false, false, Keep),
            (Frame::Good, true, false, true, Keep),
            (Frame::Good, true, true, false, Keep),
            (Frame::Good, true, true, true, Keep),
            (Frame::Bad, false, false, false, Cut),
            (Frame::Bad, false, false, true, Damage),
            (Frame::Bad, false, true, false, Damage),
            (Frame::Bad, false, true, true, Damage),
            (Frame::Bad, true, false, false, Damage),
            (Frame::Bad, true, false, true, Damage),
            (Frame::Bad, true, true, false, Damage),
            (Frame::Bad, true, true, true, Damage),
            (Frame::Empty, false, false, false, Cut),
            (Frame::Empty, false, false, true, Damage),
            (Frame::Empty, false, true, false, Damage),
            (Frame::Empty, false, true, true, Damage),
            (Frame::Empty, true, false, false, Damage),
            (Frame::Empty, true, false, true, Damage),
            (Frame::Empty, true, true, false, Damage),
            (Frame::Empty, true, true, true, Damage),
        ];
        let mut seen = Vec::new();
        for (frame, later_group, later_segment, cursor, verdict) in table {
            let facts = Facts {
                frame,
                later_group,
                later_segment,
                cursor,
            };
            assert!(!seen.contains(&facts), "{facts:?} stands twice");
            assert_eq!(decide(facts), verdict, "{facts:?}");
            seen.push(facts);
        }
        assert_eq!(seen.len(), 3 * 2 * 2 * 2, "none is left out");
    }
}
