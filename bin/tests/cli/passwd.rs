//! `passwd`: what becomes of the file, what is asked on a terminal, and that the broker takes what it wrote.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Stdio;

use forebay_broker::auth::Users;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::{Dir, Output, Running, finish};

impl Dir {
    fn users(&self) -> PathBuf {
        self.0.path().join("users")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.users()).unwrap()
    }

    /// With lines for the questions.
    fn passwd(&self, arguments: &[&str], input: &str) -> Output {
        let path = self.0.path().join("input");
        std::fs::write(&path, input).unwrap();
        let all = [&["passwd"], arguments].concat();
        finish(self.command(&all).stdin(File::open(path).unwrap()))
    }

    fn done(&self, arguments: &[&str]) {
        let output = self.passwd(arguments, "");
        assert_eq!(output.code, 0, "{arguments:?}: {}", output.err);
    }
}

#[test]
fn a_file_is_made_changed_and_read_by_the_broker() {
    let dir = Dir::new();
    dir.done(&["-c", "-b", "users", "ann", "-first one"]);
    assert_eq!(dir.users().metadata().unwrap().mode() & 0o777, 0o600);
    assert!(dir.said().starts_with("ann:$7$101$"), "{}", dir.said());
    let ann = dir.said();
    let asked = dir.passwd(&["users", "bob"], "seçret\nseçret\n");
    assert_eq!(asked.code, 0, "{}", asked.err);
    assert_eq!(asked.out, "");
    dir.done(&["-H", "sha512", "-b", "users", "carol", "geheim"]);
    dir.done(&["-I", "7", "-b", "users", "dora", "d"]);
    assert!(dir.said().starts_with(&ann), "who is not named stays");
    assert!(dir.said().contains("\ncarol:$6$") && dir.said().contains("\ndora:$7$7$"));
    assert_eq!(Users::load(&dir.users()).unwrap().len(), 4);
    dir.done(&["-b", "users", "ann", "second"]);
    dir.done(&["-D", "users", "dora"]);

    let config = "[auth]\npassword_file = \"users\"\n";
    let running = Running::start(&dir, config);
    let port = running.mqtt.rsplit(':').next().unwrap();
    for (user, password, code) in [
        ("ann", "second", 0),
        ("ann", "-first one", 4),
        ("bob", "seçret", 0),
        ("carol", "geheim", 0),
        ("dora", "d", 4),
    ] {
        let publish = dir.run(&[
            "pub",
            "-h",
            "127.0.0.1",
            "-p",
            port,
            "-t",
            "t",
            "-m",
            "m",
            "-u",
            user,
            "-P",
            password,
        ]);
        assert_eq!(publish.code, code, "{user} {password}: {}", publish.err);
    }
}

#[test]
fn what_can_not_be_done_changes_nothing_and_says_why() {
    let dir = Dir::new();
    let none = dir.passwd(&["users", "ann"], "x\nx\n");
    assert!(
        none.code == 1 && none.err.contains("-c makes one") && !none.err.contains("Password:"),
        "{}",
        none.err
    );
    std::fs::write(dir.users(), "# mine\nann:plain\nnot a line\n").unwrap();
    let before = dir.said();
    let long = "x".repeat(4097);
    for (arguments, input, word) in [
        (&["users", "bob"][..], "one\ntwo\n", "not the same"),
        (&["users", "bob"], "\n\n", "is empty"),
        (&["users", "bob"], "", "is empty"),
        (&["-b", "users", "bob", ""], "", "is empty"),
        (&["-b", "users", "a:b", "x"], "", "`:`"),
        (&["-b", "users", "bob", &long], "", "4096"),
        (&["-D", "users", "bob"], "", "no user bob"),
        (&["-U", "users"], "", "users:3: a line is NAME:PASSWORD"),
        (&["-b", ".", "bob", "x"], "", "is not a file"),
        (&["-c", "-b", "no/users", "bob", "x"], "", "can't be written"),
    ] {
        let output = dir.passwd(arguments, input);
        assert_eq!(output.code, 1, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(word), "{arguments:?}: {}", output.err);
        assert_eq!(dir.said(), before, "{arguments:?}");
    }
    let held = File::open(dir.users()).unwrap();
    held.lock().unwrap();
    let busy = dir.passwd(&["-D", "users", "ann"], "");
    assert!(
        busy.code == 1 && busy.err.contains("another command"),
        "{}",
        busy.err
    );
}

