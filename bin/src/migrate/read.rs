//! Reads mosquitto.conf and the files of its include_dir into settings, each with its place and what it belongs to.

use std::io;
use std::path::{Path, PathBuf};

use super::Origin;

/// Greatest file that is read: a configuration is small, and this may be pointed at anything.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One line that sets something.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// All that follows it.
    pub value: String,
    /// Its place.
    pub origin: Origin,
}

/// A `listener` line, or the default listener, with what is set for it.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// The `listener` line; the default listener has none.
    pub begin: Option<Setting>,
    /// The settings after it.
    pub settings: Vec<Setting>,
}

/// A `connection` line with what is set for it.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// The `connection` line.
    pub begin: Setting,
    /// The settings after it.
    pub settings: Vec<Setting>,
}

/// The whole configuration.
#[derive(Debug, Clone, Default)]
pub struct Conf {
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// What is set for the broker as a whole.
    pub global: Vec<Setting>,
    /// What is set for the default listener.
    pub default_listener: Listener,
    /// The others.
    pub listeners: Vec<Listener>,
    /// The bridges.
    pub bridges: Vec<Bridge>,
    /// Keys that mosquitto.conf does not have.
    pub unknown: Vec<Setting>,
}

/// A file that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", file.display())]
pub struct Unreadable {
    /// The file or folder.
    pub file: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// Reads `file` and what it includes.
pub fn read(file: &Path) -> Result<Conf, Unreadable> {
    let mut conf = Conf::default();
    read_file(file, true, &mut conf)?;
    Ok(conf)
}

/// Where the settings of a file go; each file begins with the default listener.
#[derive(Clone, Copy)]
enum Within {
    Default,
    Listener,
}

fn read_file(file: &Path, main: bool, conf: &mut Conf) -> Result<(), Unreadable> {
    let unreadable = |error| Unreadable {
        file: file.to_owned(),
        error,
    };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other("too large for a configuration")));
    }
    let bytes = std::fs::read(file).map_err(unreadable)?;
    conf.files.push(file.to_owned());
    let mut within = Within::Default;
    for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let setting = Setting {
            key: key.to_owned(),
            value: value.trim().to_owned(),
            origin: Origin {
                file: file.to_owned(),
                line: number + 1,
            },
        };
        if key == "include_dir" && main {
            for included in folder(file, &setting.value)? {
                read_file(&included, false, conf)?;
            }
        } else {
            within = put(setting, within, conf);
        }
    }
    Ok(())
}

fn put(setting: Setting, within: Within, conf: &mut Conf) -> Within {
    use super::keys::Scope;
    match setting.key.as_str() {
        "listener" => {
            conf.listeners.push(Listener {
                begin: Some(setting),
                settings: Vec::new(),
            });
            return Within::Listener;
        }
        "connection" => {
            conf.bridges.push(Bridge {
                begin: setting,
                settings: Vec::new(),
            });
            return within;
        }
        // Older than `listener`: these are the default listener's wherever they stand.
        "port" | "bind_address" => {
            conf.default_listener.settings.push(setting);
            return within;
        }
        _ => {}
    }
    let Some(key) = super::keys::find(&setting.key) else {
        conf.unknown.push(setting);
        return within;
    };
    let per_listener = super::access::has_own_rules(conf);
    let to = match key.scope {
        Scope::Global => &mut conf.global,
        Scope::Security if !per_listener => &mut conf.global,
        Scope::Bridge => match conf.bridges.last_mut() {
            Some(bridge) => &mut bridge.settings,
            None => &mut conf.unknown,
        },
        Scope::Listener | Scope::Security => match (within, conf.listeners.last_mut()) {
            (Within::Listener, Some(listener)) => &mut listener.settings,
            _ => &mut conf.default_listener.settings,
        },
    };
    to.push(setting);
    within
}

/// The `.conf` files of a folder in the order in which Mosquitto reads them: upper case before lower case, letter by
/// letter. A relative folder counts from the place of Mosquitto's start, which can't be known: the file's is tried too.
fn folder(file: &Path, named: &str) -> Result<Vec<PathBuf>, Unreadable> {
    let named = PathBuf::from(named);
    let beside = file.parent().unwrap_or(Path::new("")).join(&named);
    let dir = if named.is_dir() { named } else { beside };
    let unreadable = |error| Unreadable {
        file: dir.clone(),
        error,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        // A file that is ".conf" and nothing else is hidden, not a configuration.
        if let Some(name) = name.filter(|name| name.len() > 5 && name.ends_with(".conf")) {
            found.push((name, path));
        }
    }
    found.sort_by_key(|(a, _)| in_order(a));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn in_order(name: &str) -> Vec<(char, bool)> {
    name.chars()
        .map(|c| (c.to_ascii_lowercase(), c.is_ascii_lowercase()))
        .collect()
}

impl Listener {
    /// The last value of `key`: a later one takes the place of an earlier.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| setting.key == key)
    }
}

impl Conf {
    /// The last value of a key of the whole broker.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.global.iter().rev().find(|setting| setting.key == key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn included_files_come_in_mosquittos_order_and_begin_anew() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        write(
            "main.conf",
            "# x\nlistener 1884\ninclude_dir conf.d\n  mount_point a/ \nfoo bar baz\n",
        );
        for name in [
            "b.conf", "A.conf", "01.conf", "a.conf", "B.conf", "00.conf", "no.txt", ".conf",
        ] {
            write(&format!("conf.d/{name}"), "sys_interval 3\nmax_connections 7\n");
        }
        let conf = read(&dir.path().join("main.conf")).unwrap();
        let names: Vec<String> = conf
            .files
            .iter()
            .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            names,
            [
                "main.conf",
                "00.conf",
                "01.conf",
                "A.conf",
                "a.conf",
                "B.conf",
                "b.conf"
            ]
        );
        // An included file's settings are the default listener's; the main file goes on where it was.
        assert_eq!(conf.default_listener.settings.len(), 6);
        let listener = conf.listeners.first().unwrap();
        assert_eq!(listener.get("mount_point").unwrap().value, "a/");
        let unknown = conf.unknown.first().unwrap();
        assert_eq!(
            (unknown.key.as_str(), unknown.value.as_str(), unknown.origin.line),
            ("foo", "bar baz", 5)
        );
    }

    #[test]
    fn a_missing_file_or_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.conf");
        assert_eq!(read(&file).unwrap_err().file, file);
        std::fs::write(&file, "include_dir nowhere\n").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("nowhere"));
    }
}
