//! Listeners: where they bind, what they speak, and whom they let in.

use std::net::IpAddr;

use super::Note;
use super::access;
use super::document::Block;
use super::read::{Conf, Listener, Setting};
use super::value::{flag, quoted};

/// The listeners that Mosquitto would open, the default one first.
pub fn active(conf: &Conf) -> Vec<&Listener> {
    let asked = ["port", "bind_address"]
        .iter()
        .any(|key| conf.default_listener.get(key).is_some());
    let default = (asked || conf.listeners.is_empty()).then_some(&conf.default_listener);
    default.into_iter().chain(&conf.listeners).collect()
}

/// Whether Mosquitto would serve this machine alone, as it does when nothing is said of listeners.
pub fn local_only(conf: &Conf) -> bool {
    conf.listeners.is_empty()
        && !["port", "bind_address"]
            .iter()
            .any(|key| conf.default_listener.get(key).is_some())
}

/// Writes a listener.
pub fn write(listener: &Listener, conf: &Conf, notes: &mut Vec<Note>) -> Block {
    let begin = listener
        .begin
        .as_ref()
        .or_else(|| listener.get("port"))
        .or_else(|| listener.get("bind_address"));
    let origin = begin.map(|setting| &setting.origin);
    let mut block = Block::new("[[listener]]", origin);
    match bind(listener, local_only(conf)) {
        Ok(bind) => block.bind("bind", &quoted(&bind), origin),
        Err(named) => {
            let why = format!("listener at {named}: a listener needs an address, not a name");
            leave(
                &mut block,
                begin,
                &why,
                "write the address in `bind` and take the `#` away",
                notes,
            );
            return block;
        }
    }
    write_transport(listener, &mut block, notes);
    if let Some(setting) = listener.get("mount_point") {
        block.bind("mount_point", &quoted(&setting.value), Some(&setting.origin));
        if !setting.value.ends_with('/') {
            let why = format!("mount_point {} ends within a level", setting.value);
            leave(
                &mut block,
                Some(setting),
                &why,
                "end it with `/` and take the `#` away; its clients' topics change by that",
                notes,
            );
            return block;
        }
    }
    if let Some(setting) = listener.get("max_connections").filter(|_| active(conf).len() > 1)
        && setting.value.parse::<u32>().is_ok()
    {
        block.set("max_connections", &setting.value, Some(&setting.origin));
    }
    access::of_listener(listener, conf, &mut block, notes);
    write_tls(listener, &mut block, notes);
    block
}

/// Takes the listener out, with a note at `at`.
pub fn leave(block: &mut Block, at: Option<&Setting>, why: &str, hint: &str, notes: &mut Vec<Note>) {
    block.take_out(why);
    notes.push(Note {
        origin: at.map(|setting| setting.origin.clone()),
        text: format!("{why}: the listener is left out"),
        hint: hint.to_owned(),
    });
}

/// The address, or the name that is none.
fn bind(listener: &Listener, local_only: bool) -> Result<String, String> {
    let (port, host) = match &listener.begin {
        Some(begin) => {
            let mut words = begin.value.splitn(2, char::is_whitespace);
            (words.next().unwrap_or_default(), words.next().map(str::trim))
        }
        None => {
            let of = |key| listener.get(key).map(|setting| setting.value.as_str());
            (of("port").unwrap_or("1883"), of("bind_address"))
        }
    };
    let port: u16 = port.parse().map_err(|_| format!("port {port}"))?;
    let host = host.filter(|host| !host.is_empty());
    if let Some(path) = host.filter(|_| port == 0) {
        return Ok(format!("unix:{path}"));
    }
    let domain = listener
        .get("socket_domain")
        .map(|setting| setting.value.as_str());
    let host = match host {
        None if local_only => "127.0.0.1",
        None if domain == Some("ipv4") => "0.0.0.0",
        None => "::",
        Some("localhost") if domain == Some("ipv6") => "::1",
        Some("localhost") => "127.0.0.1",
        Some(host) => host,
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => Ok(format!("{v4}:{port}")),
        Ok(IpAddr::V6(v6)) => Ok(format!("[{v6}]:{port}")),
        Err(_) => Err(host.to_owned()),
    }
}

fn write_transport(listener: &Listener, block: &mut Block, notes: &mut Vec<Note>) {
    if let Some(setting) = listener.get("protocol") {
        match setting.value.as_str() {
            "mqtt" => {}
            "websockets" => {
                block.bind("transport", "\"ws\"", Some(&setting.origin));
                block.bind("path", "\"*\"", Some(&setting.origin));
            }
            other => leave(
                block,
                Some(setting),
                &format!("protocol {other} is not built"),
                "",
                notes,
            ),
        }
    }
    let origins: Vec<&Setting> = listener
        .settings
        .iter()
        .filter(|setting| setting.key == "websockets_origin")
        .collect();
    if let Some(first) = origins.first() {
        let all: Vec<String> = origins.iter().map(|setting| quoted(&setting.value)).collect();
        block.bind("origins", &format!("[{}]", all.join(", ")), Some(&first.origin));
    }
    if let Some(setting) = listener.get("accept_protocol_versions") {
        let versions = setting
            .value
            .split(',')
            .filter_map(|version| match version.trim() {
                "3" => Some("\"3.1\""),
                "4" => Some("\"3.1.1\""),
                "5" => Some("\"5.0\""),
                _ => None,
            });
        let all: Vec<&str> = versions.collect();
        block.set(
            "versions",
            &format!("[{}]", all.join(", ")),
            Some(&setting.origin),
        );
    }
}

fn write_tls(listener: &Listener, block: &mut Block, notes: &mut Vec<Note>) {
    if let Some(setting) = listener.get("psk_hint") {
        return leave(
            block,
            Some(setting),
            "TLS with pre-shared keys is not built",
            "give the clients certificates or passwords",
            notes,
        );
    }
    let Some(cert) = listener.get("certfile").or_else(|| listener.get("keyfile")) else {
        return;
    };
    block.header("[listener.tls]", Some(&cert.origin));
    let required = listener
        .get("require_certificate")
        .filter(|setting| flag(&setting.value) == Some(true));
    let files = [
        ("certfile", "cert", true),
        ("keyfile", "key", true),
        // Without it clients are not asked for certificates, and their authorities are of no use.
        ("cafile", "client_ca", required.is_some()),
        ("crlfile", "crl", required.is_some()),
    ];
    for (key, to, used) in files {
        if let Some(setting) = listener.get(key).filter(|_| used) {
            block.bind(to, &quoted(&setting.value), Some(&setting.origin));
        }
    }
    if let Some(setting) = required {
        block.bind("client_cert", "\"required\"", Some(&setting.origin));
    }
    if let Some(setting) = listener.get("tls_version") {
        let lowest = if setting.value == "tlsv1.3" { "1.3" } else { "1.2" };
        block.bind("min_version", &quoted(lowest), Some(&setting.origin));
        if !matches!(setting.value.as_str(), "tlsv1.2" | "tlsv1.3") {
            notes.push(Note {
                origin: Some(setting.origin.clone()),
                text: format!("tls_version {}: TLS 1.2 and 1.3 alone are taken", setting.value),
                hint: "clients that know neither need another listener, without TLS".to_owned(),
            });
        }
    }
}
