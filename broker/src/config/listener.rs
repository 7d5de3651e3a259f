//! One listener: where it listens, what is spoken before MQTT, whom it lets in, its own bounds.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::Limits;
use crate::auth::ListenerFiles;
use crate::codec::{Version, topic};

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket in the file system, for clients on this machine.
    Unix(PathBuf),
}

impl Bind {
    /// The address, unless it is a socket in the file system.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path, if it is a socket in the file system.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|address| address.ip().is_loopback())
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A text that names no place to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an address with its port nor unix:/PATH")]
pub struct NoBind;

impl FromStr for Bind {
    type Err = NoBind;

    fn from_str(text: &str) -> Result<Self, NoBind> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(NoBind),
            None => text.parse().map(Self::Tcp).map_err(|_| NoBind),
        }
    }
}

/// What carries the MQTT packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TransportConfig {
    /// The byte stream itself.
    #[default]
    Tcp,
    /// Binary frames of WebSocket (MQTT section 6).
    WebSocket(WebSocketConfig),
}

/// The path of a WebSocket listener that takes every path.
pub const EVERY_PATH: &str = "*";

/// MQTT over WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// Path of the upgrade request, or [`EVERY_PATH`].
    pub path: String,
    /// Values of `Origin` that are let in; empty: any. Clients that send none are no browsers and are let in.
    pub origins: Vec<String>,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            path: "/mqtt".to_owned(),
            origins: Vec::new(),
        }
    }
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCert {
    /// They are not.
    #[default]
    None,
    /// One that is shown must be right.
    Optional,
    /// Each must show one.
    Required,
}

/// TLS on a listener. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// The listener's certificate, those of intermediate authorities behind it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients are asked for one.
    pub client_cert: ClientCert,
    /// Lists of certificates that are revoked.
    pub crl: Option<PathBuf>,
    /// TLS 1.2 is not taken.
    pub only_tls13: bool,
}

/// Which protocol versions a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// MQTT 3.1.
    pub v31: bool,
    /// MQTT 3.1.1.
    pub v311: bool,
    /// MQTT 5.0.
    pub v5: bool,
}

impl Versions {
    /// All that there are.
    pub const ALL: Self = Self {
        v31: true,
        v311: true,
        v5: true,
    };
    /// None: to begin a list with.
    pub const NONE: Self = Self {
        v31: false,
        v311: false,
        v5: false,
    };

    /// Whether `version` is taken.
    pub fn has(self, version: Version) -> bool {
        match version {
            Version::V31 => self.v31,
            Version::V311 => self.v311,
            Version::V5 => self.v5,
        }
    }
}

/// One listener.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Name in logs and metrics.
    pub name: String,
    /// Where it listens.
    pub bind: Bind,
    /// Permissions of a socket in the file system.
    pub socket_mode: u32,
    /// What carries the packets.
    pub transport: TransportConfig,
    /// Every connection begins with a PROXY header (version 1 or 2), which says where it comes from.
    pub proxy_protocol: bool,
    /// TLS, before all else but the PROXY header.
    pub tls: Option<TlsConfig>,
    /// Clients without a user name are let in.
    pub allow_anonymous: bool,
    /// Only peers on a loopback address are let in.
    pub loopback_only: bool,
    /// Its users.
    pub files: ListenerFiles,
    /// Protocol versions that are taken.
    pub versions: Versions,
    /// Stands before every topic of its clients, which do not see it: the rest of the broker knows the whole topic.
    pub mount_point: Option<Arc<str>>,
    /// Connections of this listener at a time, within [`super::Limits::max_connections`]; 0: no bound of its own.
    pub max_connections: usize,
    /// The same as [`Limits::max_connect_rate_per_address`], on this listener alone.
    pub max_connect_rate_per_address: u32,
    /// Bounds for its clients in place of [`super::Config::limits`], of those that are about one client or about what comes
    /// before its session.
    pub limits: Option<Box<Limits>>,
}

impl Default for ListenerConfig {
    /// A free port on this machine, for this machine.
    fn default() -> Self {
        Self {
            name: "mqtt".to_owned(),
            bind: Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            socket_mode: 0o660,
            transport: TransportConfig::Tcp,
            proxy_protocol: false,
            tls: None,
            allow_anonymous: true,
            loopback_only: true,
            files: ListenerFiles::default(),
            versions: Versions::ALL,
            mount_point: None,
            max_connections: 0,
            max_connect_rate_per_address: 0,
            limits: None,
        }
    }
}

/// What begins with `$` is the broker's own; a shared subscription's name is no topic. Whole levels only: behind `a`,
/// a client's `#` would be `a#`, which is no filter.
fn is_mount_point(mount: &str) -> bool {
    mount.len() <= 1024 && !mount.starts_with('$') && mount.ends_with('/') && topic::check_name(mount).is_ok()
}

impl ListenerConfig {
    /// What is wrong with it, each with its remedy. `index`: its place among the listeners.
    pub(super) fn add_faults(&self, index: usize, check: &mut dyn FnMut(bool, &str)) {
        let key = |key: &str, text: &str| format!("listener[{index}].{key} {text}");
        if let Some(limits) = &self.limits {
            limits.add_faults(&format!("listener[{index}].limits"), check);
        }
        if let TransportConfig::WebSocket(config) = &self.transport {
            let fine = config.path.starts_with('/')
                && config.path.bytes().all(|b| b.is_ascii_graphic() && b != b'?');
            check(
                fine || config.path == EVERY_PATH,
                &key("path", "must begin with `/`, without blanks and `?`, or be `*`"),
            );
        }
        if let Some(tls) = &self.tls {
            check(
                tls.client_cert == ClientCert::None || tls.client_ca.is_some(),
                &key(
                    "tls.client_ca",
                    "must name the authorities of the clients' certificates, or client_cert be \"none\"",
                ),
            );
            check(
                tls.client_cert != ClientCert::None || tls.crl.is_none(),
                &key(
                    "tls.crl",
                    "must be left out where clients are not asked for a certificate: set client_cert",
                ),
            );
        }
        if self.bind.unix().is_some() {
            check(
                !self.proxy_protocol,
                &key("proxy_protocol", "must be false on a unix socket"),
            );
            check(
                self.max_connect_rate_per_address == 0,
                &key(
                    "max_connect_rate_per_address",
                    "must be 0 on a unix socket: its clients have no addresses",
                ),
            );
        }
        let mount = self.mount_point.as_deref();
        check(
            mount.is_none_or(is_mount_point),
            &key(
                "mount_point",
                "must be the beginning of a topic and end with `/`: without `#` and `+`, not beginning with `$`, of at most 1024 bytes",
            ),
        );
        check(
            self.versions != Versions::NONE,
            &key("versions", "must name at least one"),
        );
    }
}
