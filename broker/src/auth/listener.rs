//! Users from password files and rules from the configuration and acl_files, for each listener its own or the same
//! ones; read again when asked to.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::acl::{AnyOf, Live, Rule, Rules};
use super::file::FileFault;
use super::password::Stored;
use super::pool::Pool;
use super::users::Users;
use super::verified::Verified;
use super::{Answer, Authenticator, Origin, Principal, Verdict, by_listener};
use crate::codec::{Connect, Reason};
use crate::config::Config;

/// Bytes of a password: many of them wait at a time, from clients that nobody knows yet.
pub const MOST_PASSWORD_BYTES: usize = 4096;

/// The files of one listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerFiles {
    /// Who may connect by a password. Without it a user name proves nothing.
    pub password_file: Option<PathBuf>,
    /// What they may do, in Mosquitto's format; it is asked after the rules of [`Config::acl`].
    pub acl_file: Option<PathBuf>,
}

/// Why it can't start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Files are not as they must be.
    #[error("{}", .0.iter().map(FileFault::to_string).collect::<Vec<_>>().join("; "))]
    Files(Vec<FileFault>),
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(#[from] io::Error),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// One password file, as it was read last.
struct Loaded {
    path: PathBuf,
    users: ArcSwap<Users>,
}

/// What one listener lets in, and lets do.
struct Access {
    users: Option<Arc<Loaded>>,
    rules: Option<Arc<Live>>,
}

/// Decides by password files and rules.
pub struct FileAuth {
    /// By index of the listener.
    listeners: Vec<Access>,
    users: HashMap<PathBuf, Arc<Loaded>>,
    /// By acl_file, or none.
    rules: HashMap<Option<PathBuf>, Arc<Live>>,
    verified: Arc<Verified>,
    pool: Pool,
}

/// `key`'s value; made once, unless that fails.
fn once<K: Hash + Eq + Clone, T>(
    known: &mut HashMap<K, Arc<T>>,
    key: &K,
    faults: &mut Vec<FileFault>,
    load: impl FnOnce() -> Result<T, Vec<FileFault>>,
) -> Option<Arc<T>> {
    if let Some(value) = known.get(key) {
        return Some(value.clone());
    }
    match load() {
        Ok(value) => Some(known.entry(key.clone()).or_insert(Arc::new(value)).clone()),
        Err(found) => {
            faults.extend(found);
            None
        }
    }
}

impl FileAuth {
    /// Reads the files of `config`'s listeners. `threads`: how many check passwords.
    pub fn load(config: &Config, threads: usize) -> Result<Self, LoadError> {
        let (mut users, mut rules, mut faults) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut listeners = Vec::new();
        for files in config.listeners.iter().map(|listener| &listener.files) {
            let path = files.password_file.as_ref();
            let own_users = path.and_then(|path| {
                once(&mut users, path, &mut faults, || {
                    Ok(Loaded {
                        path: path.clone(),
                        users: ArcSwap::from_pointee(Users::load(path)?),
                    })
                })
            });
            let own_rules = once(&mut rules, &files.acl_file, &mut faults, || {
                Live::load(&config.acl, files.acl_file.clone())
            });
            listeners.push(Access {
                users: own_users,
                rules: own_rules,
            });
        }
        if !faults.is_empty() {
            return Err(LoadError::Files(faults));
        }
        Ok(Self {
            listeners,
            users,
            rules,
            verified: Arc::new(Verified::new()?),
            pool: Pool::new(threads)?,
        })
    }

    /// Reads the files again, and takes `rules`, if any are given, in place of [`Config::acl`]. A file that is not as it must
    /// be stays as it was; what is wrong with it is returned. What the rules say now holds for clients that are connected
    /// too, but for those that came when there were none at all: these have no rules until they connect again.
    pub fn reload(&self, rules: Option<&[Rule]>) -> Vec<FileFault> {
        let mut faults = Vec::new();
        for file in self.users.values() {
            match Users::load(&file.path) {
                Ok(users) => file.users.store(Arc::new(users)),
                Err(found) => faults.extend(found),
            }
        }
        for live in self.rules.values() {
            faults.extend(live.reload(rules).err().unwrap_or_default());
        }
        faults
    }

    /// Whether clients of some listener may do everything, since nothing is said.
    pub fn has_open_listeners(&self) -> bool {
        self.rules.values().any(|rules| rules.is_empty())
    }

    /// Whether `password` is the user's: at once where it is known or cheap, else by the pool.
    fn check(&self, users: &Users, name: &str, password: Option<&[u8]>) -> Answer<Verdict> {
        if password.is_some_and(|password| password.len() > MOST_PASSWORD_BYTES) {
            return Answer::Now(verdict(name.to_owned(), false));
        }
        let (stored, known) = users.find(name);
        // Mosquitto lets nobody in with an empty password, whatever the file says: an account may be closed by it.
        let may = known && password.is_some_and(|password| !password.is_empty());
        let password = password.unwrap_or_default();
        let tag = self.verified.tag(name, password, stored);
        let name = name.to_owned();
        if may && self.verified.knows(&tag) {
            return Answer::Now(verdict(name, true));
        }
        let most = users.most_iterations();
        if most == 0 {
            let right = may & stored.verify(password);
            if right {
                self.verified.learn(tag);
            }
            return Answer::Now(verdict(name, right));
        }
        let (stored, password, verified) = (stored.clone(), password.to_vec(), self.verified.clone());
        let work = move || {
            let right = stored.verify(&password);
            let spare = most - stored.iterations().min(most);
            if spare > 0 {
                Stored::nobody(spare).verify(&password); // as long as the slowest user takes
            }
            if may & right {
                verified.learn(tag);
            }
            may & right
        };
        match self.pool.run(most, work) {
            Ok(waiting) => Answer::Later(Box::pin(async move {
                let right = waiting.await.ok_or(Reason::ServerUnavailable)?;
                verdict(name, right)
            })),
            Err(_) => Answer::Now(Err(Reason::ServerBusy)),
        }
    }
}

fn verdict(name: String, right: bool) -> Verdict {
    match right {
        true => Ok(Principal {
            username: Some(name),
            ..Principal::default()
        }),
        false => Err(Reason::BadUserNameOrPassword),
    }
}

/// With the rules that hold for it.
fn under(rules: Option<Arc<dyn Rules>>, verdict: Verdict) -> Verdict {
    verdict.map(|principal| Principal { rules, ..principal })
}

impl Authenticator for FileAuth {
    /// With a password file a user name that is given must be right, also where clients without one are let in.
    fn authenticate(&self, connect: &Connect<'_>, origin: Origin) -> Answer<Verdict> {
        let Some(access) = self.listeners.get(origin.listener) else {
            return Answer::Now(Err(Reason::ServerUnavailable));
        };
        // Who comes where nothing is said is never asked about: that costs nothing.
        let rules = access.rules.clone().filter(|rules| !rules.is_empty());
        let rules = rules.map(|rules| rules as Arc<dyn Rules>);
        let answer = match (&access.users, connect.username) {
            (Some(file), Some(name)) if origin.is_near_enough() => {
                self.check(&file.users.load(), name, connect.password)
            }
            _ => Answer::Now(by_listener(connect, origin)),
        };
        match answer {
            Answer::Now(verdict) => Answer::Now(under(rules, verdict)),
            Answer::Later(later) => Answer::Later(Box::pin(async move { under(rules, later.await) })),
        }
    }

    fn rules_of_kept(&self) -> Option<Arc<dyn Rules>> {
        if self.has_open_listeners() {
            return None;
        }
        let each = self.rules.values().map(|rules| rules.clone() as Arc<dyn Rules>);
        Some(Arc::new(AnyOf(each.collect())))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::codec::{Properties, Version};
    use crate::config::ListenerConfig;

    const HASHES: &str = "\
alice:$7$101$eFtbN09P0tGbE5mq$iVdxnijnwpqvHNkpFDaCQp8/0TeB1S0UDH9/wSqpEAEXPVyUbWxh0JLeVchR/kwXMBCLPctNkzDqxmU/w2w5+A==
carol:$6$oTXWLDknf1Jdp2E7$mdPCsbfxbptWN5DHjQw/Oe6P+bWuUhoF3kzDMHLnc9SMYS4PRilFbkC+kb0NCZvIjsOg58aAjL0SlqwMywwM4g==
closed:$7$101$ARcL3XY27VayjBIy$tyrNuKA9GmrCEeHV0ETYSaQYrHlAl6OKgYloDdmNDqmZKd5/9K1U6C+NpWHvmioKx386gmJbF3Plgui7Ip6YpA==
";

    #[test]
    fn a_kept_will_may_go_where_one_of_the_listeners_lets_it() {
        let files = ["a", "b"].map(|topic| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("topic {topic}\n")).unwrap();
            file
        });
        let mut config = Config {
            listeners: vec![ListenerConfig::default(); 2],
            ..Config::default()
        };
        for (listener, file) in config.listeners.iter_mut().zip(&files) {
            listener.files.acl_file = Some(file.path().to_owned());
        }
        let who = crate::auth::Who {
            client_id: "c",
            username: None,
        };
        let rules = FileAuth::load(&config, 1).unwrap().rules_of_kept().unwrap();
        assert!(rules.may_publish(who, "a") && rules.may_publish(who, "b"));
        assert!(!rules.may_publish(who, "c"));
        config.listeners.push(ListenerConfig::default());
        assert!(FileAuth::load(&config, 1).unwrap().rules_of_kept().is_none());
    }

    #[tokio::test]
    async fn only_a_pair_that_was_right_before_is_answered_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), HASHES).unwrap();
        let mut listener = ListenerConfig::default();
        listener.files.password_file = Some(file.path().to_owned());
        let config = Config {
            listeners: vec![listener],
            ..Config::default()
        };
        let auth = FileAuth::load(&config, 1).unwrap();
        let origin = Origin {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener: 0,
            allow_anonymous: false,
            loopback_only: false,
        };
        let ask = |username, password: &'static [u8]| {
            let connect = Connect {
                version: Version::V5,
                bridge: false,
                clean_start: true,
                keep_alive_s: 0,
                client_id: "c",
                will: None,
                username: Some(username),
                password: Some(password),
                properties: Properties::EMPTY,
            };
            auth.authenticate(&connect, origin)
        };
        for (username, password, right) in [
            ("alice", b"secret one".as_slice(), true),
            ("carol", b"geheim", true),
            ("alice", b"geheim", false),
            ("carol", b"secret one", false),
            ("eve", b"geheim", false),
            ("closed", b"", false), // its hash is that of the empty password
        ] {
            for round in 0..3 {
                let answer = ask(username, password);
                let at_once = matches!(answer, Answer::Now(_));
                // Whether a user is there must not be told by how an answer comes.
                assert_eq!(at_once, right && round > 0, "{username} {round}");
                assert_eq!(answer.wait().await.is_ok(), right, "{username} {round}");
            }
        }
        let answer = ask("alice", &[b'x'; MOST_PASSWORD_BYTES + 1]);
        assert!(matches!(answer, Answer::Now(Err(Reason::BadUserNameOrPassword))));
    }
}
