//! The sections that make up the broker's configuration: node, listeners, limits, auth, acl, session, sys, spool, bus.

use std::collections::HashSet;
use std::path::PathBuf;

use forebay_broker::config::{
    Bind, BusConfig, Config, FullConfig, Limits, ListenerConfig, LogConfig, ToldConfig,
};
use forebay_broker::config::{ClientCert, EVERY_PATH, TlsConfig, TransportConfig, Versions, WebSocketConfig};
use forebay_broker::spool::SpoolConfig;

use super::auth::{self, Auth};
use super::fault::Faults;
use super::limits;
use super::reader::Section;
use super::tls;
use super::value::Table;

/// What an address looks like.
pub const ADDRESS: &str = "an address with its port such as \"0.0.0.0:1883\" or \"[::]:1883\"";

/// Greatest value of a number that has no bound of its own.
const ANY: i64 = u32::MAX as i64;

const MIB: u64 = 1024 * 1024;
/// No spool is greater: 1 PiB.
const SPOOL_MOST: u64 = 1 << 50;

/// Reads them all.
pub fn read(root: &Section<'_>, notices: &mut Vec<String>) -> (Config, PathBuf, Spool) {
    let node = root.section("node");
    let id = node.optional_text("id").unwrap_or_else(host_name);
    if !(1..=255).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        node.fault(
            "id",
            format!("\"{id}\" can't be this node's id"),
            "1 to 255 ASCII characters, no blank and no `/`",
        );
    }
    let workers = match node.integer("workers", 0..=1024) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let data_dir = PathBuf::from(node.text("data_dir"));
    let auth = auth::read(root);
    let spool = read_spool(root);
    let folder = data_dir.join("spool");
    let session = root.section("session");
    let limits = limits::read(root, &session);
    let config = Config {
        node_id: id,
        workers,
        listeners: read_listeners(root, &auth, &limits, notices),
        limits,
        acl: auth.rules.clone(),
        deny_action: auth.deny_action,
        bus: read_bus(root),
        sys_interval_s: root.section("sys").integer("interval_s", 0..=86_400),
        told: ToldConfig {
            response_information: session.optional_text("response_information"),
            server_reference: node.optional_text("server_reference"),
        },
        full: FullConfig {
            reject: spool.reject,
            drop_qos0: spool.drop_qos0,
            client_share_bytes: spool.client_share_bytes,
        },
        log: LogConfig::Disk(SpoolConfig {
            max_bytes: spool.max_bytes,
            segment_bytes: spool.segment_bytes,
            ..SpoolConfig::new(folder)
        }),
    };
    (config, data_dir, spool)
}

