//! Users, passwords and rules, with Mosquitto's own clients and files.

use std::time::Duration;

use crate::support::forebay::{Forebay, PLAIN};
use crate::support::tools::{Subscriber, mosquitto_pub, mosquitto_sub};
use crate::support::wait_for;

/// Made by mosquitto_passwd 2.0.11.
const USERS: &str = "\
alice:$7$101$eFtbN09P0tGbE5mq$iVdxnijnwpqvHNkpFDaCQp8/0TeB1S0UDH9/wSqpEAEXPVyUbWxh0JLeVchR/kwXMBCLPctNkzDqxmU/w2w5+A==
carol:$6$oTXWLDknf1Jdp2E7$mdPCsbfxbptWN5DHjQw/Oe6P+bWuUhoF3kzDMHLnc9SMYS4PRilFbkC+kb0NCZvIjsOg58aAjL0SlqwMywwM4g==
";

const ALICE: [&str; 4] = ["-u", "alice", "-P", "secret one"];
const CAROL: [&str; 4] = ["-u", "carol", "-P", "geheim"];

/// Exit code and errors of a publish at QoS 1.
fn send(port: u16, who: &[&str], topic: &str) -> (Option<i32>, String) {
    let mut args = who.to_vec();
    args.extend(["-V", "5", "-q", "1", "-m", "m", "-t", topic]);
    let done = mosquitto_pub(port, &args);
    (done.status, done.stderr)
}

#[test]
fn users_keep_to_their_topics_and_sighup_takes_new_files() {
    let dir = tempfile::tempdir().unwrap();
    let (users, rules) = (dir.path().join("users"), dir.path().join("acl"));
    std::fs::write(&users, USERS).unwrap();
    std::fs::write(&rules, "user alice\ntopic #\npattern readwrite own/%u/#\n").unwrap();
    let config = PLAIN.replace(
        "allow_anonymous = true",
        &format!(
            "password_file = \"{}\"\nacl_file = \"{}\"",
            users.display(),
            rules.display()
        ),
    );
    let mut forebay = Forebay::start(&config);
    let port = forebay.mqtt;
    let mut all = ALICE.to_vec();
    all.extend(["-t", "#", "-q", "1"]);
    let watcher = Subscriber::start(port, &all);

    assert_eq!(send(port, &CAROL, "own/carol/t").0, Some(0));
    let refused = send(port, &CAROL, "own/alice/t");
    assert!(refused.1.contains("Not authorized"), "{refused:?}");
    let wrong = send(port, &["-u", "carol", "-P", "secret one"], "own/carol/t");
    assert!(
        wrong.0 != Some(0) && wrong.1.contains("Bad User Name or Password"),
        "{wrong:?}"
    );
    let nameless = send(port, &[], "own/carol/t");
    assert!(
        nameless.0 != Some(0) && nameless.1.contains("ot authorized"),
        "{nameless:?}"
    );
    let mut own = CAROL.to_vec();
    own.extend(["-t", "own/alice/#", "-E"]);
    let denied = mosquitto_sub(port, &own);
    assert!(denied.stderr.contains("denied"), "{}", denied.stderr);
    assert_eq!(send(port, &ALICE, "last").0, Some(0));
    assert_eq!(watcher.wait_messages(2), ["own/carol/t 1 0 m", "last 1 0 m"]);

    // A faulty file is told with its place, and what was stays.
    std::fs::write(&rules, "user alice\ntopic wrote x\n").unwrap();
    std::fs::write(&users, USERS.lines().next().unwrap()).unwrap();
    forebay.hang_up();
    wait_for("the faulty file is told", Duration::from_secs(30), || {
        let place = format!("{}:2: `wrote` is none of", rules.display());
        forebay.log().contains(&place).then_some(())
    });
    wait_for("carol is gone", Duration::from_secs(30), || {
        (send(port, &CAROL, "own/carol/t").0 != Some(0)).then_some(())
    });
    assert_eq!(send(port, &ALICE, "own/alice/t").0, Some(0));

    // Who is connected is held to the new rules.
    std::fs::write(&rules, "user alice\ntopic write #\ntopic read seen/#\n").unwrap();
    forebay.hang_up();
    wait_for("the rules are read", Duration::from_secs(30), || {
        (forebay.log().matches("were read again").count() == 2).then_some(())
    });
    assert_eq!(send(port, &ALICE, "unseen/x").0, Some(0));
    assert_eq!(send(port, &ALICE, "seen/x").0, Some(0));
    assert_eq!(
        watcher.wait_messages(4)[2..],
        ["own/alice/t 1 0 m", "seen/x 1 0 m"]
    );
    assert!(forebay.runs());
}

