//! Every key of mosquitto.conf by name, and what becomes of it. docs/from-mosquitto.md is this table for people; a test
//! holds the two together.

/// What a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The broker as a whole.
    Global,
    /// The listener that it follows.
    Listener,
    /// The broker, or with `per_listener_settings true` the listener that it follows.
    Security,
    /// The bridge that it follows.
    Bridge,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Written under these keys of Forebay.
    Carried(&'static str),
    /// Nothing has to be written: Forebay does so anyway.
    Given(&'static str),
    /// Not carried over: why, and what to do instead. Told for each place where it stands.
    Left(&'static str, &'static str),
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name; one that ends with `*` stands for all that begin so.
    pub name: &'static str,
    /// What it belongs to.
    pub scope: Scope,
    /// What becomes of it.
    pub fate: Fate,
}

/// The key of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| match key.name.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => key.name == name,
    })
}

const fn carried(scope: Scope, name: &'static str, to: &'static str) -> Key {
    Key {
        name,
        scope,
        fate: Fate::Carried(to),
    }
}

const fn given(scope: Scope, name: &'static str, why: &'static str) -> Key {
    Key {
        name,
        scope,
        fate: Fate::Given(why),
    }
}

const fn left(scope: Scope, name: &'static str, why: &'static str, hint: &'static str) -> Key {
    Key {
        name,
        scope,
        fate: Fate::Left(why, hint),
    }
}

use Scope::{Bridge, Global, Listener, Security};

const BRIDGE: &str = "part of a bridge; routes take what it brought to Kafka, see `connection`";
const TLS_CHOICE: &str = "ciphers and engines of TLS are not to be chosen";
const TLS_HINT: &str = "leave it out";
const PSK: &str = "TLS with pre-shared keys is not built";
const PSK_HINT: &str = "give the clients certificates or passwords";
const LOG_HINT: &str = "redirect standard error, or let the service manager keep it (journald, Docker)";
const PLUGIN: &str = "plugins can't be loaded";
const PLUGIN_HINT: &str = "put users in `auth.password_file`, rules in `auth.acl_file` or [[acl]]";
const WS_HINT: &str = "leave it out";

