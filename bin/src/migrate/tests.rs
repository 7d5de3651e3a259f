//! A rich mosquitto.conf is carried over: what is written, what is told, and that the check takes it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use forebay_broker::config::{ClientCert, TlsConfig};

use super::{Migrated, migrate};
use crate::config;

fn of(text: &str) -> Migrated {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mosquitto.conf");
    std::fs::write(&file, text).unwrap();
    let migrated = migrate(&file).unwrap();
    let checked = config::from_text(&migrated.toml, []);
    assert!(checked.is_ok(), "{:?}\n{}", checked.unwrap_err(), migrated.toml);
    migrated
}

fn listeners(migrated: &Migrated) -> Vec<String> {
    let settings = config::from_text(&migrated.toml, []).unwrap();
    let show = |listener: &forebay_broker::config::ListenerConfig| {
        format!(
            "{} {} {}",
            listener.bind, listener.allow_anonymous, listener.loopback_only
        )
    };
    settings.broker.listeners.iter().map(show).collect()
}

/// Lines and texts of the notes at places.
fn told(migrated: &Migrated) -> Vec<(usize, &str)> {
    let told = migrated
        .notes
        .iter()
        .filter_map(|note| Some((note.origin.as_ref()?.line, note.text.as_str())));
    told.collect()
}

#[test]
fn the_sample_with_everything_is_carried_over() {
    let file = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/mosquitto/mosquitto.conf"
    ));
    let migrated = migrate(&file).unwrap();
    let settings = config::from_text(&migrated.toml, [])
        .unwrap_or_else(|faults| panic!("{faults:?}\n{}", migrated.toml));
    assert_eq!(settings.data_dir, PathBuf::from("/srv/mosquitto/"));
    let limits = &settings.broker.limits;
    assert_eq!(
        (limits.max_inflight_messages, limits.max_queued_messages),
        (40, 5000)
    );
    assert_eq!((limits.max_packet_bytes, limits.max_keep_alive_s), (200_000, 600));
    assert_eq!(limits.max_session_expiry_s, 14 * 24 * 3600);
    assert_eq!(settings.log.level, "debug");
    assert_eq!(settings.broker.sys_interval_s, 30);
    for listener in &settings.broker.listeners {
        assert!(!listener.loopback_only && !listener.allow_anonymous);
        let files = [&listener.files.password_file, &listener.files.acl_file];
        let named = files.map(|file| file.as_deref().and_then(std::path::Path::to_str));
        assert_eq!(named, [Some("/etc/mosquitto/passwd"), Some("/etc/mosquitto/acl")]);
    }
    let binds = listeners(&migrated);
    assert!(binds.contains(&"[::]:1883 false false".to_owned()), "{binds:?}");
    for part in [
        "\npassword_file = \"/etc/mosquitto/passwd\"",
        "\nacl_file = \"/etc/mosquitto/acl\"",
        "\ncert = \"/etc/mosquitto/certs/server.crt\"",
        "\nclient_ca = \"/etc/mosquitto/certs/ca.crt\"",
        "\nclient_cert = \"required\"",
        "\nmin_version = \"1.2\"",
        "\nmount_point = \"site1/\"",
        // Mosquitto takes WebSockets on every path.
        "\npath = \"*\"",
        "#filter = \"site/sensors/#\"",
        "#topic = \"site.sensors\"",
    ] {
        assert!(migrated.toml.contains(part), "{part} in\n{}", migrated.toml);
    }
    // Each key of the sample that has no counterpart is told, at its line and in its file.
    let shown: Vec<String> = migrated.notes.iter().map(ToString::to_string).collect();
    for part in [
        "mosquitto.conf:8: pid_file is not carried over",
        "bridge up to kafka-gw.example:1883 is not carried over",
        "site/sensors/# as [[route]] sections",
        "conf.d/20-log.conf:2: log_dest file /var/log/mosquitto/mosquitto.log",
        "max_inflght_messages is no key of mosquitto.conf\n    hint: did you mean max_inflight_messages?",
        "password_file /etc/mosquitto/passwd: can't be read",
    ] {
        assert!(
            shown.iter().any(|note| note.contains(part)),
            "{part} in\n{}",
            shown.join("\n")
        );
    }
}

