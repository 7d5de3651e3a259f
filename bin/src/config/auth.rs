//! Who may connect and what they may do: `[auth]`, `[[acl]]`, and what a listener says of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use forebay_broker::auth::{DenyAction, FileFault, FileRules, ListenerFiles, Pattern, Rule, Users, Whom};
use forebay_broker::config::Config;

use super::fault::Faults;
use super::reader::Section;
use super::value::Table;

const JWT_HINT: &str = "leave it out; users stand in a password file";

/// What `[auth]` says for all listeners that say nothing themselves.
pub struct Auth {
    /// Whether clients without a user name are let in; `None` when there is no such section.
    pub anonymous: Option<bool>,
    files: ListenerFiles,
    /// What clients may do.
    pub rules: Vec<Rule>,
    /// What becomes of a client that does something else.
    pub deny_action: DenyAction,
}

/// What holds for one listener.
pub struct Access {
    /// Whether clients without a user name are let in.
    pub allow_anonymous: bool,
    /// Without a word on it, only this machine: nothing is open to a network by accident.
    pub loopback_only: bool,
    /// Its files.
    pub files: ListenerFiles,
}

/// Reads `[auth]`.
pub fn read(root: &Section<'_>) -> Auth {
    let auth = root.section("auth");
    let anonymous = auth.flag("allow_anonymous");
    let jwt = auth.section("jwt");
    for key in ["keys", "jwks", "algorithms", "audience", "identity"] {
        jwt.not_built(key, JWT_HINT);
    }
    Auth {
        anonymous: auth.is_given().then_some(anonymous),
        files: ListenerFiles {
            password_file: path(&auth, "password_file"),
            acl_file: path(&auth, "acl_file"),
        },
        rules: root.sections("acl").iter().filter_map(read_rule).collect(),
        deny_action: auth.choice(
            "deny_action",
            &[
                ("ignore", DenyAction::Ignore),
                ("disconnect", DenyAction::Disconnect),
            ],
        ),
    }
}

impl Auth {
    /// Reads what the listener `name` says itself.
    pub fn of_listener(&self, section: &Section<'_>, name: &str) -> Access {
        let own = section.optional_flag("allow_anonymous");
        let password_file = path(section, "password_file").or_else(|| self.files.password_file.clone());
        let acl_file = path(section, "acl_file").or_else(|| self.files.acl_file.clone());
        let access = Access {
            allow_anonymous: own.or(self.anonymous).unwrap_or(password_file.is_none()),
            loopback_only: own.is_none() && self.anonymous.is_none() && password_file.is_none(),
            files: ListenerFiles {
                password_file,
                acl_file,
            },
        };
        if !access.allow_anonymous && access.files.password_file.is_none() {
            let key = if own.is_some() { "allow_anonymous" } else { "" };
            section.fault(
                key,
                format!("no client could connect to listener {name}: it takes none without a user name, and there is no password file"),
                "set `password_file`, or `allow_anonymous = true`, in [auth] or in the listener; or leave [auth] out to let this machine alone connect",
            );
        }
        access
    }
}

fn path(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    Some(PathBuf::from(section.optional_text(key)?))
}

const WHO: &str = "\"user:NAME\", \"client:ID\" or \"anonymous\", or a list of these; without it, everyone";

fn whom(text: &str) -> Option<Whom> {
    match text.split_once(':') {
        Some(("user", name)) if !name.is_empty() => Some(Whom::User(name.into())),
        Some(("client", id)) if !id.is_empty() => Some(Whom::Client(id.into())),
        None if text == "anonymous" => Some(Whom::Anonymous),
        _ => None,
    }
}

/// Whom one `[[acl]]` is about; none when that is faulty. Nobody is not everyone: a name that a script left empty must not
/// open anything.
fn read_who(section: &Section<'_>) -> Option<Vec<Whom>> {
    if !section.has("who") {
        return Some(Vec::new());
    }
    let names = section.text_or_list("who");
    if names.is_empty() {
        let text = format!("`{}` is empty", section.name("who"));
        section.fault("who", text, format!("say {WHO}"));
        return None;
    }
    let who = names.iter().map(|name| {
        let known = whom(name);
        if known.is_none() {
            section.fault(
                "who",
                format!("`{}` must be {WHO}, not \"{name}\"", section.name("who")),
                "",
            );
        }
        known
    });
    who.collect()
}

/// One `[[acl]]`; none when it is faulty.
fn read_rule(section: &Section<'_>) -> Option<Rule> {
    let who = read_who(section);
    let may = section.parsed_list(
        "may",
        "a list of \"publish\" and \"subscribe\", at least one",
        |acts| {
            let known = |act: &String| act == "publish" || act == "subscribe";
            (!acts.is_empty() && acts.iter().all(known)).then(|| acts.to_vec())
        },
    );
    let allow = section.flag("allow");
    let on = section.required_text(
        "on",
        "name the topics by a filter, such as \"devices/{client_id}/#\"",
    );
    if on.is_empty() && !section.has("on") {
        return None;
    }
    let pattern = Pattern::of_rule(&on).inspect_err(|error| {
        section.fault(
            "on",
            error.to_string(),
            "write a filter as clients subscribe with",
        )
    });
    let may = may?;
    Some(Rule {
        who: who?,
        publish: may.iter().any(|act| act == "publish"),
        subscribe: may.iter().any(|act| act == "subscribe"),
        on: pattern.ok()?,
        allow,
    })
}

/// Reads the files that are named, to find what is wrong with them; each once.
pub fn add_file_faults(config: &Config, given: &Table, faults: &Faults) {
    let mut seen = HashSet::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let mut check = |key: &str, path: &Option<PathBuf>, load: &dyn Fn(&Path) -> Vec<FileFault>| {
            let new = |path: &&PathBuf| seen.insert((key.to_owned(), (*path).clone()));
            let Some(path) = path.as_ref().filter(new) else {
                return;
            };
            let place = given
                .list_item("listener", index)
                .and_then(|own| own.get(key))
                .map_or_else(
                    || given.place_of(&format!("auth.{key}")),
                    |node| node.place.clone(),
                );
            for fault in load(path) {
                let line = fault.line.map_or_else(String::new, |line| format!(":{line}"));
                let text = format!("{}{line}: {}", fault.file.display(), fault.text);
                faults.add(&place, text, fault.hint);
            }
        };
        let files = &listener.files;
        check("password_file", &files.password_file, &|path| {
            Users::load(path).err().unwrap_or_default()
        });
        check("acl_file", &files.acl_file, &|path| {
            FileRules::load(path).err().unwrap_or_default()
        });
    }
}

/// What is fit and yet hardly meant: rules on users where a user name proves nothing.
pub fn add_notices(config: &Config, with_files: bool, notices: &mut Vec<String>) {
    for listener in &config.listeners {
        let acl_file = listener.files.acl_file.as_ref().filter(|_| with_files);
        let names_users = |path: &PathBuf| FileRules::load(path).is_ok_and(|rules| rules.names_users());
        if listener.files.password_file.is_none()
            && (config.acl.iter().any(Rule::names_user) || acl_file.is_some_and(names_users))
        {
            notices.push(format!(
                "listener {}: rules on users hold for whoever says so, since there is no password_file to prove a user name",
                listener.name
            ));
        }
    }
}
