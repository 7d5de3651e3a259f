//! Tests of the quarantine.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn letter(number: u64) -> Letter {
    Letter {
        arrival_ms: number,
        key: b"key".to_vec(),
        value: number.is_multiple_of(2).then(|| vec![b'x'; 100]),
        headers: vec![("forebay.error".to_owned(), b"too large".to_vec())],
    }
}

fn letters(range: std::ops::Range<u64>) -> Vec<Letter> {
    range.map(letter).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_put_survives_and_is_removed_when_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let open = |feeds| Quarantine::open(Some(dir.path()), 1 << 20, feeds).unwrap();
    let mut quarantine = open(false);
    quarantine.put(letters(0..3)).unwrap();
    quarantine.put(letters(3..5)).unwrap();
    assert!(quarantine.next().unwrap().is_none(), "nobody takes them");
    drop(quarantine);
    let mut quarantine = open(true);
    assert_eq!(quarantine.letters(), 5);
    quarantine.put(letters(5..6)).unwrap();
    let mut fed = Vec::new();
    while let Some(next) = quarantine.next().unwrap() {
        fed.push(next);
    }
    assert_eq!(fed.len(), 5, "the next file is read when all of this one is done");
    for (number, fed) in (0..).zip(&fed) {
        assert_eq!(*fed.letter, letter(number));
        quarantine.done(fed.file, false);
    }
    let last = quarantine.next().unwrap().unwrap();
    assert_eq!(*last.letter, letter(5));
    quarantine.done(last.file, false);
    assert_eq!((quarantine.letters(), quarantine.bytes()), (0, 0));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_file_with_a_letter_that_nobody_takes_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut quarantine = Quarantine::open(Some(dir.path()), 1 << 20, true).unwrap();
    quarantine.put(letters(0..2)).unwrap();
    for refused in [true, false] {
        let fed = quarantine.next().unwrap().unwrap();
        quarantine.done(fed.file, refused);
    }
    assert!(quarantine.next().unwrap().is_none());
    assert_eq!(names(dir.path()), ["00000000000000000000.kept"]);
    let quarantine = Quarantine::open(Some(dir.path()), 1 << 20, true).unwrap();
    assert_eq!(quarantine.letters(), 0);
    assert!(quarantine.bytes() > 0 && quarantine.next_number == 1);
}

#[test]
fn it_is_bounded_and_takes_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut quarantine = Quarantine::open(Some(dir.path()), 1000, false).unwrap();
    quarantine.put(letters(0..4)).unwrap();
    assert_eq!(quarantine.put(letters(4..20)), Err(PutError::Full));
    quarantine.put(letters(20..21)).unwrap();
    drop(quarantine);
    let quarantine = Quarantine::open(Some(dir.path()), 1000, false).unwrap();
    assert_eq!(quarantine.letters(), 5);
}

#[test]
fn a_torn_end_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut quarantine = Quarantine::open(Some(dir.path()), 1 << 20, false).unwrap();
    quarantine.put(letters(0..3)).unwrap();
    drop(quarantine);
    let path = dir.path().join("00000000000000000000.refused");
    let whole = fs::read(&path).unwrap();
    let third = whole.len();
    for cut in [third - 1, third - 60, 10] {
        fs::write(&path, &whole[..cut]).unwrap();
        let quarantine = Quarantine::open(Some(dir.path()), 1 << 20, false).unwrap();
        assert_eq!(quarantine.letters(), if cut == 10 { 0 } else { 2 });
    }
    let mut flipped = whole.clone();
    flipped[30] ^= 1;
    fs::write(&path, flipped).unwrap();
    let quarantine = Quarantine::open(Some(dir.path()), 1 << 20, false).unwrap();
    assert_eq!(quarantine.letters(), 0);
}

#[test]
fn a_folder_that_can_not_be_written_refuses_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("quarantine");
    let mut quarantine = Quarantine::open(Some(&path), 1 << 20, true).unwrap();
    fs::remove_dir(&path).unwrap();
    assert!(matches!(quarantine.put(letters(0..1)), Err(PutError::Io(_))));
    fs::create_dir(&path).unwrap();
    quarantine.put(letters(0..1)).unwrap();
    assert_eq!(*quarantine.next().unwrap().unwrap().letter, letter(0));
}