#[test]
fn without_listeners_this_machine_alone_is_served() {
    let migrated = of("persistence true\n");
    assert_eq!(listeners(&migrated), ["127.0.0.1:1883 true true"]);
    assert_eq!(told(&migrated), []);
    assert_eq!(migrated.notes.len(), 2, "{:?}", migrated.notes);
}

#[test]
fn a_mount_point_within_a_level_leaves_its_listener_out() {
    let migrated = of("listener 1884\nallow_anonymous true\nmount_point site1\n");
    let told: Vec<String> = migrated.notes.iter().map(ToString::to_string).collect();
    let why = "mount_point site1 ends within a level";
    assert!(told.iter().any(|note| note.contains(why)), "{told:?}");
    assert!(
        migrated.toml.contains("#mount_point = \"site1\""),
        "{}",
        migrated.toml
    );
}

#[test]
fn tls_is_carried_over_and_never_weaker_than_it_was() {
    let files = "listener 8883\nallow_anonymous true\ncertfile c\nkeyfile k\n";
    let tls = |more: &str| {
        let migrated = of(&format!("{files}{more}"));
        let settings = config::from_text(&migrated.toml, []).unwrap();
        settings.broker.listeners[0].tls.clone()
    };
    let asks =
        |tls: Option<TlsConfig>| tls.map(|tls| (tls.client_cert, tls.client_ca, tls.crl, tls.only_tls13));
    let (none, required) = (ClientCert::None, ClientCert::Required);
    let path = |name: &str| Some(PathBuf::from(name));
    for (more, expected) in [
        ("", Some((none, None, None, false))),
        // Clients are not asked for certificates: the authorities are of no use.
        ("cafile a\ncrlfile l\n", Some((none, None, None, false))),
        (
            "cafile a\ncrlfile l\nrequire_certificate true\n",
            Some((required, path("a"), path("l"), false)),
        ),
        ("tls_version tlsv1.3\n", Some((none, None, None, true))),
        ("tls_version tlsv1.1\n", Some((none, None, None, false))),
        // Without their authorities nobody can be let in: the listener is left out.
        ("capath d\nrequire_certificate true\n", None),
    ] {
        assert_eq!(asks(tls(more)), expected, "{more}");
    }
    let old = of(&format!("{files}tls_version tlsv1.1\n"));
    assert!(
        old.notes
            .iter()
            .any(|note| note.text.contains("TLS 1.2 and 1.3 alone")),
        "{:?}",
        old.notes
    );
    let half = of("listener 8883\nallow_anonymous true\ncertfile c\n");
    assert!(!half.toml.contains("\nbind = \"[::]:8883\""), "{}", half.toml);
}

#[test]
fn listeners_bind_where_mosquittos_do() {
    let open = "allow_anonymous true\n";
    for (text, address) in [
        ("listener 1884", "[::]:1884"),
        ("listener 1884 10.0.0.1", "10.0.0.1:1884"),
        ("listener 1884 ::1", "[::1]:1884"),
        ("listener 1884 localhost", "127.0.0.1:1884"),
        ("listener 1884\nsocket_domain ipv4", "0.0.0.0:1884"),
        ("port 1885", "[::]:1885"),
        ("bind_address 10.0.0.2", "10.0.0.2:1883"),
    ] {
        let migrated = of(&format!("{open}{text}\n"));
        assert_eq!(listeners(&migrated), [format!("{address} true false")], "{text}");
    }
    let both = of(&format!("{open}listener 1884\nport 1883\n"));
    assert_eq!(listeners(&both), ["[::]:1883 true false", "[::]:1884 true false"]);
    let named = of(&format!("{open}listener 1884 gateway.example\n"));
    assert_eq!(listeners(&named), ["127.0.0.1:1883 true false"]);
    assert!(
        told(&named)[0].1.contains("needs an address"),
        "{:?}",
        named.notes
    );
}

