//! Certificates that are made for a test: an authority, what it signs, and the files of a listener.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use forebay_broker::config::TlsConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// A certificate and its key, as PEM.
pub struct Leaf {
    pub cert: String,
    pub key: String,
}

/// Signs certificates, and lists those that are revoked.
pub struct Authority {
    pub cert: String,
    issuer: Issuer<'static, KeyPair>,
}

type Day = (i32, u8, u8);

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).unwrap().pem();
        Self {
            cert,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `name`, to the end of that day.
    pub fn leaf(&self, name: &str, serial: u64, not_after: Day) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(not_after.0, not_after.1, not_after.2);
        Leaf {
            cert: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// The list of those that are revoked, to the end of that day.
    pub fn list(&self, serials: &[u64], next_update: Day) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(next_update.0, next_update.1, next_update.2),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// The files of one listener, in a folder of their own.
pub struct Files {
    dir: tempfile::TempDir,
    pub authority: Authority,
}

impl Files {
    /// With a certificate for `localhost`.
    pub fn new() -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
            authority: Authority::new("An authority"),
        };
        files.serve(1);
        files.write("ca.pem", &files.authority.cert);
        files.write("crl.pem", &files.authority.list(&[], files.far()));
        files
    }

    /// A day that no test lives to see.
    pub fn far(&self) -> Day {
        (2096, 1, 1)
    }

    /// Gives the listener a certificate with this serial number.
    pub fn serve(&self, serial: u64) {
        let leaf = self.authority.leaf("localhost", serial, self.far());
        self.write("cert.pem", &leaf.cert);
        self.write("key.pem", &leaf.key);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Clients are not asked for certificates.
    pub fn tls(&self) -> TlsConfig {
        TlsConfig {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            client_ca: Some(self.path("ca.pem")),
            ..TlsConfig::default()
        }
    }

    /// A client that trusts the authority.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Leaf>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.cert.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(leaf) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
                )
                .unwrap(),
        })
    }
}

/// A day that is over.
pub const PAST: Day = (2021, 1, 1);

/// The day after tomorrow.
pub fn soon() -> Day {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let epoch = date_time_ymd(1970, 1, 1);
    let day = (epoch + since + std::time::Duration::from_secs(2 * 86_400)).date();
    (day.year(), day.month().into(), day.day())
}
