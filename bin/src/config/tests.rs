//! The configuration as a whole: the reference is the defaults, and faults are named with their place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use forebay_broker::auth::Whom;
use forebay_broker::classify::Level;
use forebay_broker::config::{ClientCert, TransportConfig};
use forebay_sink::{RouteConfig, Value};

fn given(text: &str) -> Result<Settings, Vec<Fault>> {
    from_text(text, std::iter::empty())
}

fn with_env(text: &str, vars: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
    from_text(
        text,
        vars.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn faults(text: &str) -> Vec<(Place, String)> {
    given(text)
        .unwrap_err()
        .into_iter()
        .map(|fault| (fault.place, fault.text))
        .collect()
}

/// The configuration of the README and of the deployments.
const MAIN: &str = r#"
[node]
data_dir = "/var/lib/forebay"
[[listener]]
bind = "127.0.0.1:1883"
[auth]
allow_anonymous = true
[kafka.properties]
"bootstrap.servers" = "127.0.0.1:9092"
[[route]]
filter = "devices/{device_id}/#"
topic = "telemetry"
[admin]
bind = "127.0.0.1:9464"
"#;

#[test]
fn the_reference_says_what_an_empty_file_means() {
    let empty = given("").unwrap();
    let reference = given(REFERENCE).unwrap();
    assert_eq!(format!("{empty:#?}"), format!("{reference:#?}"));
}

#[test]
fn the_reference_agrees_with_the_defaults_of_the_broker() {
    let settings = given("").unwrap();
    let broker = forebay_broker::config::Config::default();
    assert_eq!(
        format!("{:#?}", settings.broker.limits),
        format!("{:#?}", broker.limits)
    );
    assert_eq!(
        format!("{:#?}", settings.broker.bus),
        format!("{:#?}", broker.bus)
    );
    assert_eq!(settings.broker.workers, broker.workers);
    let spool = forebay_broker::spool::SpoolConfig::new("/var/lib/forebay/spool");
    assert_eq!(
        settings.broker.log,
        forebay_broker::config::LogConfig::Disk(spool)
    );
}

#[test]
fn the_reference_agrees_with_the_defaults_of_the_sink() {
    let main = given(MAIN).unwrap().kafka.unwrap();
    let route = RouteConfig {
        filter: "devices/{device_id}/#".to_owned(),
        topic: "telemetry".to_owned(),
        ..RouteConfig::default()
    };
    let sink = SinkConfig {
        properties: main.properties.clone(),
        routes: vec![route],
        quarantine_dir: Some(PathBuf::from("/var/lib/forebay/quarantine")),
        ..SinkConfig::default()
    };
    assert_eq!(format!("{main:#?}"), format!("{sink:#?}"));
}

#[test]
fn every_setting_of_the_reference_is_known_and_off_by_default_only_where_it_says_so() {
    let all = uncommented(REFERENCE);
    let faults = given(&all).err().unwrap_or_default();
    let unexpected: Vec<_> = faults
        .iter()
        .filter(|fault| !fault.text.contains("no client could connect"))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

#[test]
fn the_main_configuration_is_fit() {
    let settings = given(MAIN).unwrap();
    assert_eq!(settings.broker.listeners[0].bind.to_string(), "127.0.0.1:1883");
    assert!(settings.broker.listeners[0].allow_anonymous && !settings.broker.listeners[0].loopback_only);
    assert_eq!(settings.admin, Some("127.0.0.1:9464".parse().unwrap()));
    let kafka = settings.kafka.unwrap();
    assert_eq!(kafka.properties["bootstrap.servers"], "127.0.0.1:9092");
    let route = &kafka.routes[0];
    assert_eq!(
        (route.filter.as_str(), route.topic.as_str()),
        ("devices/{device_id}/#", "telemetry")
    );
    assert!(route.sink && route.key.is_none() && route.headers.is_none());
    assert_eq!((route.ack, route.value), (Level::Spooled, Value::Raw));
}

#[test]
fn a_listener_has_bounds_of_its_own_and_else_those_of_all() {
    let text = "[limits]\nmax_topic_levels = 9\n[[listener]]\nbind = \"127.0.0.1:1\"\n[[listener]]\nbind = \"127.0.0.1:2\"\n\
        [listener.limits]\nmax_packet_bytes = \"10KiB\"\nmax_message_rate = 50\n";
    let broker = given(text).unwrap().broker;
    let (all, own) = (broker.limits_at(0), broker.limits_at(1));
    assert_eq!((all.max_packet_bytes, all.max_message_rate), (1000 * 1024, 0));
    assert_eq!((own.max_packet_bytes, own.max_message_rate), (10 * 1024, 50));
    assert_eq!((all.max_topic_levels, own.max_topic_levels), (9, 9));
    assert_eq!(own.max_queued_bytes, all.max_queued_bytes);
    for (line, part) in [
        ("max_connections = 3", "max_connections"),
        ("max_packet_bytes = 1", "limits.max_packet_bytes must be 64"),
        ("max_topic_levels = 1001", "max_topic_levels` must be"),
    ] {
        let faults = given(&format!("[[listener]]\n[listener.limits]\n{line}\n")).unwrap_err();
        assert!(faults[0].text.contains(part), "{faults:?}");
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}

#[test]
fn without_auth_only_this_machine_may_connect() {
    let settings = given("[[listener]]\nbind = \"0.0.0.0:1883\"\n").unwrap();
    assert!(settings.broker.listeners[0].loopback_only);
    assert!(
        settings.notices.iter().any(|notice| notice.contains("[auth]")),
        "{:?}",
        settings.notices
    );
    assert!(
        settings.notices.iter().any(|notice| notice.contains("[kafka]")),
        "{:?}",
        settings.notices
    );
}

#[test]
fn auth_without_a_way_in_is_a_fault() {
    assert_eq!(faults("[auth]\n").len(), 1);
    assert_eq!(
        faults("[auth]\nallow_anonymous = true\n[[listener]]\nallow_anonymous = false\n")[0].0,
        Place::Line(4)
    );
    assert!(given("[auth]\n[[listener]]\nallow_anonymous = true\n").is_ok());
    assert!(given("[auth]\npassword_file = \"x\"\n").is_ok());
}

#[test]
fn rules_are_read_whole() {
    let text = r##"
[[acl]]
who = ["user:a:b", "client:c", "anonymous"]
may = ["subscribe"]
on = "x/%c/{username}/#"
allow = false
[[acl]]
who = "user:admin"
on = "#"
"##;
    let rules = given(text).unwrap().broker.acl;
    assert_eq!(rules.len(), 2);
    let whom = [
        Whom::User("a:b".into()),
        Whom::Client("c".into()),
        Whom::Anonymous,
    ];
    assert_eq!(rules[0].who, whom);
    assert!(!rules[0].publish && rules[0].subscribe && !rules[0].allow);
    assert!(rules[1].publish && rules[1].subscribe && rules[1].allow);
    for (wrong, line) in [
        ("[[acl]]\nallow = true", 1),
        ("[[acl]]\non = \"a/#/b\"", 2),
        ("[[acl]]\non = \"{device}/b\"", 2),
        ("[[acl]]\nwho = \"admin\"\non = \"#\"", 2),
        ("[[acl]]\nwho = \"user:\"\non = \"#\"", 2),
        ("[[acl]]\nwho = \"\"\non = \"#\"", 2),
        ("[[acl]]\nwho = []\non = \"#\"", 2),
        ("[[acl]]\nwho = [\"\"]\non = \"#\"", 2),
        ("[[acl]]\nwho = [\"user:a\", \"\"]\non = \"#\"", 2),
        ("[[acl]]\nwho = 5\non = \"#\"", 2),
        ("[[acl]]\non = \"#\"\nmay = []", 3),
        ("[[acl]]\non = \"#\"\nmay = [\"read\"]", 3),
        ("[[acl]]\non = \"#\"\nallow = \"yes\"", 3),
        ("[auth]\nallow_anonymous = true\ndeny_action = \"close\"", 3),
    ] {
        let places: Vec<_> = faults(wrong).into_iter().map(|fault| fault.0).collect();
        assert_eq!(places, [Place::Line(line)], "{wrong}");
    }
}

#[test]
fn rules_on_users_without_passwords_are_told() {
    let listeners = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:1\"\npassword_file = \"x\"\n[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:2\"\n";
    for (rule, told) in [
        ("who = \"user:a\"\non = \"#\"", true),
        ("on = \"{username}/#\"", true),
        ("who = \"client:a\"\non = \"{client_id}/#\"", false),
    ] {
        let text = format!("[auth]\nallow_anonymous = true\n[[acl]]\n{rule}\n{listeners}");
        let notices = given(&text).unwrap().notices;
        let about: Vec<_> = notices
            .iter()
            .filter(|one| one.contains("prove a user name"))
            .collect();
        assert_eq!(about.len(), usize::from(told), "{rule}: {notices:?}");
        assert!(about.iter().all(|one| one.contains("listener b")));
    }
}

#[test]
fn a_listener_has_its_own_password_file_or_that_of_auth() {
    let text = "[auth]\npassword_file = \"all\"\n[[listener]]\nbind = \"127.0.0.1:1\"\n[[listener]]\nbind = \"127.0.0.1:2\"\npassword_file = \"own\"\nallow_anonymous = true\n";
    let listeners = given(text).unwrap().broker.listeners;
    let seen: Vec<_> = listeners
        .iter()
        .map(|one| {
            (
                one.files.password_file.as_deref(),
                one.allow_anonymous,
                one.loopback_only,
            )
        })
        .collect();
    let file = |name| Some(std::path::Path::new(name));
    assert_eq!(seen, [(file("all"), false, false), (file("own"), true, false)]);
}

#[test]
fn all_faults_are_found_at_once_in_the_order_of_their_lines() {
    let text = r#"
[node]
wrkers = 3
[[listener]]
bind = "localhost"
[limits]
max_packet_bytes = true
receive_maximum = 0
[kafka.properties]
"bootstrap.servers" = "k:9092"
[[route]]
topic = "t"
ack = "synced"
[tsl]
"#;
    let found = faults(text);
    let lines: Vec<_> = found.iter().map(|(place, _)| place.clone()).collect();
    assert_eq!(lines, [3, 5, 7, 8, 11, 13, 14].map(Place::Line), "{found:#?}");
}

#[test]
fn an_unknown_key_gets_the_nearest_known_one() {
    let fault = given("[limits]\nmax_packet_byte = 3\n").unwrap_err().remove(0);
    assert_eq!(fault.hint, "did you mean `limits.max_packet_bytes`?");
    let fault = given("[[listener]]\nport = 3\n").unwrap_err().remove(0);
    assert!(fault.hint.contains("allow_anonymous, bind,"), "{}", fault.hint);
}

#[test]
fn what_is_not_built_is_refused_by_name_only_when_it_is_on() {
    for (on, off) in [
        (
            "[auth]\nallow_anonymous = true\n[auth.jwt]\nkeys = \"x\"",
            "[auth]\nallow_anonymous = true\n[auth.jwt]\n",
        ),
        ("[admin]\ntoken_file = \"x\"", "[admin]\ntoken_file = \"\""),
    ] {
        let found = faults(on);
        assert!(
            found.len() == 1 && found[0].1.contains("not built yet"),
            "{on}: {found:?}"
        );
        assert!(given(off).is_ok(), "{off}: {:?}", given(off).unwrap_err());
    }
}

#[test]
fn the_spool_has_its_size_and_its_rules() {
    let spool = given("").unwrap().spool;
    let mib = 1024 * 1024;
    let expected = Spool {
        max_bytes: 10 * 1024 * mib,
        segment_bytes: 64 * mib,
        reject: false,
        drop_qos0: false,
        client_share_bytes: 160 * mib,
    };
    assert_eq!(spool, expected);
    let text = "[spool]\nmax_bytes = \"32MiB\"\nsegment_bytes = \"8MiB\"\nwhen_full = \"reject\"\nqos0_when_full = \"drop\"\n";
    let spool = given(text).unwrap().spool;
    assert!(spool.reject && spool.drop_qos0);
    assert_eq!(spool.client_share_bytes, mib, "a 64th, but at least 1 MiB");
    let spool = given("[spool]\nclient_share_bytes = \"2MiB\"\n").unwrap().spool;
    assert_eq!(spool.client_share_bytes, 2 * mib);
    let faults = given("[spool]\nmax_bytes = 1\n").unwrap_err();
    assert!(
        faults[0].text.contains("from 16.0 MiB to 1.0 PiB, not 1"),
        "{faults:?}"
    );
}

#[test]
fn what_was_removed_is_refused_with_what_takes_its_place() {
    let fault = given("[spool]\nmemory_max_bytes = \"64MiB\"\n")
        .unwrap_err()
        .remove(0);
    assert_eq!(fault.place, Place::Line(2));
    assert!(
        fault.text.contains("was removed") && fault.hint.contains("spool.max_bytes"),
        "{fault:?}"
    );
    let fault = given("[spool]\nno_such_key = 1\n").unwrap_err().remove(0);
    assert!(!fault.hint.contains("memory_max_bytes"), "{fault:?}");
}

#[test]
fn properties_may_be_written_without_quotes() {
    let kafka = given("[kafka.properties]\nbootstrap.servers = \"a:1\"\nlinger.ms = 5\n")
        .unwrap()
        .kafka
        .unwrap();
    assert_eq!(kafka.properties["bootstrap.servers"], "a:1");
    assert_eq!(kafka.properties["linger.ms"], "5");
}

#[test]
fn the_environment_overrides_the_file_with_the_type_of_the_key() {
    let settings = with_env(
        MAIN,
        &[
            ("FOREBAY__KAFKA__PROPERTIES__BOOTSTRAP_SERVERS", "kafka:9092"),
            ("FOREBAY__ROUTE__0__TOPIC", "other"),
            ("FOREBAY__ROUTE__0__HEADERS", "mqtt.topic, mqtt.qos"),
            ("FOREBAY__ROUTE__1__FILTER", "rooms/#"),
            ("FOREBAY__ROUTE__1__SINK", "false"),
            ("FOREBAY__LISTENER__0__BIND", "127.0.0.1:0"),
            ("FOREBAY__LIMITS__RECEIVE_MAXIMUM", "7"),
            ("FOREBAY__LIMITS__MAX_PACKET_BYTES", "1KiB"),
            ("FOREBAY__LOG__FORMAT", "json"),
        ],
    )
    .unwrap();
    let kafka = settings.kafka.unwrap();
    assert_eq!(kafka.properties["bootstrap.servers"], "kafka:9092");
    assert_eq!(kafka.routes[0].topic, "other");
    assert_eq!(
        kafka.routes[0].headers.as_deref().unwrap(),
        ["mqtt.topic", "mqtt.qos"]
    );
    assert!(!kafka.routes[1].sink);
    assert_eq!(settings.broker.listeners[0].bind.to_string(), "127.0.0.1:0");
    assert_eq!(
        (
            settings.broker.limits.receive_maximum,
            settings.broker.limits.max_packet_bytes
        ),
        (7, 1024)
    );
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn faults_of_the_environment_name_the_variable() {
    let found = with_env(
        MAIN,
        &[
            ("FOREBAY__LIMITS__RECEIVE_MAXIMUM", "many"),
            ("FOREBAY__LOG__LEVL", "debug"),
        ],
    )
    .unwrap_err();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found[0].place,
        Place::Env("FOREBAY__LIMITS__RECEIVE_MAXIMUM".to_owned())
    );
    assert_eq!(found[1].hint, "did you mean `log.level`?");
}

#[test]
fn what_the_broker_refuses_has_the_line_of_its_key() {
    let found = faults("[bus]\nchunk_bytes = 1\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, Place::Line(2));
}

#[test]
fn the_packet_limit_leaves_room_below_kafkas_record_limit() {
    assert!(given("").unwrap().broker.limits.max_packet_bytes < 1024 * 1024 - 4096);
}

#[test]
fn what_the_sink_refuses_has_the_line_of_its_key() {
    let found = faults(&format!("{MAIN}[kafka]\nreplication = 1\npartitions = 0\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    let text = MAIN
        .replace("devices/{device_id}/#", "a/#/b")
        .replace("\"telemetry\"", "\"no such/topic\"");
    let text = text.replace("9092\"", "9092\"\n\"acks\" = 0\n\"no.such\" = 1");
    let lines: Vec<_> = faults(&text).into_iter().map(|(place, _)| place).collect();
    assert_eq!(lines, [10, 11, 13, 14].map(Place::Line), "{:#?}", faults(&text));
}

proptest::proptest! {
    #[test]
    fn any_text_is_fit_or_refused_without_a_panic(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "[node]", "[[listener]]", "[listener.tls]", "[auth]", "[kafka]", "[kafka.properties]", "[[route]]",
                "[log]", "bind", "id", "topic", "filter", "level", "a.b", "=", "\"#\"", "\"{x}\"", "3", "-1", "true",
                "[", "]", "{", "}", ",", "\n", "\n", "\n", "'", "#", "\u{e9}", "1.5", "2026-01-01", "\"\"\"",
            ]),
            0..40,
        ),
        name in "(FOREBAY__)?[A-Z0-9_]{0,30}",
        value in ".{0,10}",
    ) {
        let _ = from_text(&parts.join(" ").replace(" \n ", "\n"), [(name, value)]);
    }
}

#[test]
fn a_listener_says_all_that_it_can() {
    let text = r#"
[auth]
allow_anonymous = true
[[listener]]
bind = "0.0.0.0:8083"
transport = "ws"
path = "/broker"
origins = ["https://fleet.example.com"]
proxy_protocol = true
versions = ["3.1.1", "5.0"]
max_connections = 10
max_connect_rate_per_address = 5
[[listener]]
bind = "unix:/run/forebay/mqtt.sock"
socket_mode = "0600"
"#;
    let settings = given(text).unwrap();
    let [websocket, unix] = &settings.broker.listeners[..] else {
        panic!("two listeners");
    };
    let TransportConfig::WebSocket(config) = &websocket.transport else {
        panic!("WebSocket");
    };
    assert_eq!((config.path.as_str(), config.origins.len()), ("/broker", 1));
    assert!(websocket.proxy_protocol && websocket.versions.v5 && !websocket.versions.v31);
    assert_eq!(
        (websocket.max_connections, websocket.max_connect_rate_per_address),
        (10, 5)
    );
    assert_eq!(unix.name, "unix:/run/forebay/mqtt.sock");
    assert_eq!((unix.bind.is_local(), unix.socket_mode), (true, 0o600));
    let notice = |part: &str| {
        settings
            .notices
            .iter()
            .filter(|notice| notice.contains(part))
            .count()
    };
    assert_eq!(
        (
            notice("let only the load balancers"),
            notice("everyone who reaches")
        ),
        (1, 1)
    );
}

#[test]
fn what_a_listener_can_not_be_is_a_fault_at_its_line() {
    let cases = [
        ("bind = \"unix:mqtt.sock\"", "unix:/PATH"),
        ("bind = \"localhost\"", "an address with its port"),
        ("socket_mode = \"0999\"", "permissions in octal"),
        ("transport = \"quic\"", "one of \"tcp\", \"ws\""),
        ("origins = [\"https://a\"]", "for WebSocket alone"),
        ("path = \"/other\"", "for WebSocket alone"),
        ("path = \"mqtt\"", "a path such as"),
        ("versions = []", "at least one"),
        ("versions = [\"4\"]", "\"3.1.1\""),
        ("max_connections = -1", "an integer from 0"),
        ("mount_point = \"a/#\"", "must be the beginning of a topic"),
        ("mount_point = \"$SYS/\"", "must be the beginning of a topic"),
    ];
    for (line, expected) in cases {
        let faults = faults(&format!("[[listener]]\n{line}\n"));
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert_eq!(faults[0].0, Place::Line(2), "{line}");
        assert!(faults[0].1.contains(expected), "{line}: {faults:?}");
    }
    let unix =
        "[[listener]]\nbind = \"unix:/run/a\"\nproxy_protocol = true\nmax_connect_rate_per_address = 1\n";
    let places: Vec<Place> = faults(unix).into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, [Place::Line(3), Place::Line(4)]);
}

#[test]
fn tls_needs_its_files_and_says_where_one_is_missing() {
    let text = |keys: &str| {
        format!("[[listener]]\nbind = \"0.0.0.0:8883\"\nallow_anonymous = true\n[listener.tls]\n{keys}")
    };
    let whole = "cert = \"c.pem\"\nkey = \"k.pem\"\n";
    let settings = given(&text(whole)).unwrap();
    let tls = settings.broker.listeners[0].tls.clone().unwrap();
    assert_eq!(tls.cert, PathBuf::from("c.pem"));
    assert_eq!((tls.client_cert, tls.only_tls13), (ClientCert::None, false));
    let more = "client_ca = \"ca.pem\"\nclient_cert = \"required\"\ncrl = \"l.pem\"\nmin_version = \"1.3\"\n";
    let settings = given(&text(&format!("{whole}{more}"))).unwrap();
    let tls = settings.broker.listeners[0].tls.clone().unwrap();
    assert_eq!((tls.client_cert, tls.only_tls13), (ClientCert::Required, true));
    assert_eq!(tls.crl, Some(PathBuf::from("l.pem")));
    // Who must show a certificate is not everyone.
    assert!(
        !settings.notices.iter().any(|notice| notice.contains("everyone")),
        "{:?}",
        settings.notices
    );
    for (keys, expected) in [
        ("", 2),
        ("cert = \"c.pem\"\n", 1),
        ("key = \"k.pem\"\n", 1),
        (
            "cert = \"c.pem\"\nkey = \"k.pem\"\nclient_cert = \"required\"\n",
            1,
        ),
        ("cert = \"c.pem\"\nkey = \"k.pem\"\ncrl = \"l.pem\"\n", 1),
        ("cert = \"c.pem\"\nkey = \"k.pem\"\nclient_cert = \"maybe\"\n", 1),
        ("cert = \"c.pem\"\nkey = \"k.pem\"\nmin_version = \"1.1\"\n", 1),
    ] {
        let found = faults(&text(keys));
        assert_eq!(found.len(), expected, "{keys}: {found:?}");
    }
    // The files are not there: each is named at its line.
    let found = read_text(&text(whole), [], true).unwrap_err();
    let lines: Vec<_> = found.iter().map(|fault| fault.place.clone()).collect();
    assert_eq!(lines, [5, 6].map(Place::Line), "{found:?}");
    assert!(
        found[0].text.starts_with("c.pem: can't be read: No such file"),
        "{found:?}"
    );
}