#[test]
fn nothing_is_more_open_than_it_was() {
    for (text, why) in [
        ("listener 1883\n", "nobody could connect"),
        ("listener 1883\nallow_anonymous false\n", "nobody could connect"),
        (
            "listener 1883\nallow_anonymous true\nplugin /x.so\n",
            "plugin decides who",
        ),
        (
            "plugin /x.so\nlistener 1883\nlistener_allow_anonymous true\n",
            "plugins decide",
        ),
        (
            "listener 1883\nallow_anonymous true\nclientid_prefixes dev-\n",
            "clientid_prefixes decides who",
        ),
        (
            "per_listener_settings true\nlistener 1883\n",
            "nobody may connect here",
        ),
        (
            "per_listener_settings 1\nallow_anonymous true\nlistener 1884\n",
            "nobody may connect here",
        ),
        (
            "per_listener_settings true\nlistener 1883\nallow_anonymous true\nplugin /x.so\n",
            "plugins can't be loaded",
        ),
        (
            "allow_anonymous true\nlistener 8883\npsk_hint x\n",
            "pre-shared keys",
        ),
    ] {
        let migrated = of(text);
        let settings = config::from_text(&migrated.toml, []).unwrap();
        let closed = settings
            .broker
            .listeners
            .iter()
            .all(|one| one.loopback_only || one.bind.to_string().starts_with("127.0.0.1"));
        assert!(closed, "{text}: {}", migrated.toml);
        assert!(
            migrated.notes.iter().any(|note| note.text.contains(why)),
            "{text}: {:?}",
            migrated.notes
        );
    }
    let own = of("per_listener_settings true\nlistener 1883\nallow_anonymous true\n");
    assert_eq!(listeners(&own), ["[::]:1883 true false"]);
}

#[test]
fn each_listener_keeps_its_users_and_rules() {
    let of_each = |text: &str| -> Vec<String> {
        let settings = config::from_text(&of(text).toml, []).unwrap();
        let show = |path: &Option<PathBuf>| {
            path.as_ref()
                .map_or("-".into(), |path| path.display().to_string())
        };
        let one = |listener: &forebay_broker::config::ListenerConfig| {
            format!(
                "{} {} {}",
                show(&listener.files.password_file),
                show(&listener.files.acl_file),
                listener.allow_anonymous
            )
        };
        settings.broker.listeners.iter().map(one).collect()
    };
    let own = "per_listener_settings true\nlistener 1883\npassword_file a\nacl_file r\nlistener 1884\npassword_file b\nallow_anonymous true\nlistener 1885\nallow_anonymous true\n";
    assert_eq!(of_each(own), ["a r false", "b - true", "- - true"]);
    let as_number = own.replace("settings true", "settings 1");
    assert_eq!(of_each(&as_number), ["a r false", "b - true", "- - true"]);
    let open = "per_listener_settings 1\nlistener 1883\nlistener_allow_anonymous true\nacl_file r\n";
    assert_eq!(of_each(open), ["- r true"]);
    let shared = "password_file a\nacl_file r\nlistener 1883\nlistener 1884\nlistener_allow_anonymous true\n";
    assert_eq!(of_each(shared), ["a r false", "a r true"]);
    // No [auth] is left, and the rules hold all the same.
    let open = "acl_file r\nlistener 1884\nlistener_allow_anonymous true\n";
    assert_eq!(of_each(open), ["- r true"]);
}

#[test]
fn bounds_keep_their_meaning() {
    let limits = |text: &str| config::from_text(&of(text).toml, []).unwrap().broker.limits;
    assert_eq!(
        limits("max_inflight_messages 0\n").max_inflight_messages,
        u16::MAX
    );
    assert_eq!(
        limits("max_queued_messages 0\n").max_queued_messages,
        u32::MAX as usize
    );
    assert_eq!(limits("max_keepalive 65535\n").max_keep_alive_s, 0);
    assert_eq!(
        limits("max_packet_size 5000\nmessage_size_limit 100\n").max_packet_bytes,
        5000
    );
    assert_eq!(
        limits("message_size_limit 100\n").max_packet_bytes,
        100 + 65_535 + 16
    );
    assert_eq!(limits("max_connections 70\n").max_connections, 70);
    assert_eq!(limits("max_connections -1\n").max_connections, 1_000_000);
    assert_eq!(limits("retain_available false\n").max_retained_messages, 0);
    assert_eq!(
        limits("persistent_client_expiration 2h\n").max_session_expiry_s,
        7200
    );
    let wrong = of("max_queued_messages many\npersistent_client_expiration soon\n");
    assert_eq!(
        told(&wrong).iter().map(|(line, _)| *line).collect::<Vec<_>>(),
        [1, 2]
    );
}
