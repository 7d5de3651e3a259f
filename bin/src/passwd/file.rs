//! The password file on disk: held while it is changed, and replaced whole or not at all.

use std::fs::{File, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A new file is for its owner alone.
const MODE: u32 = 0o600;

/// Links that are followed one after the other, as Linux does.
const MOST_LINKS: usize = 40;

/// Where a file is to be made that is not there: a link to it goes on naming it.
fn behind_links(path: &Path) -> anyhow::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = at.read_link() else { return Ok(at) };
        at.pop();
        at.push(target);
    }
    bail!("{}: a link that leads to no file", path.display())
}

/// A file that no other `forebay passwd` changes meanwhile.
pub struct Held {
    /// Where it stands, links followed: a link goes on naming the file.
    path: PathBuf,
    /// What is there now; its lock goes with it.
    before: Option<File>,
    text: String,
}

impl Held {
    /// Reads the file that is there.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let real = path.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("there is no file {name}: -c makes one"),
            _ => anyhow::Error::new(error).context(format!("{name} can't be read")),
        })?;
        let mut held = Self::lock(real)?;
        let mut text = String::new();
        let mut file = held.before.as_ref().context("the file is open")?;
        file.read_to_string(&mut text)
            .with_context(|| format!("{name} can't be read"))?;
        held.text = text;
        Ok(held)
    }

    /// Begins a new file, in the place of one that may be there.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        match path.canonicalize() {
            Ok(real) => Self::lock(real),
            Err(_) => Ok(Self {
                path: behind_links(path)?,
                before: None,
                text: String::new(),
            }),
        }
    }

    fn lock(path: PathBuf) -> anyhow::Result<Self> {
        let name = path.display();
        let file = File::open(&path).with_context(|| format!("{name} can't be read"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{name} is being changed by another command: try again"),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{name} can't be locked"));
            }
        }
        let (ours, named) = (file.metadata()?, path.metadata()?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            bail!("{name} is being changed by another command: try again");
        }
        if !ours.is_file() {
            bail!("{name} is not a file");
        }
        Ok(Self {
            path,
            before: Some(file),
            text: String::new(),
        })
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts `text` in its place. Who may read the old one may read the new one: the broker often runs as another user than
    /// the one who changes passwords.
    pub fn replace(self, text: &str) -> anyhow::Result<()> {
        let name = self.path.display();
        let folder = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let cant = || format!("{name} can't be written");
        let mut new = tempfile::Builder::new()
            .prefix(".passwd-")
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(folder)
            .with_context(cant)?;
        new.write_all(text.as_bytes()).with_context(cant)?;
        if let Some(before) = &self.before {
            let before = before.metadata()?;
            let own = new.as_file().metadata()?;
            if (before.uid(), before.gid()) != (own.uid(), own.gid()) {
                fchown(new.as_file(), Some(before.uid()), Some(before.gid())).with_context(|| {
                    format!("{name} can't be given to its owner again: run as root, or as its owner")
                })?;
            }
            let mode = before.permissions().mode() & 0o777;
            new.as_file().set_permissions(Permissions::from_mode(mode))?;
            if mode & 0o007 != 0 {
                // When not even standard error can be written to, the file still is.
                let _ = writeln!(
                    std::io::stderr(),
                    "{name} may be read by everybody on this machine: chmod o= {name}"
                );
            }
        }
        new.as_file().sync_all().with_context(cant)?;
        new.persist(&self.path).with_context(cant)?;
        File::open(folder)?.sync_all().with_context(cant)
    }
}
