//! The quarantine: records that Kafka refuses for good, durable on disk until the dead letter topic has them, or for an
//! operator to look at where there is none. Bounded in bytes.
//!
//! A folder of files `NNNNNNNNNNNNNNNNNNNN.refused`, numbered as they were begun; each holds letters ([`letter`]) one
//! after the other. A file is only appended to by the run that began it, and every append is synced before it counts.
//! What follows the first letter that can't be read was never counted (a torn end) or is damaged: it is left out, and
//! told. A file is removed when the dead letter topic has all of it. Where that topic refuses one of its letters too, or
//! some of it could not be read, the file is renamed to `.kept`: it stays, counts for the bound, and is not sent again
//! until it is named back. A file that can't be read at all is renamed to `.unreadable`, told, and counted; the others go
//! on. An operator may take files away at any time.
//!
//! Without a folder letters are kept in memory, and dropped where there is no dead letter topic.

mod letter;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use letter::Letter;

const REFUSED: &str = "refused";
const KEPT: &str = "kept";
const UNREADABLE: &str = "unreadable";
/// How often a file is tried to be read before it is set aside.
const TRIES: u32 = 3;
/// Bytes after which the next file is begun.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes that are kept where there is no folder.
const MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// Why refused records can't be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PutError {
    #[error("it is full")]
    Full,
    #[error("{0}")]
    Io(String),
}

/// A letter that is to be sent, and the file that it came from.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) letter: Arc<Letter>,
    pub(crate) file: u64,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    bytes: u64,
    letters: usize,
    /// How often it could not be read.
    tries: u32,
    /// What there is where there is no folder.
    memory: Vec<Letter>,
}

/// A file whose letters are on their way.
#[derive(Debug)]
struct Feeding {
    batch: Batch,
    next: VecDeque<Letter>,
    open: usize,
    refused: bool,
}

/// The quarantine.
#[derive(Debug)]
pub(crate) struct Quarantine {
    dir: Option<PathBuf>,
    max_bytes: u64,
    /// Whether a dead letter topic takes what comes in.
    feeds: bool,
    /// Files with letters that were not sent, oldest first; the last one may be written to.
    batches: VecDeque<Batch>,
    file: Option<File>,
    feeding: Option<Feeding>,
    next_number: u64,
    bytes: u64,
    letters: usize,
    /// Files that can't be read.
    unreadable: usize,
}

impl Quarantine {
    /// Opens the folder, which is made if need be, and counts what stands there.
    pub(crate) fn open(dir: Option<&Path>, max_bytes: u64, feeds: bool) -> io::Result<Self> {
        let mut quarantine = Self {
            dir: dir.map(Path::to_path_buf),
            max_bytes: if dir.is_some() { max_bytes } else { MEMORY_BYTES },
            feeds,
            batches: VecDeque::new(),
            file: None,
            feeding: None,
            next_number: 0,
            bytes: 0,
            letters: 0,
            unreadable: 0,
        };
        let Some(dir) = dir else {
            return Ok(quarantine);
        };
        fs::create_dir_all(dir)?;
        for (number, kind, bytes) in files(dir)? {
            quarantine.next_number = quarantine.next_number.max(number + 1);
            quarantine.bytes += bytes;
            quarantine.unreadable += usize::from(kind == UNREADABLE);
            if kind != REFUSED {
                continue;
            }
            let letters = match read(&quarantine.path(number, REFUSED)) {
                Ok((letters, _)) => letters.len(),
                Err(error) => {
                    quarantine.set_aside(number, &error);
                    continue;
                }
            };
            quarantine.letters += letters;
            quarantine.batches.push_back(Batch {
                number,
                bytes,
                letters,
                tries: 0,
                memory: Vec::new(),
            });
        }
        Ok(quarantine)
    }

    /// A file can't be read: it stays for an operator, and holds up none of the others.
    fn set_aside(&mut self, number: u64, error: &io::Error) {
        self.unreadable += 1;
        let (path, aside) = (self.path(number, REFUSED), self.path(number, UNREADABLE));
        let renamed = fs::rename(&path, &aside);
        let file = if renamed.is_ok() { aside } else { path };
        tracing::error!(
            %error,
            file = %file.display(),
            "a file of the quarantine can't be read: the refused records in it are set aside; look at the disk and at \
             the rights of the file, name it back to .refused when it can be read, and start again"
        );
    }

