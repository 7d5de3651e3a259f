//! The spool against a plain list, under random operations and faults: power cuts in the middle of anything, kills,
//! failed fsyncs, a disk without room, flipped bits.

use std::time::Duration;

use super::support::{chunk, read_all, try_open};
use crate::bus::Chunk;
use crate::spool::{AppendError, Damage, LogReader, LogWriter, Position, Spool, SpoolReader, SpoolWriter};
use crate::testing::faulty_fs::{FaultyFs, Lot};

/// Steps of the test that always runs; `FOREBAY_MODEL_STEPS` sets another number, `FOREBAY_MODEL_SEED` the seed.
const STEPS: u64 = 4_000;

struct Run {
    writer: SpoolWriter,
    spool: Spool,
    reader: SpoolReader,
    /// Where the reader is.
    next: u64,
}

struct Model {
    lot: Lot,
    fs: FaultyFs,
    run: Option<Run>,
    /// All that was appended and is not known to be gone, in order.
    log: Vec<(Position, Chunk)>,
    /// Below this all was acknowledged.
    durable: u64,
    /// As `durable`, before the last sync: where the last group may begin.
    before_last: u64,
    committed: u64,
    /// What a cursor may say: the last that was saved, or one whose save did not return.
    saved: Vec<u64>,
    number: u64,
    epoch: u64,
    /// Bits were flipped: something may be missing, if it is reported.
    flips: u32,
    tail_flipped: bool,
    cursor_flipped: bool,
    step: u64,
    marks: [u64; 10],
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut model = Self {
            lot: Lot::new(seed),
            fs: FaultyFs::default(),
            run: None,
            log: Vec::new(),
            durable: 0,
            before_last: 0,
            committed: 0,
            saved: vec![0],
            number: 0,
            epoch: 0,
            flips: 0,
            tail_flipped: false,
            cursor_flipped: false,
            step: 0,
            marks: [0; 10],
        };
        model.open();
        model
    }

    fn end(&self) -> u64 {
        let last = self.log.last();
        last.map_or(self.durable, |(first, chunk)| {
            first.sequence + u64::from(chunk.count())
        })
    }

    /// Opens the spool, with cuts in the middle of that, until it is open.
    fn open(&mut self) {
        self.run = None;
        loop {
            if self.lot.chance(30) {
                self.fs.light_fuse(self.lot.below(60) as u32);
            }
            if self.try_open() {
                return;
            }
            self.run = None;
            self.fs.set_no_room(false);
            self.fs.set_capacity(None);
            match self.lot.chance(70) {
                true => self.fs.cut(&mut self.lot),
                false => self.fs.kill(),
            }
        }
    }

    fn try_open(&mut self) -> bool {
        let Ok((writer, spool, recovery)) = try_open(&self.fs) else {
            return false;
        };
        let Ok(reader) = spool.reader("kafka") else {
            return false;
        };
        assert!(recovery.epoch > self.epoch, "an epoch came back");
        let end = recovery.next_sequence;
        self.check_end(end);
        if self.flips == 0 {
            assert_eq!(recovery.damage, [], "damage without a flip");
            assert!(recovery.lost_cursors.is_empty());
        }
        self.log.retain(|(first, _)| first.sequence < end);
        let begin = reader.begin();
        if self.cursor_flipped {
            let most = self.saved.iter().max().unwrap();
            assert!(
                begin <= *most,
                "the cursor is at {begin}, {:?} was saved",
                self.saved
            );
        } else {
            // Flips in two segments may take all that there was: then it goes on behind what is reported to be lost.
            let behind_damage = recovery.damage.iter().any(|damage| {
                damage.end == begin
                    && self
                        .saved
                        .iter()
                        .any(|saved| (damage.first..begin).contains(saved))
            });
            assert!(
                self.saved.contains(&begin) || (self.flips > 0 && behind_damage),
                "the cursor is at {begin}, {:?} was saved",
                self.saved
            );
        }
        self.epoch = recovery.epoch;
        self.before_last = self.before_last.min(end);
        self.durable = end;
        self.committed = begin;
        self.saved = vec![begin];
        self.tail_flipped = false;
        self.run = Some(Run {
            writer,
            spool,
            reader,
            next: begin,
        });
        true
    }

    /// The end must be at a chunk's end, and not below what was acknowledged.
    fn check_end(&self, end: u64) {
        let fine = self
            .log
            .iter()
            .any(|(first, c)| first.sequence + u64::from(c.count()) == end);
        let empty = end == self.durable || end == 0;
        assert!(
            fine || empty || self.flips > 0,
            "the log ends at {end}, in the middle of a chunk"
        );
        let least = if self.tail_flipped {
            self.before_last
        } else {
            self.durable
        };
        assert!(
            end >= least,
            "the log ends at {end}, {} was acknowledged",
            self.durable
        );
        assert!(
            end <= self.end().max(self.durable),
            "the log ends at {end}: more than was appended"
        );
    }

    fn step(&mut self) {
        self.step += 1;
        let kind = match self.lot.below(1000) {
            0..=399 => 0,
            400..=599 => 1,
            600..=799 => 2,
            800..=899 => 3,
            900..=919 => 4,
            920..=934 => 5,
            935..=954 => 6,
            955..=969 => 7,
            970..=984 => 8,
            _ => 9,
        };
        self.marks[kind] += 1;
        match kind {
            0 => self.append(),
            1 => self.sync(),
            2 => self.read(),
            3 => self.save(),
            4 => self.reopen(),
            5 => self.kill(),
            6 => self.cut(),
            7 => self.flip(),
            8 => self.no_room(),
            _ => self.fail_sync(),
        }
    }

    fn append(&mut self) {
        let run = self.run.as_mut().unwrap();
        let most = if self.lot.chance(10) { 9_000 } else { 1_500 };
        let payload = self.lot.below(most) as usize;
        let chunk = chunk(self.number, self.lot.below(4) as u32, payload);
        self.number += 1;
        match run.writer.append(&chunk) {
            Ok(first) => {
                let end = self.end();
                assert_eq!((first.epoch, first.sequence), (self.epoch, end));
                if chunk.count() > 0 {
                    self.log.push((first, chunk));
                }
            }
            Err(AppendError::Full) => self.make_room(),
            Err(_) => self.died(),
        }
    }

    /// Full is fine while something is kept or the disk is full; then a consumer goes on, and there is room.
    fn make_room(&mut self) {
        for _ in 0..20 {
            self.fs.mend();
            self.sync();
            self.read_to_end();
            self.save();
            let run = self.run.as_mut().unwrap();
            if run.writer.wait_room(9_000, Duration::ZERO).unwrap_or(true) {
                return;
            }
        }
        panic!("full, though all is done with");
    }

    fn sync(&mut self) {
        let before = self.durable;
        let end = self.end();
        let run = self.run.as_mut().unwrap();
        match run.writer.sync() {
            Ok(()) => {
                assert_eq!(run.spool.status().durable_sequence, end);
                if end > before {
                    self.before_last = before;
                }
                self.durable = end;
            }
            Err(_) => self.died(),
        }
    }

    fn read(&mut self) {
        for _ in 0..self.lot.below(8) {
            if self.read_one().is_none() {
                break;
            }
        }
        if self.lot.chance(5) {
            let run = self.run.as_mut().unwrap();
            let to = self.committed.max(self.saved.iter().copied().max().unwrap());
            run.reader.seek(to).unwrap();
            run.next = to;
        }
    }

    fn read_to_end(&mut self) {
        while self.run.is_some() && self.read_one().is_some() {}
    }

    /// The next chunk is the next of the list; what is missing was reported.
    fn read_one(&mut self) -> Option<()> {
        let run = self.run.as_mut().unwrap();
        let Ok(entry) = run.reader.read(Duration::ZERO) else {
            self.died();
            return None;
        };
        let end = entry.as_ref().map_or(self.durable, |entry| entry.first.sequence);
        let damage = run.spool.damage();
        assert!(damage.is_empty() || self.flips > 0, "damage without a flip");
        for (first, chunk) in &self.log {
            let chunk_end = first.sequence + u64::from(chunk.count());
            if chunk_end > run.next && first.sequence < end {
                assert!(
                    is_lost(&damage, first.sequence.max(run.next), chunk_end),
                    "{first:?} is missing: {damage:?}"
                );
            }
        }
        let Some(entry) = entry else {
            run.next = self.durable;
            return None;
        };
        assert!(entry.end() <= self.durable, "read before it was durable");
        let put = self
            .log
            .iter()
            .find(|(first, _)| first.sequence == entry.first.sequence);
        let (first, chunk) = put.expect("something that was never appended");
        assert_eq!((first, chunk), (&entry.first, &entry.chunk));
        run.next = entry.end();
        Some(())
    }

    fn save(&mut self) {
        let Some(run) = self.run.as_mut() else {
            return;
        };
        let commit = run.next.max(self.committed);
        run.reader.commit(commit).unwrap();
        self.committed = commit;
        match run.reader.save(&commit.to_le_bytes()) {
            Ok(()) => {
                self.saved = vec![commit];
                self.cursor_flipped = false;
            }
            Err(_) => {
                self.saved.push(commit);
                self.died();
            }
        }
        // What is done with is of no interest any more.
        let least = *self.saved.iter().min().unwrap();
        self.log
            .retain(|(first, c)| first.sequence + u64::from(c.count()) + 2_000 > least);
    }

    /// An operation failed: by the fuse, or by a failed fsync. Nothing works any more; the process is gone.
    fn died(&mut self) {
        self.run = None;
        match self.lot.chance(70) {
            true => self.fs.cut(&mut self.lot),
            false => self.fs.kill(),
        }
        self.open();
    }

    fn reopen(&mut self) {
        self.run = None;
        self.fs.kill();
        self.open();
    }

    fn kill(&mut self) {
        self.fs.kill();
        self.open();
    }

    /// The power goes, now or in the middle of what comes next.
    fn cut(&mut self) {
        if self.lot.chance(70) {
            self.fs.light_fuse(self.lot.below(8) as u32);
            return;
        }
        self.fs.cut(&mut self.lot);
        self.open();
    }

    fn no_room(&mut self) {
        let no_room = self.lot.chance(60);
        self.fs.set_no_room(no_room);
        let full = self
            .lot
            .chance(40)
            .then(|| self.fs.used() + self.lot.below(64 * 1024));
        self.fs.set_capacity(full);
    }

    fn fail_sync(&mut self) {
        self.fs.fail_next_sync();
    }

    /// Flips a bit in a segment or a cursor, but never both copies of a segment's header.
    fn flip(&mut self) {
        if self.flips == 0 && self.step.is_multiple_of(2) {
            return; // half of the runs have a long time without
        }
        let names = self.fs.names();
        let files: Vec<_> = names
            .iter()
            .filter(|name| name.ends_with(".seg") || name.starts_with("cursor"))
            .collect();
        let name = files[self.lot.below(files.len() as u64) as usize];
        let size = self.fs.content(name).len() as u64;
        let at = self.lot.below(size) as usize;
        if size == 0 || (4096..4160).contains(&at) {
            return;
        }
        let bit = 1 << self.lot.below(8);
        self.fs.change(name, |bytes| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        });
        self.flips += 1;
        match name.starts_with("cursor") {
            true => self.cursor_flipped = true,
            false => self.tail_flipped = true,
        }
        self.reopen();
    }
}

/// Whether all of `first..end` was reported as lost.
fn is_lost(damage: &[Damage], first: u64, end: u64) -> bool {
    let mut at = first;
    let mut ranges: Vec<_> = damage.iter().map(|damage| (damage.first, damage.end)).collect();
    ranges.sort_unstable();
    for (from, to) in ranges {
        if from <= at && to > at {
            at = to;
        }
    }
    at >= end
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn run(seed: u64, steps: u64) {
    let mut model = Model::new(seed);
    for _ in 0..steps {
        model.step();
    }
    model.fs.mend();
    model.reopen();
    model.fs.mend();
    model.read_to_end();
    let run = model.run.as_mut().unwrap();
    assert_eq!(run.next, model.durable, "not all could be read");
    assert!(read_all(&mut run.reader).is_empty());
}

#[test]
fn under_faults_it_gives_what_a_list_would() {
    let seed = setting("FOREBAY_MODEL_SEED", 1);
    let steps = setting("FOREBAY_MODEL_STEPS", STEPS);
    let runs = steps.div_ceil(2_000);
    for seed in seed..seed + runs {
        println!("FOREBAY_MODEL_SEED={seed} FOREBAY_MODEL_STEPS=2000");
        run(seed, 2_000.min(steps));
    }
}