/// All of them, in alphabetical order.
pub const KEYS: &[Key] = &[
    carried(Listener, "accept_protocol_versions", "listener.versions"),
    carried(Security, "acl_file", "auth.acl_file, listener.acl_file"),
    left(Bridge, "address", BRIDGE, ""),
    left(Bridge, "addresses", BRIDGE, ""),
    carried(
        Security,
        "allow_anonymous",
        "auth.allow_anonymous, listener.allow_anonymous",
    ),
    left(
        Global,
        "allow_duplicate_messages",
        "one copy goes to a client for overlapping subscriptions, whatever this says",
        "leave it out",
    ),
    left(
        Security,
        "allow_zero_length_clientid",
        "clients without an id are always given one",
        "leave it out",
    ),
    left(Security, "auth_opt_*", PLUGIN, PLUGIN_HINT),
    left(Security, "auth_plugin", PLUGIN, PLUGIN_HINT),
    left(Security, "auth_plugin_deny_special_chars", PLUGIN, PLUGIN_HINT),
    left(
        Security,
        "auto_id_prefix",
        "ids that the broker chooses have no prefix of their own",
        "key records by a level of the topic instead of the client id",
    ),
    given(Global, "autosave_interval", "what is acknowledged is on disk"),
    given(Global, "autosave_on_changes", "what is acknowledged is on disk"),
    carried(Listener, "bind_address", "listener.bind"),
    left(
        Listener,
        "bind_interface",
        "a listener has an address, not an interface",
        "write the interface's address in `listener.bind`",
    ),
    left(Bridge, "bridge_*", BRIDGE, ""),
    carried(Listener, "cafile", "listener.tls.client_ca"),
    left(
        Listener,
        "capath",
        "authorities are in one file",
        "put the certificates of the folder into one file: `listener.tls.client_ca`",
    ),
    carried(Listener, "certfile", "listener.tls.cert"),
    left(
        Global,
        "check_retain_source",
        "a retained message is not checked again when it is delivered",
        "leave it out",
    ),
    left(Listener, "ciphers", TLS_CHOICE, TLS_HINT),
    left(Listener, "ciphers_tls1.3", TLS_CHOICE, TLS_HINT),
    left(Bridge, "cleansession", BRIDGE, ""),
    left(Bridge, "clientid", BRIDGE, ""),
    left(
        Global,
        "clientid_prefixes",
        "client ids are not checked for a prefix",
        "say who may connect by `auth.password_file`",
    ),
    left(
        Bridge,
        "connection",
        "bridges are not built",
        "routes take what it brought to Kafka; see the [[route]] sections that are written as comments",
    ),
    left(
        Global,
        "connection_messages",
        "connections are logged at level info, all or none",
        "set `log.level`",
    ),
    carried(Listener, "crlfile", "listener.tls.crl"),
    left(Listener, "dhparamfile", TLS_CHOICE, TLS_HINT),
    left(Listener, "disable_client_cert_date_checks", TLS_CHOICE, TLS_HINT),
    left(
        Global,
        "enable_control_api",
        "there are no topics under $CONTROL",
        "leave it out",
    ),
    carried(Global, "global_max_clients", "session.max_kept"),
    carried(Global, "global_max_connections", "limits.max_connections"),
    left(
        Listener,
        "http_dir",
        "a listener serves no files",
        "serve them by a web server",
    ),
    left(Bridge, "idle_timeout", BRIDGE, ""),
    carried(Global, "include_dir", "the files are read as if they stood there"),
    left(Bridge, "keepalive_interval", BRIDGE, ""),
    carried(Listener, "keyfile", "listener.tls.key"),
    carried(Listener, "listener", "listener.bind"),
    carried(Listener, "listener_allow_anonymous", "listener.allow_anonymous"),
    left(
        Listener,
        "listener_auto_id_prefix",
        "ids that the broker chooses have no prefix of their own",
        "key records by a level of the topic instead of the client id",
    ),
    left(Bridge, "local_cleansession", BRIDGE, ""),
    left(Bridge, "local_clientid", BRIDGE, ""),
    left(Bridge, "local_password", BRIDGE, ""),
    left(Bridge, "local_username", BRIDGE, ""),
    carried(
        Global,
        "log_dest",
        "standard error is where the log goes; other places are told",
    ),
    left(Global, "log_facility", "the log goes to standard error", LOG_HINT),
    given(Global, "log_timestamp", "each line has its time"),
    given(Global, "log_timestamp_format", "times are in RFC 3339, in UTC"),
    carried(Global, "log_type", "log.level"),
    carried(Listener, "max_connections", "listener.max_connections"),
    left(
        Global,
        "max_inflight_bytes",
        "messages on their way to a client are bounded by number",
        "set `limits.max_inflight_messages`",
    ),
    carried(Global, "max_inflight_messages", "limits.max_inflight_messages"),
    carried(Global, "max_keepalive", "limits.max_keep_alive_s"),
    carried(Global, "max_packet_size", "limits.max_packet_bytes"),
    left(Listener, "max_qos", "every QoS is taken", "leave it out"),
    carried(Global, "max_queued_bytes", "limits.max_queued_bytes"),
    carried(Global, "max_queued_messages", "limits.max_queued_messages"),
    carried(Listener, "max_topic_alias", "limits.topic_alias_maximum"),
    carried(
        Listener,
        "max_topic_alias_broker",
        "limits.topic_alias_maximum_out",
    ),
    left(
        Global,
        "memory_limit",
        "memory is bounded by what it is used for",
        "see the bounds in [limits], and let the service manager bound the whole (MemoryMax=)",
    ),
    carried(Global, "message_size_limit", "limits.max_packet_bytes"),
    carried(
        Listener,
        "mount_point",
        "`listener.mount_point`; must end with `/`",
    ),
    left(Bridge, "notification_topic", BRIDGE, ""),
    left(Bridge, "notifications", BRIDGE, ""),
    left(Bridge, "notifications_local_only", BRIDGE, ""),
    left(
        Global,
        "packet_buffer_size",
        "buffers grow with what they hold",
        "leave it out",
    ),
    left(Bridge, "password", BRIDGE, ""),
    carried(
        Security,
        "password_file",
        "auth.password_file, listener.password_file",
    ),
    carried(
        Global,
        "per_listener_settings",
        "listener.allow_anonymous, listener.password_file, listener.acl_file",
    ),
    carried(Global, "persistence", "node.data_dir"),
    left(
        Global,
        "persistence_file",
        "mosquitto.db is not read: sessions and retained messages begin empty",
        "let clients that keep sessions connect once before the change is final, and publish retained messages again",
    ),
    carried(Global, "persistence_location", "node.data_dir"),
    carried(Global, "persistent_client_expiration", "session.max_expiry_s"),
    left(
        Global,
        "pid_file",
        "no such file is written",
        "let the service manager know the process (systemd's Type=exec)",
    ),
    left(Security, "plugin", PLUGIN, PLUGIN_HINT),
    left(Security, "plugin_load", PLUGIN, PLUGIN_HINT),
    left(Security, "plugin_opt_*", PLUGIN, PLUGIN_HINT),
    left(Security, "plugin_use", PLUGIN, PLUGIN_HINT),
    carried(Listener, "port", "listener.bind"),
    carried(Listener, "protocol", "listener.transport"),
    left(Security, "psk_file", PSK, PSK_HINT),
    left(Listener, "psk_hint", PSK, PSK_HINT),
    carried(Global, "queue_qos0_messages", "session.queue_qos0"),
    left(Bridge, "remote_clientid", BRIDGE, ""),
    left(Bridge, "remote_password", BRIDGE, ""),
    left(Bridge, "remote_username", BRIDGE, ""),
    carried(Listener, "require_certificate", "listener.tls.client_cert"),
    left(Bridge, "restart_timeout", BRIDGE, ""),
    carried(Global, "retain_available", "limits.max_retained_messages"),
    left(
        Global,
        "retain_expiry_interval",
        "retained messages expire by the Message Expiry of their publisher alone",
        "set it where they are published (MQTT 5)",
    ),
    given(
        Global,
        "retained_persistence",
        "retained messages are kept on disk",
    ),
    left(
        Global,
        "retry_interval",
        "messages are sent again when a client connects again, as the standard says",
        "leave it out",
    ),
    left(Bridge, "round_robin", BRIDGE, ""),
    given(Global, "set_tcp_nodelay", "small packets are never held back"),
    carried(Listener, "socket_domain", "listener.bind"),
    left(Bridge, "start_type", BRIDGE, ""),
    given(Global, "store_clean_interval", "there is nothing to clean"),
    carried(Global, "sys_interval", "sys.interval_s"),
    left(Bridge, "threshold", BRIDGE, ""),
    left(Listener, "tls_engine", TLS_CHOICE, TLS_HINT),
    left(Listener, "tls_engine_kpass_sha1", TLS_CHOICE, TLS_HINT),
    left(Listener, "tls_keyform", TLS_CHOICE, TLS_HINT),
    carried(Listener, "tls_version", "listener.tls.min_version"),
    left(Bridge, "topic", BRIDGE, ""),
    left(
        Global,
        "trace_level",
        "what is logged is said by `log.level`",
        "leave it out",
    ),
    left(Bridge, "try_private", BRIDGE, ""),
    left(
        Global,
        "upgrade_outgoing_qos",
        "messages go out at the lower of both QoS, as the standard says",
        "publish at the QoS that is wanted",
    ),
    left(
        Listener,
        "use_identity_as_username",
        "a certificate's name is no user name yet",
        "say who may connect by `auth.password_file`",
    ),
    left(
        Listener,
        "use_subject_as_username",
        "a certificate's name is no user name yet",
        "say who may connect by `auth.password_file`",
    ),
    left(
        Listener,
        "use_username_as_clientid",
        "a client's id is what it says it is",
        "key records by {username} in the routes",
    ),
    left(
        Global,
        "user",
        "it runs as who starts it",
        "name the user in the service (systemd's User=)",
    ),
    left(Bridge, "username", BRIDGE, ""),
    left(
        Listener,
        "websockets_headers_size",
        "a WebSocket's headers have a fixed bound",
        WS_HINT,
    ),
    left(
        Global,
        "websockets_log_level",
        "WebSockets are logged as everything is",
        WS_HINT,
    ),
    carried(Listener, "websockets_origin", "listener.origins"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("../../../docs/from-mosquitto.md");

    /// A key's row: its name, and what becomes of it.
    fn row(key: &Key) -> String {
        let fate = match key.fate {
            Fate::Carried(to) if to.contains(' ') && !to.contains(',') => to.to_owned(),
            Fate::Carried(to) if to.contains(';') => to.to_owned(),
            Fate::Carried(to) => to
                .split(", ")
                .map(|to| format!("`{to}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Fate::Given(why) => format!("nothing to write: {why}"),
            Fate::Left(why, "") => format!("not carried over: {why}"),
            Fate::Left(why, hint) => format!("not carried over: {why}; {hint}"),
        };
        format!("| `{}` | {fate} |", key.name)
    }

    #[test]
    fn the_table_for_people_has_each_key_and_no_other() {
        let written: Vec<&str> = TABLE.lines().filter(|line| line.starts_with("| `")).collect();
        let known: Vec<String> = KEYS.iter().map(row).collect();
        assert_eq!(
            written,
            known,
            "docs/from-mosquitto.md should hold:\n{}",
            known.join("\n")
        );
    }

    #[test]
    fn keys_are_in_order_and_stand_once() {
        assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn families_of_keys_are_found_by_their_beginning() {
        assert_eq!(find("auth_opt_db_host").map(|key| key.name), Some("auth_opt_*"));
        assert_eq!(find("bridge_cafile").map(|key| key.scope), Some(Scope::Bridge));
        assert!(find("no_such_key").is_none());
    }
}
