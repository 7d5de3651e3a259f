//! The files of a listener's TLS: read whole, checked together, and read again when asked to. What was read last without
//! a fault is what new connections get.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use metrics::gauge;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::time::ASN1Time;

use super::failure::Told;
use super::x509;
use crate::config::{ClientCert, TlsConfig};

/// Bytes of a file at most: a list of a million revoked certificates fits.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// A certificate or list that ends within this time is told of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Something is wrong with a file of TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TlsFault {
    /// The key of `[listener.tls]` that names it.
    pub key: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.file.display(), self.text, self.hint)
    }
}

/// Gathers what is wrong, and what is worth a word.
#[derive(Default)]
struct Findings {
    faults: Vec<TlsFault>,
    notices: Vec<String>,
}

impl Findings {
    fn fault(&mut self, key: &'static str, file: &Path, text: impl Into<String>, hint: &str) {
        self.faults.push(TlsFault {
            key,
            file: file.to_owned(),
            text: text.into(),
            hint: hint.to_owned(),
        });
    }

    fn read(&mut self, key: &'static str, file: &Path) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|opened| opened.take(MOST_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Err(error) => self.fault(
                key,
                file,
                format!("can't be read: {error}"),
                "it must be there, and the user that runs Forebay must be allowed to read it",
            ),
            Ok(count) if count as u64 > MOST_BYTES => {
                self.fault(key, file, "is longer than 64 MiB", "is it the right file?");
            }
            Ok(_) => return Some(bytes),
        }
        None
    }

    /// All of one kind in a file of PEM; without any it is a fault.
    fn pem<T: PemObject>(&mut self, key: &'static str, file: &Path, what: &str) -> Vec<T> {
        let Some(bytes) = self.read(key, file) else {
            return Vec::new();
        };
        let hint = "it must be PEM: text with lines -----BEGIN ...----- and -----END ...-----";
        match T::pem_slice_iter(&bytes).collect::<Result<Vec<T>, _>>() {
            Ok(all) if !all.is_empty() => return all,
            Ok(_) => self.fault(key, file, format!("has no {what}"), hint),
            Err(error) => self.fault(key, file, format!("is no file of PEM: {error}"), hint),
        }
        Vec::new()
    }

    /// Says when something ends, if it is soon or past.
    fn end(&mut self, file: &Path, what: &str, end: ASN1Time, then: &str) {
        let day = x509::day(end);
        match x509::instant(end).duration_since(SystemTime::now()) {
            Err(_) => self
                .notices
                .push(format!("{}: the {what} expired on {day}: {then}", file.display())),
            Ok(left) if left < SOON => {
                self.notices.push(format!(
                    "{}: the {what} expires on {day}: then {then}",
                    file.display()
                ));
            }
            Ok(_) => {}
        }
    }
}

/// What was read without a fault.
#[derive(Debug)]
pub struct Checked {
    server: ServerConfig,
    /// When the certificate of the listener ends.
    pub not_after: SystemTime,
    /// What is fit and worth a word: what has expired, or will soon.
    pub notices: Vec<String>,
}

/// Reads the files that `config` names.
pub fn check(config: &TlsConfig) -> Result<Checked, Vec<TlsFault>> {
    let provider = Arc::new(ring::default_provider());
    let mut findings = Findings::default();
    let key = certified_key(config, &provider, &mut findings);
    let verifier = verifier(config, &provider, &mut findings);
    if let (Some((key, not_after)), Some(verifier), true) = (key, verifier, findings.faults.is_empty()) {
        match server(config, provider, key, verifier) {
            Ok(server) => {
                return Ok(Checked {
                    server,
                    not_after,
                    notices: findings.notices,
                });
            }
            Err(error) => findings.fault(
                "cert",
                &config.cert,
                error.to_string(),
                "TLS can't be set up by it",
            ),
        }
    }
    Err(findings.faults)
}

fn server(
    config: &TlsConfig,
    provider: Arc<CryptoProvider>,
    key: CertifiedKey,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = if config.only_tls13 {
        &[&TLS13]
    } else {
        &[&TLS13, &TLS12]
    };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    // Nothing is kept of a client that is gone. A ticket, which it keeps itself, saves the signature when it comes back;
    // but who must show a certificate shows it each time: it may be revoked by then.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    if config.client_cert == ClientCert::None {
        server.ticketer = ring::Ticketer::new()?;
        server.send_tls13_tickets = 1;
    }
    Ok(server)
}