#[test]
fn sighup_takes_the_rules_of_the_configuration_and_says_what_else_has_changed() {
    const RULE: &str = "[[acl]]\non = \"own/{client_id}\"\n[[acl]]\nmay = [\"subscribe\"]\non = \"#\"\n";
    let mut forebay = Forebay::start(&format!("{PLAIN}{RULE}"));
    let port = forebay.mqtt;
    let watcher = Subscriber::start(port, &["-i", "watcher", "-t", "#"]);
    let refused = |topic: &str| send(port, &["-i", "me"], topic).1.contains("Not authorized");
    let mut reloads = 0;
    let mut reload = |forebay: &Forebay, change: &dyn Fn(String) -> String| {
        forebay.reconfigure(change);
        forebay.hang_up();
        reloads += 1;
        wait_for("it is read again", Duration::from_secs(30), || {
            (forebay.log().matches("were read again").count() == reloads).then_some(())
        });
        forebay.log()
    };
    assert!(!refused("own/me") && refused("new/me"));

    // Faulty: told with its line, and all stays; what is behind the fault too.
    let lines = PLAIN.matches('\n').count();
    let log = reload(&forebay, &|text| {
        text.replace("on = \"own/", "on = \"#own/") + "[[acl]]\non = \"new/#\"\n"
    });
    let place = format!("forebay.toml:{}: ", lines + 2);
    assert!(
        log.contains(&place) && log.contains("from before stay in force"),
        "{log}"
    );
    assert!(!refused("own/me") && refused("new/me"));

    let log = reload(&forebay, &|text| text.replace("#own/", "new/"));
    assert!(!log.contains("changed"), "{log}");
    assert!(refused("own/me") && !refused("new/me"));

    let log = reload(&forebay, &|text| {
        text.replace("[admin]", "[limits]\nmax_inflight_messages = 7\n[admin]")
            .replace("may = [\"subscribe\"]", "who = \"client:me\"")
    });
    assert!(log.contains("takes effect at the next start"), "{log}");
    assert!(!refused("own/me") && !refused("new/me"));
    assert_eq!(
        watcher.wait_messages(4),
        ["own/me 0 0 m", "own/me 0 0 m", "new/me 0 0 m", "new/me 0 0 m"],
        "what it may not read any more does not come"
    );
    assert!(forebay.runs());
}

#[test]
fn mosquittos_own_files_and_configuration_are_taken_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("users"), USERS).unwrap();
    std::fs::write(path("acl"), "topic read open/#\nuser alice\ntopic #\n").unwrap();
    let conf = format!(
        "per_listener_settings true\nlistener {{mqtt}} 127.0.0.1\npassword_file {}\nacl_file {}\nallow_anonymous true\npersistence_location {{data}}\n",
        path("users").display(),
        path("acl").display()
    );
    let forebay = Forebay::from_mosquitto(&conf);
    let watcher = Subscriber::start(forebay.mqtt, &["-t", "#"]);
    for topic in ["closed/x", "open/x"] {
        assert_eq!(send(forebay.mqtt, &ALICE, topic).0, Some(0));
    }
    assert_eq!(watcher.wait_messages(1), ["open/x 0 0 m"]);
    let refused = send(forebay.mqtt, &[], "open/x");
    assert!(refused.1.contains("Not authorized"), "{refused:?}");
}

#[test]
fn what_a_kept_session_may_not_read_does_not_come_after_a_crash_either() {
    let dir = tempfile::tempdir().unwrap();
    let (users, rules) = (dir.path().join("users"), dir.path().join("acl"));
    std::fs::write(&users, USERS).unwrap();
    std::fs::write(
        &rules,
        "user alice\ntopic #\nuser carol\ntopic read open/#\ntopic read later/#\n",
    )
    .unwrap();
    let files = format!(
        "password_file = \"{}\"\nacl_file = \"{}\"",
        users.display(),
        rules.display()
    );
    let mut forebay = Forebay::start(&PLAIN.replace("allow_anonymous = true", &files));
    let port = forebay.mqtt;
    let as_carol = |further: &[&str]| {
        let mut args = CAROL.to_vec();
        args.extend(["-c", "-i", "kept", "-t", "#", "-q", "1", "-F", "%t"]);
        args.extend(further);
        mosquitto_sub(port, &args)
    };
    let away = as_carol(&["-E"]);
    assert_eq!(away.status, Some(0), "{}", away.stderr);
    for topic in ["closed/x", "open/x", "later/x"] {
        assert_eq!(send(port, &ALICE, topic).0, Some(0));
    }
    forebay.kill();
    std::fs::write(&rules, "user alice\ntopic #\nuser carol\ntopic read open/#\n").unwrap();
    forebay.start_again();
    assert_eq!(send(port, &ALICE, "closed/y").0, Some(0));
    assert_eq!(send(port, &ALICE, "open/y").0, Some(0));
    let back = as_carol(&["-C", "2", "-W", "30"]);
    assert_eq!(back.stdout, "open/x\nopen/y\n", "{}", back.stderr);
}