    /// Files that can't be read.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable
    }

    fn path(&self, number: u64, kind: &str) -> PathBuf {
        let dir = self.dir.as_deref().unwrap_or(Path::new(""));
        dir.join(format!("{number:020}.{kind}"))
    }

    fn has_dir(&self) -> bool {
        self.dir.as_ref().is_some_and(|dir| !is_gone(dir))
    }

    /// Letters that wait.
    pub(crate) fn letters(&self) -> usize {
        self.letters
    }

    /// Bytes of all that is kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps all of `letters` durably, or none of them. A letter that is larger than the bound is taken when nothing
    /// else is kept.
    pub(crate) fn put(&mut self, letters: Vec<Letter>) -> Result<(), PutError> {
        if self.dir.is_none() && !self.feeds {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for letter in &letters {
            letter.write(&mut bytes);
        }
        let len = bytes.len() as u64;
        let full = |bytes: u64, max: u64| bytes > 0 && bytes + len > max;
        if full(self.bytes, self.max_bytes) {
            self.count_again();
        }
        if full(self.bytes, self.max_bytes) {
            return Err(PutError::Full);
        }
        let count = letters.len();
        if self.dir.is_some() {
            self.append(&bytes)
                .map_err(|error| PutError::Io(error.to_string()))?;
        } else {
            self.begin(letters);
        }
        if let Some(batch) = self.batches.back_mut() {
            batch.bytes += len;
            batch.letters += count;
        }
        self.bytes += len;
        self.letters += count;
        Ok(())
    }

    fn begin(&mut self, memory: Vec<Letter>) {
        self.batches.push_back(Batch {
            number: self.next_number,
            bytes: 0,
            letters: 0,
            tries: 0,
            memory,
        });
        self.next_number += 1;
    }

    /// Counts what there is: somebody may have taken files away.
    fn count_again(&mut self) {
        // A folder that is away as a whole may come back.
        let Some(Ok(files)) = self.dir.as_ref().map(fs::read_dir) else {
            return;
        };
        let kinds = [Some(REFUSED), Some(KEPT), Some(UNREADABLE)];
        let paths = files.filter_map(|file| Some(file.ok()?.path()));
        let mine = paths.filter(|path| kinds.contains(&path.extension().and_then(|kind| kind.to_str())));
        self.bytes = mine.filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
        for batch in std::mem::take(&mut self.batches) {
            if is_gone(&self.path(batch.number, REFUSED)) {
                self.letters = self.letters.saturating_sub(batch.letters);
                self.file = None; // it may be the one that is written to
            } else {
                self.batches.push_back(batch);
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What is appended to a file that was taken away would be lost with it.
        let gone = |batch: &Batch| is_gone(&self.path(batch.number, REFUSED));
        if self.file.is_some() && self.batches.back().is_some_and(gone) {
            self.file = None;
            self.count_again();
        }
        if self.batches.back().is_none_or(|batch| batch.bytes >= FILE_BYTES) {
            self.file = None;
        }
        if self.file.is_none() {
            let path = self.path(self.next_number, REFUSED);
            let file = OpenOptions::new().append(true).create_new(true).open(path);
            // A number whose file could not be written to is not used again.
            self.next_number += 1;
            let file = file?;
            self.sync_dir()?;
            self.next_number -= 1;
            self.begin(Vec::new());
            self.file = Some(file);
        }
        let before = self.batches.back().map_or(0, |batch| batch.bytes);
        let written = match &mut self.file {
            Some(file) => file.write_all(bytes).and_then(|()| file.sync_data()),
            None => Ok(()),
        };
        if let Err(error) = written {
            // What was written half is cut off if that can be; in any case nothing is appended behind it.
            if let Some(file) = self.file.take() {
                let _ = file.set_len(before);
            }
            if before == 0
                && let Some(batch) = self.batches.pop_back()
            {
                let _ = fs::remove_file(self.path(batch.number, REFUSED));
            }
            return Err(error);
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        match &self.dir {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    /// The next letter for the dead letter topic, in the order in which they came.
    pub(crate) fn next(&mut self) -> io::Result<Option<Fed>> {
        while self.feeds {
            if self.feeding.is_none() {
                let Some(batch) = self.batches.pop_front() else {
                    break;
                };
                if self.batches.is_empty() {
                    self.file = None; // what comes now goes into the next file
                }
                self.feed(batch)?;
            }
            let Some(feeding) = &mut self.feeding else {
                continue; // its file was taken away
            };
            if let Some(letter) = feeding.next.pop_front() {
                feeding.open += 1;
                let (letter, file) = (Arc::new(letter), feeding.batch.number);
                return Ok(Some(Fed { letter, file }));
            }
            if feeding.open > 0 {
                break;
            }
            self.end();
        }
        Ok(None)
    }

    fn feed(&mut self, mut batch: Batch) -> io::Result<()> {
        let (letters, whole) = if self.dir.is_some() {
            match read(&self.path(batch.number, REFUSED)) {
                Ok(read) => read,
                // A folder that is away as a whole may come back.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.has_dir() => {
                    self.letters = self.letters.saturating_sub(batch.letters);
                    self.bytes = self.bytes.saturating_sub(batch.bytes);
                    return Ok(());
                }
                // It may be over soon, as where too many files are open.
                Err(error) if batch.tries + 1 < TRIES || !self.has_dir() => {
                    batch.tries += 1;
                    self.batches.push_front(batch);
                    return Err(error);
                }
                Err(error) => {
                    self.letters = self.letters.saturating_sub(batch.letters);
                    self.set_aside(batch.number, &error);
                    return Ok(());
                }
            }
        } else {
            (std::mem::take(&mut batch.memory), true)
        };
        self.feeding = Some(Feeding {
            batch,
            next: letters.into(),
            open: 0,
            refused: !whole,
        });
        Ok(())
    }

    /// The dead letter topic has a letter of `file`, or refuses it for good.
    pub(crate) fn done(&mut self, file: u64, refused: bool) {
        let Some(feeding) = self.feeding.as_mut().filter(|f| f.batch.number == file) else {
            return;
        };
        feeding.open = feeding.open.saturating_sub(1);
        feeding.refused |= refused;
        if feeding.open == 0 && feeding.next.is_empty() {
            self.end();
        }
    }

    /// All of a file is done.
    fn end(&mut self) {
        let Some(feeding) = self.feeding.take() else {
            return;
        };
        let batch = feeding.batch;
        self.letters = self.letters.saturating_sub(batch.letters);
        if self.dir.is_some() {
            let path = self.path(batch.number, REFUSED);
            let ended = if feeding.refused {
                fs::rename(&path, self.path(batch.number, KEPT))
            } else {
                fs::remove_file(&path)
            };
            if let Err(error) = ended.or_else(not_found) {
                tracing::warn!(%error, path = %path.display(), "a file of the quarantine can't be removed: it is sent again at the next start");
            }
        }
        if !feeding.refused {
            self.bytes = self.bytes.saturating_sub(batch.bytes);
        }
    }
}

/// Number, kind and bytes of each file of a quarantine, in order.
fn files(dir: &Path) -> io::Result<Vec<(u64, &'static str, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        let kind = path.extension().and_then(|kind| kind.to_str());
        let kind = [REFUSED, KEPT, UNREADABLE]
            .into_iter()
            .find(|known| kind == Some(known));
        if let (Some(number), Some(kind)) = (number, kind) {
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            found.push((number, kind, bytes));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn is_gone(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What is gone already need not be removed.
fn not_found(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// All letters of a file, up to the first that can't be read, and whether that is all of the file.
fn read(path: &Path) -> io::Result<(Vec<Letter>, bool)> {
    let bytes = fs::read(path)?;
    let mut rest = bytes.as_slice();
    let mut letters = Vec::new();
    while let Some(letter) = Letter::read(&mut rest) {
        letters.push(letter);
    }
    if !rest.is_empty() {
        tracing::warn!(path = %path.display(), bytes = rest.len(), "the end of a file of the quarantine is torn or damaged: left out");
    }
    Ok((letters, rest.is_empty()))
}
