//! A consumer that is gone for good is forgotten, so that the spool keeps nothing for it any more.

use std::path::Path;

use super::cursor;
use super::fs::{Fs, RealFs};
use super::open::OpenError;

/// Deletes the cursor of the consumer `name` in the spool in `dir`, which no process may have open. What it alone has
/// not done with is released at the next start.
pub fn forget(dir: &Path, name: &str) -> Result<(), OpenError> {
    forget_on(dir, name, &RealFs)
}

pub(super) fn forget_on(dir: &Path, name: &str, fs: &dyn Fs) -> Result<(), OpenError> {
    let path = dir.join("lock");
    let lock = fs.lock(&path).map_err(OpenError::io(&path))?;
    let _lock = lock.ok_or(OpenError::Locked { path })?;
    let path = cursor::path(dir, name);
    fs.remove(&path).map_err(OpenError::io(&path))?;
    fs.sync_dir(dir).map_err(OpenError::io(dir))
}
