//! Password files between the two: what `forebay passwd` writes, Mosquitto's broker and mosquitto_passwd take, and the
//! other way round. Where Mosquitto's broker is not installed (its Debian package is `mosquitto`, which `make setup` leaves
//! out: it would take port 1883), there is nothing to ask.

use std::net::TcpListener;
use std::time::Duration;

use crate::args;
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::process::{self, Process};
use crate::support::tools::mosquitto_pub;
use crate::support::wait_for;

const WITHIN: Duration = Duration::from_secs(30);

/// Where Debian puts it; on the path of few users.
const MOSQUITTO: &str = "/usr/sbin/mosquitto";

#[test]
fn a_password_file_goes_both_ways() {
    if !std::path::Path::new(MOSQUITTO).exists() {
        eprintln!("not shown here: {MOSQUITTO} is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users").display().to_string();
    let run = |program: &str, arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let done = process::run(program, &arguments, "", WITHIN);
        assert_eq!(done.status, Some(0), "{program} {arguments:?}: {}", done.stderr);
    };
    let forebay = env!("CARGO_BIN_EXE_forebay");
    run(forebay, &["passwd", "-c", "-b", &users, "ann", "pässwörd"]);
    run("mosquitto_passwd", &["-b", &users, "bob", "by the other"]);
    run(forebay, &["passwd", "-H", "sha512", "-b", &users, "carol", "x:y"]);
    run("mosquitto_passwd", &["-b", &users, "dora", "soon gone"]);
    run(forebay, &["passwd", "-D", &users, "dora"]);
    run(forebay, &["passwd", "-I", "1000", "-b", &users, "bob", "by us"]);

    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let conf = dir.path().join("mosquitto.conf");
    // It gives root up unless told not to, and the file is for its owner alone.
    let text =
        format!("user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {users}\n");
    std::fs::write(&conf, text).unwrap();
    let theirs = Process::start(MOSQUITTO, &args!["-c", conf.display()], &dir.path().join("log"));
    wait_for("Mosquitto listens", WITHIN, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let ours =
        Forebay::start(&PLAIN.replace("allow_anonymous = true", &format!("password_file = \"{users}\"")));
    for (broker, port) in [("Mosquitto", port), ("Forebay", ours.mqtt)] {
        for (user, password, fits) in [
            ("ann", "pässwörd", true),
            ("bob", "by us", true),
            ("bob", "by the other", false),
            ("carol", "x:y", true),
            ("dora", "soon gone", false),
        ] {
            let done = mosquitto_pub(port, &["-u", user, "-P", password, "-t", "t", "-m", "m"]);
            assert_eq!(
                done.status == Some(0),
                fits,
                "{broker}, {user}: {}{}",
                done.stderr,
                theirs.log()
            );
        }
    }
}
