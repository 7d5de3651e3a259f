//! `forebay spool inspect | dump | drain | forget`: the spool of a node, from outside.

mod drain;
mod dump;
mod forget;
mod inspect;

use std::path::{Path, PathBuf};

pub use drain::drain;
pub use dump::dump;
pub use forget::forget;
pub use inspect::inspect;

use forebay_broker::spool::OpenError;

use crate::exit::{self, Coded};

/// The spool's folder: `dir` itself, or the one in a data directory.
fn folder(dir: &Path) -> Result<PathBuf, Coded> {
    let within = dir.join("spool");
    let folder = if within.is_dir() { within } else { dir.to_owned() };
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Coded {
        text: format!(
            "there is no spool in {}\n    hint: name the node's data directory (node.data_dir)",
            dir.display()
        ),
        code: exit::FAILED,
    })
}

/// A spool that can't be opened.
fn closed(error: &OpenError) -> Coded {
    Coded {
        text: format!("the spool can't be opened: {error}"),
        code: exit::IO,
    }
}