#[test]
fn files_may_be_taken_away_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("00000000000000000000.refused");
    let mut quarantine = Quarantine::open(Some(dir.path()), 1000, false).unwrap();
    quarantine.put(letters(0..4)).unwrap();
    fs::remove_file(&first).unwrap();
    quarantine.put(letters(4..5)).unwrap();
    assert_eq!(
        names(dir.path()),
        ["00000000000000000001.refused"],
        "not lost with the other"
    );
    assert_eq!(quarantine.letters(), 1);
    assert_eq!(quarantine.put(letters(5..15)), Err(PutError::Full));
    fs::remove_file(dir.path().join("00000000000000000001.refused")).unwrap();
    quarantine.put(letters(5..15)).unwrap();
    assert_eq!(quarantine.letters(), 10);
    drop(quarantine);
    let mut quarantine = Quarantine::open(Some(dir.path()), 1 << 20, true).unwrap();
    quarantine.put(letters(15..16)).unwrap();
    fs::remove_file(dir.path().join("00000000000000000002.refused")).unwrap();
    let fed = quarantine.next().unwrap().unwrap();
    assert_eq!(*fed.letter, letter(15), "the rest is sent");
    quarantine.done(fed.file, false);
    assert_eq!((quarantine.letters(), quarantine.bytes()), (0, 0));
}

#[test]
fn a_damaged_file_is_kept_when_what_can_be_read_of_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut quarantine = Quarantine::open(Some(dir.path()), 1 << 20, true).unwrap();
    quarantine.put(letters(0..3)).unwrap();
    drop(quarantine);
    let path = dir.path().join("00000000000000000000.refused");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut quarantine = Quarantine::open(Some(dir.path()), 1 << 20, true).unwrap();
    for _ in 0..2 {
        let fed = quarantine.next().unwrap().unwrap();
        quarantine.done(fed.file, false);
    }
    assert!(quarantine.next().unwrap().is_none());
    assert_eq!(names(dir.path()), ["00000000000000000000.kept"]);
}

#[test]
fn a_file_that_can_not_be_read_is_set_aside_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut quarantine = Quarantine::open(Some(dir.path()), 1 << 20, false).unwrap();
    quarantine.put(letters(0..2)).unwrap();
    drop(quarantine);
    // A folder in its place: nobody can read that, whatever the rights.
    fs::rename(
        dir.path().join("00000000000000000000.refused"),
        dir.path().join("00000000000000000001.refused"),
    )
    .unwrap();
    fs::create_dir(dir.path().join("00000000000000000000.refused")).unwrap();
    let mut quarantine = Quarantine::open(Some(dir.path()), 1 << 20, true).unwrap();
    assert_eq!((quarantine.unreadable(), quarantine.letters()), (1, 2));
    // One that turns bad later is tried again before it is given up.
    quarantine.put(letters(2..3)).unwrap();
    fs::rename(
        dir.path().join("00000000000000000002.refused"),
        dir.path().join("saved"),
    )
    .unwrap();
    fs::create_dir(dir.path().join("00000000000000000002.refused")).unwrap();
    for _ in 0..2 {
        let fed = quarantine.next().unwrap().unwrap();
        quarantine.done(fed.file, false);
    }
    for _ in 1..TRIES {
        assert!(quarantine.next().is_err());
    }
    quarantine.put(letters(3..4)).unwrap();
    let fed = quarantine.next().unwrap().unwrap();
    assert_eq!(*fed.letter, letter(3), "the others go on");
    quarantine.done(fed.file, false);
    assert_eq!((quarantine.unreadable(), quarantine.letters()), (2, 0));
    assert_eq!(
        names(dir.path()),
        [
            "00000000000000000000.unreadable",
            "00000000000000000002.unreadable",
            "saved"
        ]
    );
    // After a new start it is still counted, and never given another's number.
    let quarantine = Quarantine::open(Some(dir.path()), 1 << 20, true).unwrap();
    assert_eq!((quarantine.unreadable(), quarantine.next_number), (2, 3));
}

#[test]
fn a_folder_that_is_away_for_a_while_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (there, away) = (dir.path().join("there"), dir.path().join("away"));
    let mut quarantine = Quarantine::open(Some(&there), 1 << 20, true).unwrap();
    quarantine.put(letters(0..1)).unwrap();
    fs::rename(&there, &away).unwrap();
    for _ in 0..2 * TRIES {
        assert!(quarantine.next().is_err());
    }
    fs::rename(&away, &there).unwrap();
    assert_eq!(*quarantine.next().unwrap().unwrap().letter, letter(0));
}