/// Adds what the broker itself finds wrong, at the place of the key that each fault names first.
pub fn add_faults(config: &Config, given: &Table, faults: &Faults) {
    for text in config.faults() {
        let place = given.place_of(match text.split_whitespace().next().unwrap_or_default() {
            "workers" => "node.workers",
            path => path,
        });
        if !faults.stands_at(&place) {
            faults.add(&place, text, "");
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn read_listeners(
    root: &Section<'_>,
    auth: &Auth,
    limits: &Limits,
    notices: &mut Vec<String>,
) -> Vec<ListenerConfig> {
    let mut sections = root.sections("listener");
    if sections.is_empty() && !root.has("listener") {
        sections.push(root.default_section("listener"));
    }
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    let mut names = HashSet::new();
    for section in &sections {
        let Some(listener) = read_listener(section, auth, limits, notices) else {
            continue;
        };
        let free_port = listener.bind.tcp().is_some_and(|address| address.port() == 0);
        let taken = |other: &ListenerConfig| other.bind == listener.bind && !free_port;
        if let Some(other) = listeners.iter().find(|other| taken(other)) {
            section.fault(
                "bind",
                format!("{} is listener {} already", listener.bind, other.name),
                "each listener needs an address of its own",
            );
        } else if !names.insert(listener.name.clone()) {
            section.fault(
                "name",
                format!("there is a listener \"{}\" already", listener.name),
                "each listener needs a name of its own",
            );
        }
        listeners.push(listener);
    }
    listeners
}

fn read_listener(
    section: &Section<'_>,
    auth: &Auth,
    limits: &Limits,
    notices: &mut Vec<String>,
) -> Option<ListenerConfig> {
    let tls = tls::read(section);
    let own_limits = limits::of_listener(section, limits);
    let name = section.optional_text("name");
    let transport = read_transport(section);
    let proxy_protocol = section.flag("proxy_protocol");
    let socket_mode = section.parsed("socket_mode", SOCKET_MODE, socket_mode);
    let versions = section.parsed_list("versions", VERSIONS, versions);
    let max_connections = section.integer("max_connections", 0..=ANY);
    let max_connect_rate_per_address = section.integer("max_connect_rate_per_address", 0..=ANY);
    let bind: Bind = section.parsed("bind", BIND, |text| text.parse().ok())?;
    let name = name.unwrap_or_else(|| bind.to_string());
    let access = auth.of_listener(section, &name);
    let (allow_anonymous, loopback_only) = (access.allow_anonymous, access.loopback_only);
    if loopback_only {
        notices.push(format!(
            "listener {name}: only clients on this machine may connect; to let others in, say who in [auth] (allow_anonymous = true: everyone)"
        ));
    } else if allow_anonymous && !bind.is_local() && !asks_for_certificates(&tls) {
        notices.push(format!("listener {name}: everyone who reaches {bind} may connect, without a password (allow_anonymous = true)"));
    }
    if proxy_protocol && !bind.is_local() {
        notices.push(format!("listener {name}: whoever reaches {bind} says itself where it comes from (proxy_protocol = true); let only the load balancers reach it"));
    }
    Some(ListenerConfig {
        name,
        bind,
        socket_mode: socket_mode.unwrap_or_default(),
        transport,
        proxy_protocol,
        tls,
        allow_anonymous,
        loopback_only,
        files: access.files,
        versions: versions.unwrap_or(Versions::NONE),
        mount_point: section.optional_text("mount_point").map(Into::into),
        max_connections,
        max_connect_rate_per_address,
        limits: own_limits,
    })
}

/// Whether nobody comes in without a certificate.
fn asks_for_certificates(tls: &Option<TlsConfig>) -> bool {
    tls.as_ref()
        .is_some_and(|tls| tls.client_cert == ClientCert::Required)
}

/// What a listener's address looks like.
const BIND: &str = "an address with its port such as \"0.0.0.0:1883\" or \"[::]:1883\", or \"unix:/PATH\"";

const SOCKET_MODE: &str = "permissions in octal such as \"0660\"";

fn socket_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

const VERSIONS: &str = "a list of \"3.1\", \"3.1.1\" and \"5.0\", at least one";

fn versions(names: &[String]) -> Option<Versions> {
    let mut versions = Versions::NONE;
    for name in names {
        match name.as_str() {
            "3.1" => versions.v31 = true,
            "3.1.1" => versions.v311 = true,
            "5" | "5.0" => versions.v5 = true,
            _ => return None,
        }
    }
    (versions != Versions::NONE).then_some(versions)
}

fn read_transport(section: &Section<'_>) -> TransportConfig {
    let path = section.parsed(
        "path",
        "a path such as \"/mqtt\", without blanks and `?`, or \"*\"",
        |text| {
            let fine = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'?');
            (fine || text == EVERY_PATH).then(|| text.to_owned())
        },
    );
    let origins = section.texts("origins");
    if section.choice("transport", &[("tcp", false), ("ws", true)]) {
        return TransportConfig::WebSocket(WebSocketConfig {
            path: path.unwrap_or_default(),
            origins,
        });
    }
    let default = WebSocketConfig::default();
    let given = [
        ("path", path.is_some_and(|path| path != default.path)),
        ("origins", !origins.is_empty()),
    ];
    for (key, _) in given.iter().filter(|(_, differs)| *differs) {
        section.fault(
            key,
            format!("`{}` is for WebSocket alone", section.name(key)),
            "set `transport = \"ws\"`, or leave it out",
        );
    }
    TransportConfig::Tcp
}

/// `[spool]`: the node's log on disk, and what is to be done when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spool {
    /// Bytes that it may take on disk.
    pub max_bytes: u64,
    /// Bytes of one file of it.
    pub segment_bytes: u64,
    /// MQTT 5 clients are told (0x97) instead of held.
    pub reject: bool,
    /// QoS 0 publishes are dropped instead of held.
    pub drop_qos0: bool,
    /// What one connection may add while the spool is more than half full.
    pub client_share_bytes: u64,
}

fn read_spool(root: &Section<'_>) -> Spool {
    let spool = root.section("spool");
    spool.removed(
        "memory_max_bytes",
        "the spool is on disk",
        "set spool.max_bytes, the bytes that it may take there",
    );
    let max_bytes = spool.size("max_bytes", 16 * MIB..=SPOOL_MOST);
    Spool {
        max_bytes,
        segment_bytes: spool.size("segment_bytes", MIB..=4096 * MIB),
        reject: spool.choice("when_full", &[("block", false), ("reject", true)]),
        drop_qos0: spool.choice("qos0_when_full", &[("block", false), ("drop", true)]),
        client_share_bytes: spool
            .optional_size("client_share_bytes", MIB..=SPOOL_MOST)
            .unwrap_or((max_bytes / 64).max(MIB)),
    }
}

fn read_bus(root: &Section<'_>) -> BusConfig {
    let bus = root.section("bus");
    BusConfig {
        chunk_bytes: bus.bytes("chunk_bytes"),
        window_chunks: bus.integer("window_chunks", 2..=128),
        max_wait_ms: bus.integer("max_wait_ms", 0..=1000),
        resend_after_ms: bus.integer("resend_after_ms", 100..=60_000),
    }
}
