//! All that the spool asks of a file system, behind a trait: tests put one in its place that tears, loses and refuses.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

use super::group::BLOCK_BYTES;

/// Parts that one system call writes (IOV_MAX).
const MOST_PARTS: usize = 1024;

/// A file that is read and written at stated places. Its handle stays good when the file is renamed.
pub trait File: Send + Sync + Debug {
    /// Fills `buf` from `offset` on; returns how many bytes there were.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`. Not durable before [`File::sync`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The same for bytes that lie in several places, written one behind the other.
    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write_at(&parts.concat(), offset)
    }

    /// Makes all that was written durable, the file's size too.
    fn sync(&self) -> io::Result<()>;

    /// Sets room for `bytes` aside, where the file system can. No more than a hint: the bytes still have to be written.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Bytes of the file.
    fn size(&self) -> io::Result<u64>;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
    /// Made, empty; what had the name is cut to nothing.
    Create,
}

/// Held for as long as a spool is open; dropping it lets the next one in.
pub trait Lock: Send + Sync + Debug {}

/// A file system.
pub trait Fs: Send + Sync + Debug {
    /// Makes a folder with those above it, durably. Fine when it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Name and size of each file in `dir`, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name. Not durable before [`Fs::sync_dir`], as is the making of a file and its removal.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks the file against other processes; `None` when one has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;

    /// Bytes that are free for us.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(std::fs::File);

#[derive(Debug)]
struct RealLock(#[allow(dead_code, reason = "open for as long as the lock is held")] std::fs::File);

impl Lock for RealLock {}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// In as few writes as the system takes: one that ends within a block would have to read the rest of the block.
    fn write_parts_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        let parts = parts.iter().filter(|part| !part.is_empty());
        let mut slices: Vec<IoSlice<'_>> = parts.map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let most = left.len().min(MOST_PARTS);
            match rustix::io::pwritev(&self.0, left.get(..most).unwrap_or_default(), offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut left, written);
                    offset += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            done => Ok(done?),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Fs for RealFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut made: Vec<PathBuf> = Vec::new();
        for above in dir.ancestors().take_while(|above| !above.exists()) {
            made.push(above.to_owned());
        }
        std::fs::create_dir_all(dir)?;
        // A folder that was made is a name in the one above it.
        for parent in made.iter().filter_map(|dir| dir.parent()) {
            let here = parent.as_os_str().is_empty();
            self.sync_dir(if here { Path::new(".") } else { parent })?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match (entry.file_name().into_string(), entry.metadata()) {
                (Ok(name), Ok(metadata)) if metadata.is_file() => names.push((name, metadata.len())),
                (_, Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let write = mode != Mode::Read;
        let create = mode == Mode::Create;
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(write).create(create).truncate(create);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(RealLock(file)))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Fills `buf` as [`File::read_at`] does, where the disk can read: a block that it can't is zeros, which are no group and
/// no header. Returns whether there was one. `offset` is that of a block.
pub(super) fn read_around(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<(usize, bool)> {
    let unreadable = |error: &io::Error| error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    match file.read_at(buf, offset) {
        Err(error) if unreadable(&error) => {}
        read => return Ok((read?, false)),
    }
    let len = file.size()?.saturating_sub(offset).min(buf.len() as u64) as usize;
    let blocks = buf.get_mut(..len).unwrap_or_default();
    for (at, block) in (offset..).step_by(BLOCK).zip(blocks.chunks_mut(BLOCK)) {
        match file.read_at(block, at) {
            Err(error) if unreadable(&error) => {
                tracing::error!(?file, offset = at, %error, "a block of the spool can't be read");
                block.fill(0);
            }
            read => {
                let rest = block.get_mut(read?..);
                rest.unwrap_or_default().fill(0);
            }
        }
    }
    Ok((len, true))
}

/// What is read at a time when the disk can't read all.
const BLOCK: usize = BLOCK_BYTES as usize;

/// Fills a file with zeros from `from` to `to`; not durable before it is synced.
pub(super) fn zero_fill(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZEROS.len() as u64);
        file.write_at(ZEROS.get(..len as usize).unwrap_or_default(), at)?;
        at += len;
    }
    Ok(())
}
