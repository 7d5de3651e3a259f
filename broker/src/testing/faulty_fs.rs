//! A file system in memory that does what a disk may do at a power cut: keeps any of the writes that were not synced,
//! in any order, torn anywhere. It also runs out of room, fails an fsync, flips bits, and dies in the middle.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::spool::fs::{File, Fs, Lock, Mode};

/// A small generator of numbers by lot: the same for the same seed.
#[derive(Debug, Clone)]
pub struct Lot(u64);

impl Lot {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Clone)]
enum Naming {
    Add(String, u64),
    Remove(String),
    Rename(String, String),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    /// As the page cache has it.
    current: Vec<u8>,
    /// As the disk has it for certain.
    durable: Vec<u8>,
    /// Since the last sync; each of them may have reached the disk.
    pending: Vec<Change>,
    /// Of a sync that failed: no later one makes them durable.
    limbo: Vec<Change>,
}

#[derive(Debug, Default)]
struct World {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    namings: Vec<Naming>,
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    /// Rises at each kill: handles of the one before are dead.
    life: u64,
    locked: bool,
    no_room: bool,
    /// Bytes that all files may take together.
    capacity: Option<u64>,
    /// Blocks of 4 KiB that can't be read: inode and offset.
    unreadable: Vec<(u64, u64)>,
    fail_sync: bool,
    fuse: Option<u32>,
    syncs: u64,
}

/// The file system; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FaultyFs {
    world: Arc<Mutex<World>>,
}

impl FaultyFs {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The process dies; what it wrote stays in the page cache.
    pub fn kill(&self) {
        let mut world = self.world();
        world.life += 1;
        world.locked = false;
        world.fuse = None;
        world.fail_sync = false;
    }

    /// The power goes: of what was not synced, any part is there.
    pub fn cut(&self, lot: &mut Lot) {
        self.kill();
        let mut world = self.world();
        let kept = lot.below(world.namings.len() as u64 + 1) as usize;
        let namings = std::mem::take(&mut world.namings);
        let mut names = world.durable_names.clone();
        for naming in namings.iter().take(kept) {
            apply_naming(&mut names, naming);
        }
        world.names = names.clone();
        world.durable_names = names;
        for inode in world.inodes.values_mut() {
            let mut changes = std::mem::take(&mut inode.limbo);
            changes.append(&mut inode.pending);
            for at in (1..changes.len()).rev() {
                changes.swap(at, lot.below(at as u64 + 1) as usize);
            }
            for change in &changes {
                if lot.chance(60) {
                    apply_torn(&mut inode.durable, change, lot);
                }
            }
            inode.current = inode.durable.clone();
        }
    }

    /// From now on there is no room for anything new, or there is again.
    pub fn set_no_room(&self, no_room: bool) {
        self.world().no_room = no_room;
    }

    /// From now on all files may take no more than that together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// The block at `offset` of a file can't be read any more.
    pub fn break_block(&self, name: &str, offset: u64) {
        let mut world = self.world();
        let inode = world.names[name];
        world.unreadable.push((inode, offset));
    }

    /// Bytes that all files take.
    pub fn used(&self) -> u64 {
        self.world().used()
    }

    /// The next fsync of a file fails, and what it was to make durable may be lost.
    pub fn fail_next_sync(&self) {
        self.world().fail_sync = true;
    }

    /// After so many more operations none works any more.
    pub fn light_fuse(&self, operations: u32) {
        self.world().fuse = Some(operations);
    }

    /// All operations work from now on.
    pub fn mend(&self) {
        let mut world = self.world();
        world.fuse = None;
        world.fail_sync = false;
        world.no_room = false;
        world.capacity = None;
    }

    /// Names of the files, in order.
    pub fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    /// What a file holds.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.inodes[&world.names[name]].current.clone()
    }

    /// Changes what a file holds, on the disk as well.
    pub fn change(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut world = self.world();
        let inode = world.names[name];
        let inode = world.inodes.get_mut(&inode).unwrap();
        change(&mut inode.current);
        change(&mut inode.durable);
    }

    /// Removes a file, durably.
    pub fn lose(&self, name: &str) {
        let mut world = self.world();
        world.names.remove(name);
        world.durable_names.remove(name);
    }

    /// Fsyncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }
}

fn apply_naming(names: &mut BTreeMap<String, u64>, naming: &Naming) {
    match naming {
        Naming::Add(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        Naming::Remove(name) => {
            names.remove(name);
        }
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => put(content, *offset, bytes),
        Change::Truncate(len) => content.resize(*len as usize, 0),
    }
}

/// A part of a write: all, some sectors, or up to any byte.
fn apply_torn(content: &mut Vec<u8>, change: &Change, lot: &mut Lot) {
    let Change::Write(offset, bytes) = change else {
        return apply(content, change);
    };
    match lot.below(3) {
        0 => put(content, *offset, bytes),
        1 => {
            for (at, sector) in bytes.chunks(512).enumerate() {
                if lot.chance(50) {
                    put(content, *offset + at as u64 * 512, sector);
                }
            }
        }
        _ => {
            let end = lot.below(bytes.len() as u64 + 1) as usize;
            put(content, *offset, &bytes[..end]);
        }
    }
}

fn error(kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text)
}

