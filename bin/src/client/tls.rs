//! TLS of a client: the options of the Mosquitto clients, and whom they come to trust.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

const TLS: &str = "TLS";

/// Where systems keep the authorities that all programs trust.
const OF_THE_SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What asks for TLS, or for a proxy.
#[derive(Debug, Args)]
pub struct TlsOptions {
    /// File of the authorities that are trusted (PEM). It asks for TLS, and for port 8883 unless -p says another.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    cafile: Option<PathBuf>,
    /// Directory of such files, of which those that end with .crt or .pem are read.
    #[arg(long, value_name = "DIR", help_heading = TLS)]
    capath: Option<PathBuf>,
    /// Trust the authorities of this system.
    #[arg(long, help_heading = TLS)]
    tls_use_os_certs: bool,
    /// Certificate of this client (PEM).
    #[arg(long, value_name = "FILE", requires = "key", help_heading = TLS)]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = TLS)]
    key: Option<PathBuf>,
    /// Don't ask whether the broker's certificate is for the host that was named: whoever has any certificate of these
    /// authorities can be the broker then.
    #[arg(long, help_heading = TLS)]
    insecure: bool,
    /// tlsv1.3: that alone; tlsv1.2: that or later.
    #[arg(long, value_name = "VERSION", default_value = "tlsv1.2", help_heading = TLS)]
    tls_version: String,
    /// Protocol to ask for by ALPN, such as mqtt.
    #[arg(long, value_name = "PROTOCOL", help_heading = TLS)]
    tls_alpn: Option<String>,
    #[arg(long, hide = true)]
    keyform: Option<String>,
    #[arg(long, hide = true)]
    ciphers: Option<String>,
    #[arg(long, hide = true)]
    tls_engine: Option<String>,
    #[arg(long, hide = true)]
    tls_engine_kpass_sha1: Option<String>,
    #[arg(long, hide = true)]
    psk: Option<String>,
    #[arg(long, hide = true)]
    psk_identity: Option<String>,
    #[arg(long, hide = true)]
    proxy: Option<String>,
}

impl TlsOptions {
    /// Whether they ask for TLS by themselves.
    pub fn is_asked(&self) -> bool {
        self.cafile.is_some() || self.capath.is_some() || self.tls_use_os_certs
    }

    /// The TLS to use, if it was asked for; `by_url`: the URL asks for it.
    pub fn read(&self, by_url: bool) -> Result<Option<Tls>, String> {
        self.refuse()?;
        if !self.is_asked() && !by_url {
            let given = self.cert.is_some() || self.insecure || self.tls_alpn.is_some();
            return match given {
                true => Err("TLS needs --cafile, --capath or --tls-use-os-certs: whom to trust".to_owned()),
                false => Ok(None),
            };
        }
        let versions: &[_] = match self.tls_version.as_str() {
            "tlsv1.2" => &[&TLS12, &TLS13],
            "tlsv1.3" => &[&TLS13],
            other => return Err(format!("--tls-version: tlsv1.2 or tlsv1.3, not {other}")),
        };
        let trust = self.trust()?;
        let broken = |error: Error| format!("TLS can't be set up: {error}");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(broken)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|_| {
                    format!(
                        "{}: no private key without a passphrase can be read there",
                        key.display()
                    )
                })?;
                let joined = builder.with_client_auth_cert(chain, key);
                joined.map_err(|error| format!("{}: {error}", cert.display()))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self
            .tls_alpn
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        Ok(Some(Tls(Arc::new(config))))
    }

    fn refuse(&self) -> Result<(), String> {
        if self.proxy.is_some() {
            return Err("--proxy: connecting through a proxy is not built".to_owned());
        }
        let engine = [&self.tls_engine, &self.tls_engine_kpass_sha1, &self.ciphers];
        if engine.iter().any(|given| given.is_some()) {
            return Err(
                "ciphers and engines of TLS are not to be chosen: leave their options out".to_owned(),
            );
        }
        if self.keyform.as_ref().is_some_and(|form| form != "pem") {
            return Err("--keyform: keys are in files of PEM".to_owned());
        }
        if self.psk.is_some() || self.psk_identity.is_some() {
            return Err("--psk: TLS with pre-shared keys is not built".to_owned());
        }
        Ok(())
    }

    /// Whom to trust.
    fn trust(&self) -> Result<Trust, String> {
        let mut trusted = Vec::new();
        if let Some(file) = &self.cafile {
            trusted.extend(certificates(file)?);
        }
        if let Some(dir) = &self.capath {
            let told = |error: std::io::Error| format!("{}: {error}", dir.display());
            for entry in std::fs::read_dir(dir).map_err(told)? {
                let path = entry.map_err(told)?.path();
                if path.extension().is_some_and(|end| end == "crt" || end == "pem") {
                    trusted.extend(certificates(&path)?);
                }
            }
        }
        if self.tls_use_os_certs || !self.is_asked() {
            let file = OF_THE_SYSTEM.iter().map(Path::new).find(|file| file.exists());
            let file = file.ok_or("no authorities of this system were found: name them by --cafile")?;
            trusted.extend(certificates(file)?);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
                .build()
                .map_err(|_| "there is no authority among those that are trusted".to_owned())?;
        Ok(Trust {
            inner,
            trusted,
            any_name: self.insecure,
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(file).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("{}: no certificate (PEM) is in it", file.display())),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// TLS, ready to be used.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// What makes a connection of it.
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.0.clone())
    }
}

/// The name that the broker's certificate must have.
pub fn name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|_| format!("\"{host}\" can't be in a certificate"))
}

/// What went wrong, with what to do about it.
pub fn explained(error: &Error) -> String {
    let hint = match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "; connect by a name that is in the certificate (subjectAltName), or don't ask for it: --insecure"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; the broker's certificate is of another authority than those that are trusted"
        }
        Error::InvalidMessage(_) => "; does the broker speak TLS on this port?",
        Error::AlertReceived(_) => {
            "; the broker refuses the handshake: does it ask for a certificate (--cert, --key)?"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// As OpenSSL does it for the Mosquitto clients: a certificate that stands among the trusted ones is trusted itself,
/// whether it is an authority or not; and the name may be left out of it.
#[derive(Debug)]
struct Trust {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl Trust {
    /// Of a certificate that is trusted itself.
    fn own(&self, cert: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<ServerCertVerified, Error> {
        let (_, not_after) = forebay_broker::tls::validity(cert).ok_or(CertificateError::BadEncoding)?;
        if not_after < SystemTime::now() {
            return Err(CertificateError::Expired.into());
        }
        if !self.any_name {
            verify_server_name(&ParsedCertificate::try_from(cert)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self
            .trusted
            .iter()
            .any(|trusted| trusted.as_ref() == cert.as_ref())
        {
            return self.own(cert, name);
        }
        match self
            .inner
            .verify_server_cert(cert, intermediates, name, ocsp, now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
