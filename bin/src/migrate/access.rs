//! Who may connect and what they may do: files of users and rules, for all listeners or for each its own.

use std::collections::HashSet;
use std::path::Path;

use forebay_broker::auth::{FileFault, FileRules, Users};

use super::Note;
use super::document::Block;
use super::listener::{leave, local_only};
use super::read::{Conf, Listener, Setting};
use super::value::{flag, quoted};

/// The files.
const FILES: [&str; 2] = ["password_file", "acl_file"];

/// Settings by which Mosquitto decides what Forebay does not.
const DECIDE: [&str; 3] = ["plugin", "auth_plugin", "clientid_prefixes"];

fn word(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// `[auth]` where users and rules are the whole broker's.
pub fn auth(conf: &Conf, notes: &mut Vec<Note>) -> Block {
    let given = conf.get("allow_anonymous");
    let anonymous = given.and_then(|setting| flag(&setting.value));
    let files = FILES.map(|key| (key, conf.get(key)));
    let any_file = files.iter().find_map(|(_, setting)| *setting);
    let local_only = local_only(conf);
    let mut block = Block::new("[auth]", given.or(any_file).map(|setting| &setting.origin));
    if local_only && anonymous.is_none() && any_file.is_none() {
        return block;
    }
    let anonymous = anonymous.unwrap_or(local_only);
    let origin = given.map(|setting| &setting.origin);
    block.bind("allow_anonymous", word(anonymous), origin);
    for (key, setting) in files {
        if let Some(setting) = setting {
            block.bind(key, &quoted(&setting.value), Some(&setting.origin));
        }
    }
    const LOCAL: &str = "until then only clients on this machine may connect";
    let decides = |setting: &&Setting| DECIDE.contains(&setting.key.as_str());
    if let Some(setting) = conf.global.iter().find(decides) {
        let why = format!(
            "{} decides who may connect, and is not carried over; {LOCAL}",
            setting.key
        );
        block.take_out(&why);
        notes.push(Note {
            origin: Some(setting.origin.clone()),
            text: why,
            hint: "say in [auth] who may".to_owned(),
        });
    } else if !anonymous && conf.get("password_file").is_none() {
        let why = format!("No anonymous clients and no password file: nobody could connect; {LOCAL}");
        block.take_out(&why);
        notes.push(Note {
            origin: origin.cloned(),
            text: why,
            hint: "say in [auth] who may".to_owned(),
        });
    }
    block
}

/// Writes into a listener's `block` whom it lets in.
pub fn of_listener(listener: &Listener, conf: &Conf, block: &mut Block, notes: &mut Vec<Note>) {
    let any = |begin: &str| {
        listener
            .settings
            .iter()
            .find(|setting| setting.key.starts_with(begin))
    };
    if let Some(setting) = any("auth_plugin").or_else(|| any("plugin")) {
        let hint = "put users and rules into files, name them in the listener, then take the `#` away";
        return leave(
            block,
            Some(setting),
            "a plugin decides who may connect, and plugins can't be loaded",
            hint,
            notes,
        );
    }
    if has_own_rules(conf) {
        own(listener, conf, block, notes);
    } else if let Some(setting) = listener.get("listener_allow_anonymous") {
        // The one key that a listener has for itself even so. What else decides may not be carried over.
        let anonymous = flag(&setting.value) == Some(true);
        if anonymous && DECIDE.iter().any(|key| conf.get(key).is_some()) {
            let hint = "say in [auth] who may connect, then take the `#` away";
            return leave(
                block,
                Some(setting),
                "plugins decide who may do what here",
                hint,
                notes,
            );
        }
        block.bind("allow_anonymous", word(anonymous), Some(&setting.origin));
        // Here too, so that they hold if [auth] is left out.
        for setting in FILES.iter().filter_map(|key| conf.get(key)) {
            block.bind(&setting.key, &quoted(&setting.value), Some(&setting.origin));
        }
    }
}

/// Whether listeners have users and rules of their own.
pub fn has_own_rules(conf: &Conf) -> bool {
    conf.get("per_listener_settings")
        .is_some_and(|setting| flag(&setting.value) == Some(true))
}

/// Who may connect where listeners have rules of their own.
fn own(listener: &Listener, conf: &Conf, block: &mut Block, notes: &mut Vec<Note>) {
    let given = listener
        .get("listener_allow_anonymous")
        .or_else(|| listener.get("allow_anonymous"));
    let anonymous = given
        .and_then(|setting| flag(&setting.value))
        .unwrap_or(local_only(conf));
    if !anonymous && listener.get("password_file").is_none() {
        let why = "nobody may connect here: no anonymous clients, no password file";
        return leave(block, given.or(listener.begin.as_ref()), why, "", notes);
    }
    let at = given
        .or(listener.get("password_file"))
        .or(listener.begin.as_ref());
    block.bind(
        "allow_anonymous",
        word(anonymous),
        at.map(|setting| &setting.origin),
    );
    for setting in FILES.iter().filter_map(|key| listener.get(key)) {
        block.bind(&setting.key, &quoted(&setting.value), Some(&setting.origin));
    }
}

/// What is wrong with the files, as far as they can be read here. They are named all the same: a start refuses them.
pub fn file_notes(conf: &Conf, notes: &mut Vec<Note>) {
    let listeners = std::iter::once(&conf.default_listener).chain(&conf.listeners);
    let all = conf
        .global
        .iter()
        .chain(listeners.flat_map(|listener| &listener.settings));
    let mut seen = HashSet::new();
    for setting in all.filter(|setting| seen.insert((&setting.key, &setting.value))) {
        let path = Path::new(&setting.value);
        let faults = match setting.key.as_str() {
            "password_file" => Users::load(path).err(),
            "acl_file" => FileRules::load(path).err(),
            _ => None,
        };
        notes.extend(faults.into_iter().flatten().map(|fault| of_fault(setting, fault)));
    }
}

fn of_fault(setting: &Setting, fault: FileFault) -> Note {
    let line = fault.line.map_or_else(String::new, |line| format!(":{line}"));
    Note {
        origin: Some(setting.origin.clone()),
        text: format!(
            "{} {}{line}: {}; `forebay check` refuses it as it is",
            setting.key,
            fault.file.display(),
            fault.text
        ),
        hint: fault.hint,
    }
}