impl World {
    /// One operation of a process of `life`.
    fn enter(&mut self, life: u64) -> io::Result<()> {
        if life != self.life {
            return Err(error(io::ErrorKind::Other, "a handle of a process that is dead"));
        }
        match &mut self.fuse {
            Some(0) => Err(error(io::ErrorKind::Other, "the machine has died")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        let sizes = self.names.values().map(|inode| self.inodes[inode].current.len());
        sizes.sum::<usize>() as u64
    }

    fn name(&mut self, naming: Naming) {
        apply_naming(&mut self.names, &naming);
        self.namings.push(naming);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[derive(Debug)]
struct FaultyFile {
    fs: FaultyFs,
    inode: u64,
    life: u64,
}

impl FaultyFile {
    fn with<T>(&self, work: impl FnOnce(&mut World, u64) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.fs.world();
        world.enter(self.life)?;
        work(&mut world, self.inode)
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|world, inode| {
            let end = offset + buf.len() as u64;
            let bad = |(of, at): &(u64, u64)| *of == inode && *at < end && offset < at + 4096;
            if world.unreadable.iter().any(bad) {
                return Err(io::Error::from_raw_os_error(5));
            }
            let content = &world.inodes[&inode].current;
            let from = content.len().min(offset as usize);
            let len = buf.len().min(content.len() - from);
            buf[..len].copy_from_slice(&content[from..from + len]);
            Ok(len)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|world, inode| {
            let len = world.inodes[&inode].current.len() as u64;
            let more = (offset + bytes.len() as u64).saturating_sub(len);
            let no_room = world.no_room || world.capacity.is_some_and(|most| world.used() + more > most);
            let inode = world.inodes.get_mut(&inode).unwrap();
            if no_room && more > 0 {
                return Err(error(io::ErrorKind::StorageFull, "no room"));
            }
            let change = Change::Write(offset, bytes.to_vec());
            apply(&mut inode.current, &change);
            inode.pending.push(change);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, inode| {
            world.syncs += 1;
            let fail = std::mem::take(&mut world.fail_sync);
            let inode = world.inodes.get_mut(&inode).unwrap();
            let mut pending = std::mem::take(&mut inode.pending);
            if fail {
                inode.limbo.append(&mut pending);
                return Err(error(io::ErrorKind::Other, "input/output error"));
            }
            for change in &pending {
                apply(&mut inode.durable, change);
            }
            // What is written again is durable, whatever an earlier sync said of it.
            inode
                .limbo
                .retain(|old| !pending.iter().any(|new| covers(new, old)));
            Ok(())
        })
    }

    fn reserve(&self, _bytes: u64) -> io::Result<()> {
        self.with(|world, _| match world.no_room {
            true => Err(error(io::ErrorKind::StorageFull, "no room")),
            false => Ok(()),
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.with(|world, inode| {
            let inode = world.inodes.get_mut(&inode).unwrap();
            apply(&mut inode.current, &Change::Truncate(bytes));
            inode.pending.push(Change::Truncate(bytes));
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|world, inode| Ok(world.inodes[&inode].current.len() as u64))
    }
}

fn covers(new: &Change, old: &Change) -> bool {
    match (new, old) {
        (Change::Write(at, new), Change::Write(old_at, old)) => {
            at <= old_at && at + new.len() as u64 >= old_at + old.len() as u64
        }
        _ => false,
    }
}

#[derive(Debug)]
struct FaultyLock {
    fs: FaultyFs,
    life: u64,
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut world = self.fs.world();
        if world.life == self.life {
            world.locked = false;
        }
    }
}

impl Fs for FaultyFs {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut world = self.world();
        let life = world.life;
        world.enter(life)?;
        let size = |inode: &u64| world.inodes[inode].current.len() as u64;
        let names = world.names.iter();
        Ok(names.map(|(name, inode)| (name.clone(), size(inode))).collect())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        let life = world.life;
        world.enter(life)?;
        let name = name_of(path);
        let inode = match world.names.get(&name) {
            Some(inode) => *inode,
            None if mode == Mode::Create => {
                world.next_inode += 1;
                let inode = world.next_inode;
                world.inodes.insert(inode, Inode::default());
                world.name(Naming::Add(name, inode));
                inode
            }
            None => return Err(error(io::ErrorKind::NotFound, "no such file")),
        };
        if mode == Mode::Create {
            let inode = world.inodes.get_mut(&inode).unwrap();
            apply(&mut inode.current, &Change::Truncate(0));
            inode.pending.push(Change::Truncate(0));
        }
        Ok(Arc::new(FaultyFile {
            fs: self.clone(),
            inode,
            life,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.enter(life)?;
        world.name(Naming::Rename(name_of(from), name_of(to)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.enter(life)?;
        let name = name_of(path);
        if !world.names.contains_key(&name) {
            return Err(error(io::ErrorKind::NotFound, "no such file"));
        }
        world.name(Naming::Remove(name));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.enter(life)?;
        world.namings.clear();
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut world = self.world();
        if std::mem::replace(&mut world.locked, true) {
            return Ok(None);
        }
        let life = world.life;
        drop(world);
        Ok(Some(Box::new(FaultyLock {
            fs: self.clone(),
            life,
        })))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let world = self.world();
        Ok(match (world.no_room, world.capacity) {
            (true, _) => 0,
            (false, Some(most)) => most.saturating_sub(world.used()),
            (false, None) => u64::MAX,
        })
    }
}
