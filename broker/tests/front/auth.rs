//! Who is let in: password files, and answers that come later.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::auth::{Answer, Authenticator, FileAuth, Origin, Verdict};
use forebay_broker::classify::Level;
use forebay_broker::codec::{self, Connect, Packet, Reason, Version};
use forebay_broker::config::Config;
use tempfile::NamedTempFile;

use super::support::{Client, Received, TestBroker, plain_connect};

/// Made by mosquitto_passwd 2.0.11.
const ALICE: &str = "alice:$7$101$eFtbN09P0tGbE5mq$iVdxnijnwpqvHNkpFDaCQp8/0TeB1S0UDH9/wSqpEAEXPVyUbWxh0JLeVchR/kwXMBCLPctNkzDqxmU/w2w5+A==";
pub const ALICES: &[u8] = b"secret one";
const CAROL: &str = "carol:$6$oTXWLDknf1Jdp2E7$mdPCsbfxbptWN5DHjQw/Oe6P+bWuUhoF3kzDMHLnc9SMYS4PRilFbkC+kb0NCZvIjsOg58aAjL0SlqwMywwM4g==";
pub const CAROLS: &[u8] = b"geheim";

pub fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// The users alice and carol.
pub fn users() -> NamedTempFile {
    file(&format!("{ALICE}\n{CAROL}\n"))
}

pub fn by_files(config: &Config) -> Arc<dyn Authenticator> {
    Arc::new(FileAuth::load(config, 1).unwrap())
}

/// A broker by the files of its configuration, and who reads them again.
pub fn reloadable(change: impl FnOnce(&mut Config)) -> (TestBroker, Arc<FileAuth>) {
    let mut auth = None;
    let broker = TestBroker::start_with(change, Level::Received, |config| {
        let files = Arc::new(FileAuth::load(config, 1).unwrap());
        auth = Some(files.clone());
        files
    });
    (broker, auth.unwrap())
}

pub fn connect<'a>(
    id: &'a str,
    version: Version,
    username: Option<&'a str>,
    password: Option<&'a [u8]>,
) -> Connect<'a> {
    Connect {
        username,
        password,
        ..plain_connect(id, version)
    }
}

/// Sends a CONNECT and returns what CONNACK says; `None` when the broker closed instead.
pub fn join(broker: &TestBroker, connect: &Connect<'_>) -> Option<Result<Client, Reason>> {
    let mut client = Client::open(broker);
    client.version = connect.version;
    client.send(&Packet::Connect(connect.clone()));
    let frame = client.frame()?;
    let Ok(Packet::Connack(connack)) = codec::decode(connect.version, &frame) else {
        panic!("not a CONNACK: {frame:?}");
    };
    client.session_present = connack.session_present;
    Some(match connack.reason {
        Reason::Success => Ok(client),
        reason => Err(reason),
    })
}

#[test]
fn a_password_file_lets_its_users_in_and_tells_others_why_not() {
    let users = users();
    for (allow_anonymous, anonymous) in [(false, Some(Reason::NotAuthorized)), (true, None)] {
        let broker = TestBroker::start_with(
            |config| {
                config.listeners[0].allow_anonymous = allow_anonymous;
                config.listeners[0].files.password_file = Some(users.path().to_owned());
            },
            Level::Received,
            by_files,
        );
        let bad = Some(Reason::BadUserNameOrPassword);
        for version in [Version::V31, Version::V311, Version::V5] {
            for (username, password, expected) in [
                (Some("alice"), Some(ALICES), None),
                (Some("alice"), Some(ALICES), None), // known by now
                (Some("carol"), Some(CAROLS), None),
                (Some("alice"), Some(CAROLS), bad),
                (Some("alice"), None, bad),
                (Some("eve"), Some(ALICES), bad),
                (Some(""), Some(ALICES), bad),
                (None, None, anonymous),
            ] {
                let connect = connect("c", version, username, password);
                let joined = join(&broker, &connect).expect("CONNACK");
                assert_eq!(joined.err(), expected, "{version:?} {username:?} {password:?}");
            }
        }
        broker.stop();
    }
}

#[test]
fn a_password_that_takes_long_to_check_holds_up_nobody_else() {
    // 400,000 iterations: a good part of a second.
    let slow = ALICE.replace("$101$", "$400000$");
    let users = file(&format!("{slow}\n"));
    let broker = TestBroker::start_with(
        |config| {
            config.workers = 1;
            config.listeners[0].files.password_file = Some(users.path().to_owned());
        },
        Level::Received,
        by_files,
    );
    let mut healthy = Client::connect(&broker, "healthy", Version::V311);
    let mut slow = Client::open(&broker);
    let connect = Packet::Connect(connect("slow", Version::V311, Some("alice"), Some(ALICES)));
    slow.send(&connect);
    let mut pings = 0;
    while slow.try_receive(Duration::from_millis(1)).is_none() {
        healthy.ping();
        assert_eq!(healthy.receive(), Received::Pingresp);
        pings += 1;
    }
    assert!(
        pings > 20,
        "{pings} pings were answered while a password was checked"
    );
    broker.stop();
}

/// Never answers.
struct Silent;

impl Authenticator for Silent {
    fn authenticate(&self, _: &Connect<'_>, _: Origin) -> Answer<Verdict> {
        Answer::Later(Box::pin(std::future::pending()))
    }
}

#[test]
fn an_answer_that_does_not_come_in_time_ends_the_connection() {
    let broker = TestBroker::start_with(
        |config| config.limits.connect_timeout_s = 1,
        Level::Received,
        |_| Arc::new(Silent),
    );
    let joined = join(&broker, &connect("c", Version::V5, Some("u"), None));
    assert!(joined.is_none());
    broker.stop();
}

#[test]
fn who_waits_for_an_answer_still_counts_as_shaking_hands() {
    let broker = TestBroker::start_with(
        |config| {
            config.limits.connect_timeout_s = 1;
            config.limits.max_handshakes = 2;
        },
        Level::Received,
        |_| Arc::new(Silent),
    );
    let start = std::time::Instant::now();
    let _waiting = ["a", "b"].map(|id| {
        let mut client = Client::open(&broker);
        client.send(&Packet::Connect(connect(id, Version::V311, Some("u"), None)));
        client
    });
    let mut third = Client::open(&broker);
    third.send_raw(b"\xC0\0"); // no beginning of anything: refused as soon as it is looked at
    assert_eq!(third.receive(), Received::Closed);
    assert!(start.elapsed() >= Duration::from_millis(900));
    broker.stop();
}

#[test]
fn files_are_read_again_and_a_faulty_one_leaves_what_was() {
    let users = users();
    let path = users.path().to_owned();
    let (broker, auth) = reloadable(|config| config.listeners[0].files.password_file = Some(path.clone()));
    let may = |name, password| {
        let connect = connect("c", Version::V311, Some(name), Some(password));
        join(&broker, &connect).expect("CONNACK").is_ok()
    };
    assert!(may("alice", ALICES) && may("carol", CAROLS));
    std::fs::write(&path, "alice:plain\n").unwrap();
    let faults = auth.reload(None);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(
        (faults[0].file.as_path(), faults[0].line),
        (path.as_path(), Some(1))
    );
    assert!(may("alice", ALICES) && may("carol", CAROLS));
    std::fs::write(&path, format!("{CAROL}\n")).unwrap();
    assert_eq!(auth.reload(None), []);
    assert!(!may("alice", ALICES) && may("carol", CAROLS));
    broker.stop();
}