#[test]
fn a_file_in_plain_text_is_hashed_and_keeps_its_mode_and_its_link() {
    let dir = Dir::new();
    let real = dir.0.path().join("real");
    std::fs::write(&real, "# mine\nann:one\nbob: two words \n").unwrap();
    std::fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink("real", dir.users()).unwrap();
    dir.done(&["-U", "users"]);
    let once = dir.said();
    dir.done(&["-U", "users"]);
    assert_eq!(dir.said(), once, "no hash is hashed");
    assert!(once.starts_with("# mine\nann:$7$"), "{once}");
    assert_eq!(Users::load(&real).unwrap().len(), 2);
    assert_eq!(real.metadata().unwrap().mode() & 0o777, 0o640);
    assert!(dir.users().symlink_metadata().unwrap().is_symlink());
    let left: Vec<_> = std::fs::read_dir(dir.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("passwd"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_names_the_one_that_is_made() {
    let dir = Dir::new();
    let root = dir.0.path();
    std::fs::create_dir(root.join("secret")).unwrap();
    symlink("next", dir.users()).unwrap();
    symlink(root.join("secret/users"), root.join("next")).unwrap();
    dir.done(&["-c", "-b", "users", "ann", "x"]);
    assert!(dir.users().symlink_metadata().unwrap().is_symlink());
    assert_eq!(Users::load(&root.join("secret/users")).unwrap().len(), 1);
    for (target, word) in [
        ("nowhere/users", "can't be written"),
        ("loop", "leads to no file"),
    ] {
        let link = root.join("loop");
        symlink(target, &link).unwrap();
        let output = dir.passwd(&["-c", "-b", "loop", "ann", "x"], "");
        assert!(output.code == 1 && output.err.contains(word), "{}", output.err);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        std::fs::remove_file(link).unwrap();
    }
}

#[test]
fn a_terminal_does_not_show_the_password_and_is_as_before_afterwards() {
    let dir = Dir::new();
    for (keys, signal, code) in [
        ("geheim\ngeheim\n", None, 0),
        ("geh\x03", None, 1),
        ("geh", Some(Signal::TERM), 128 + 15),
        ("geh", Some(Signal::INT), 128 + 2),
        ("geh", Some(Signal::HUP), 128 + 1),
        ("geh", Some(Signal::QUIT), 128 + 3),
    ] {
        let mut terminal = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options.open(name.to_str().unwrap()).unwrap()
        };
        let seen = open();
        let before = rustix::termios::tcgetattr(&seen).unwrap();
        let mut child = dir
            .command(&["passwd", "-c", "users", "ann"])
            .stdin(open())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = child.stderr.take().unwrap();
        let mut question = [0; 9];
        said.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"Password:");
        terminal.write_all(keys.as_bytes()).unwrap();
        if let Some(signal) = signal {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rest}");
        let after = rustix::termios::tcgetattr(&seen).unwrap();
        assert_eq!(after.local_modes, before.local_modes);
        // Whatever the terminal showed is there to be read by now; this comes behind it.
        (&seen).write_all(b"end\n").unwrap();
        let mut shown = Vec::new();
        while !shown.ends_with(b"end\r\n") {
            let mut byte = [0];
            terminal.read_exact(&mut byte).unwrap();
            shown.push(byte[0]);
        }
        assert_eq!(String::from_utf8(shown).unwrap(), "end\r\n");
    }
    assert_eq!(Users::load(&dir.users()).unwrap().len(), 1);
}