/// The certificate with its key, and when it ends.
fn certified_key(
    config: &TlsConfig,
    provider: &CryptoProvider,
    findings: &mut Findings,
) -> Option<(CertifiedKey, SystemTime)> {
    let chain: Vec<CertificateDer<'static>> = findings.pem("cert", &config.cert, "certificate");
    let key = private_key(config, findings);
    let (first, key) = (chain.first()?, key?);
    let Some(read) = x509::certificate(first) else {
        findings.fault(
            "cert",
            &config.cert,
            "its first certificate can't be read",
            "the listener's own certificate stands first, those of intermediate authorities behind it",
        );
        return None;
    };
    let Ok(key) = provider.key_provider.load_private_key(key) else {
        findings.fault(
            "key",
            &config.key,
            "is of a kind that can't be used",
            "RSA of 2048 to 8192 bits, P-256, P-384 and Ed25519 can",
        );
        return None;
    };
    if key
        .public_key()
        .is_some_and(|own| own.as_ref() != read.public_key)
    {
        findings.fault(
            "key",
            &config.key,
            format!("is not the key of the certificate in {}", config.cert.display()),
            "the listener's own certificate stands first in its file; was one of the two renewed without the other?",
        );
        return None;
    }
    findings.end(&config.cert, "certificate", read.not_after, "clients refuse it");
    if x509::instant(read.not_before) > SystemTime::now() {
        let day = x509::day(read.not_before);
        let text = format!(
            "{}: the certificate is not valid before {day}: clients refuse it",
            config.cert.display()
        );
        findings.notices.push(text);
    }
    let not_after = x509::instant(read.not_after);
    Some((CertifiedKey::new(chain, key), not_after))
}

fn private_key(config: &TlsConfig, findings: &mut Findings) -> Option<PrivateKeyDer<'static>> {
    let bytes = findings.read("key", &config.key)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Some(key),
        Err(_) if bytes.windows(9).any(|part| part == b"ENCRYPTED") => {
            findings.fault(
                "key",
                &config.key,
                "is encrypted",
                "write it without a passphrase: openssl pkey -in KEY -out NEW; only Forebay's user may read that",
            );
            None
        }
        // What it says of the file may be of the key itself.
        Err(_) => {
            findings.fault(
                "key",
                &config.key,
                "has no private key",
                "it must be PEM, with a line -----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY",
            );
            None
        }
    }
}

/// Who clients must be.
fn verifier(
    config: &TlsConfig,
    provider: &Arc<CryptoProvider>,
    findings: &mut Findings,
) -> Option<Arc<dyn ClientCertVerifier>> {
    if config.client_cert == ClientCert::None {
        return Some(WebPkiClientVerifier::no_client_auth());
    }
    let file = config.client_ca.as_ref()?;
    let mut roots = RootCertStore::empty();
    for root in findings.pem::<CertificateDer<'static>>("client_ca", file, "certificate") {
        let end = x509::certificate(&root).map(|read| read.not_after);
        if let Some(end) = end {
            // It is a key and a name: whether it is over is not asked.
            findings.end(file, "authority", end, "its certificates are taken all the same");
        }
        if let Err(error) = roots.add(root) {
            findings.fault(
                "client_ca",
                file,
                format!("has a certificate that can't be used: {error}"),
                "certificates of authorities stand in it",
            );
        }
    }
    let mut lists = Vec::new();
    if let Some(file) = &config.crl {
        lists = findings.pem::<CertificateRevocationListDer<'static>>(
            "crl",
            file,
            "list of revoked certificates",
        );
        for end in lists.iter().filter_map(|list| x509::next_update(list)) {
            findings.end(file, "list", end, "no certificate of its authority is taken");
        }
    }
    if !findings.faults.is_empty() {
        return None;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if !lists.is_empty() {
        // As Mosquitto takes it: of the client's own certificate alone, which a list must speak of that is not over.
        builder = builder
            .with_crls(lists)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    if config.client_cert == ClientCert::Optional {
        builder = builder.allow_unauthenticated();
    }
    let built = builder.build();
    let at = config
        .crl
        .as_ref()
        .map_or(("client_ca", file), |crl| ("crl", crl));
    built
        .map_err(|error| {
            findings.fault(
                at.0,
                at.1,
                format!("can't be used: {error}"),
                "is it the right file?",
            )
        })
        .ok()
}

/// One listener's TLS while it runs.
pub(crate) struct Keys {
    listener: String,
    config: TlsConfig,
    current: ArcSwap<ServerConfig>,
    told: Told,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the files of `listener` for the first time.
    pub fn load(listener: &str, config: &TlsConfig) -> Result<Self, Vec<TlsFault>> {
        let checked = check(config)?;
        tell(listener, &checked);
        Ok(Self {
            listener: listener.to_owned(),
            config: config.clone(),
            current: ArcSwap::from_pointee(checked.server),
            told: Told::new(listener),
        })
    }

    /// Reads them again. With a fault in any of them all stay as they were.
    pub fn reload(&self) -> Result<(), Vec<TlsFault>> {
        let checked = check(&self.config)?;
        tell(&self.listener, &checked);
        for notice in &checked.notices {
            tracing::warn!(listener = self.listener, "{notice}");
        }
        self.current.store(Arc::new(checked.server));
        Ok(())
    }

    /// What a new connection gets.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// What is told of its handshakes.
    pub fn told(&self) -> &Told {
        &self.told
    }
}

fn tell(listener: &str, checked: &Checked) {
    let end = checked.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(crate::metrics::TLS_NOT_AFTER, "listener" => listener.to_owned()).set(end.as_secs_f64());
}
