//! `[listener.tls]`, and what is wrong with the files that it names.

use std::path::PathBuf;

use forebay_broker::config::{ClientCert, Config, TlsConfig};
use forebay_broker::tls;

use super::fault::Faults;
use super::reader::Section;
use super::value::{Table, Value};

const CLIENT_CERTS: &[(&str, ClientCert)] = &[
    ("none", ClientCert::None),
    ("optional", ClientCert::Optional),
    ("required", ClientCert::Required),
];

/// TLS of one listener, where it has that section.
pub fn read(listener: &Section<'_>) -> Option<TlsConfig> {
    let section = listener.section("tls");
    let path = |key: &'static str| {
        let text = section.optional_text(key).filter(|text| !text.is_empty());
        text.map(PathBuf::from)
    };
    let (cert, key) = (path("cert"), path("key"));
    let config = TlsConfig {
        client_ca: path("client_ca"),
        client_cert: section.choice("client_cert", CLIENT_CERTS),
        crl: path("crl"),
        only_tls13: section.choice("min_version", &[("1.2", false), ("1.3", true)]),
        ..TlsConfig::default()
    };
    if !section.is_given() {
        return None;
    }
    for (name, file) in [("cert", &cert), ("key", &key)] {
        if file.is_none() {
            section.fault(
                name,
                format!("`{}` is missing", section.name(name)),
                "TLS needs the listener's certificate and its key, in files of PEM; without TLS, leave [listener.tls] out",
            );
        }
    }
    Some(TlsConfig {
        cert: cert?,
        key: key?,
        ..config
    })
}

/// Reads the files that are named, to find what is wrong with them, and what is worth a word.
pub fn add_file_faults(config: &Config, given: &Table, faults: &Faults, notices: &mut Vec<String>) {
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(tls) = &listener.tls else { continue };
        match tls::check(tls) {
            Ok(checked) => notices.extend(
                checked
                    .notices
                    .into_iter()
                    .map(|notice| format!("listener {}: {notice}", listener.name)),
            ),
            Err(found) => {
                let own = given.list_item("listener", index);
                let section = own
                    .and_then(|own| own.get("tls"))
                    .and_then(|tls| match &tls.value {
                        Value::Table(table) => Some(table),
                        _ => None,
                    });
                for fault in found {
                    let place = section.and_then(|section| section.get(fault.key)).map_or_else(
                        || given.place_of(&format!("listener[{index}].tls")),
                        |node| node.place.clone(),
                    );
                    let text = format!("{}: {}", fault.file.display(), fault.text);
                    faults.add(&place, text, fault.hint);
                }
            }
        }
    }
}

/// What is fit and yet hardly meant.
pub fn add_notices(config: &Config, notices: &mut Vec<String>) {
    for listener in &config.listeners {
        let Some(tls) = &listener.tls else { continue };
        if tls.client_cert == ClientCert::None && tls.client_ca.is_some() {
            notices.push(format!(
                "listener {}: client_ca is of no use, since clients are not asked for a certificate; say client_cert = \"required\" or \"optional\"",
                listener.name
            ));
        }
    }
}
