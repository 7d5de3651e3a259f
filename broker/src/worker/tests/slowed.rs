//! A connection that was too fast: what its pause costs, and that it ends.

use super::*;

#[test]
fn a_pause_is_one_entry_and_is_over_when_it_is_due() {
    let mut bench = Bench::new(|_| {});
    let fast = bench.connect("fast", true);
    let gone = bench.connect("gone", true);
    for at in [fast, gone] {
        assert!((0..100).all(|_| bench.state.resume_at(at, 500)));
    }
    assert_eq!(bench.state.slowed.len(), 2);
    bench.state.detach(gone, Detach::Lost);
    bench.tick(499);
    bench.state.wake_slowed();
    assert_eq!(bench.state.slowed.len(), 2, "nobody looks at it before");
    bench.tick(500);
    bench.state.wake_slowed();
    assert_eq!(bench.state.slowed.len(), 0);
    assert_eq!(bench.state.slot(fast).unwrap().resume_ms, u64::MAX);
    assert!(!bench.state.resume_at(fast, 500), "the time is past");
    assert_eq!(bench.state.slowed.len(), 0);
}
