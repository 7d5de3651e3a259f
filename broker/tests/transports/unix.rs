//! A listener in the file system.

use std::os::unix::fs::PermissionsExt;

use forebay_broker::StartError;
use forebay_broker::config::Bind;

use crate::support::{CONNACK, Node, SUBACK, Stream, connect, publish, subscribe};

#[test]
fn clients_on_a_unix_socket_and_on_tcp_reach_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let node = Node::start_all(
        |listeners| {
            let mut unix = listeners[0].clone();
            unix.name = "unix".to_owned();
            unix.bind = Bind::Unix(path.clone());
            unix.socket_mode = 0o600;
            listeners.push(unix);
        },
        |_| {},
    );
    assert_eq!(node.addresses[1].to_string(), format!("unix:{}", path.display()));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut subscriber = Stream::unix(&path);
    subscriber.write(&connect("local"));
    assert_eq!(subscriber.packet().unwrap(), CONNACK);
    subscriber.write(&subscribe("a/#"));
    assert_eq!(subscriber.packet().unwrap(), SUBACK);
    let mut publisher = node.joined("remote");
    publisher.write(&publish("a/b", 7, &[b'x'; 300_000]));
    assert_eq!(publisher.packet().unwrap(), [0x40, 2, 0, 7]);
    let message = subscriber.packet().unwrap();
    assert!(message.len() > 300_000 && message.ends_with(b"xxx"));
    drop(node);
    assert!(!path.exists(), "removed at the stop");
    assert!(subscriber.is_closed());
}

#[test]
fn a_socket_that_another_broker_listens_on_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let bind = |listeners: &mut Vec<_>| {
        let listeners: &mut Vec<forebay_broker::config::ListenerConfig> = listeners;
        listeners[0].bind = Bind::Unix(path.clone());
    };
    let first = Node::start_all(bind, |_| {});
    match Node::try_start(bind, |_| {}) {
        Err(StartError::Bind(error)) => assert!(error.to_string().contains("mqtt.sock"), "{error}"),
        _ => panic!("it was taken"),
    }
    assert!(path.exists());
    drop(first);
    Node::start_all(bind, |_| {});
}
