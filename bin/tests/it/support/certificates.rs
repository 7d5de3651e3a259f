//! Certificates that are made for a test, in a folder of their own: an authority, the broker's, and two of clients of which
//! the second is revoked.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

const REVOKED: u64 = 66;

pub struct Certificates {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "An authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = params.self_signed(&key).unwrap();
        let made = Self {
            dir: tempfile::tempdir().unwrap(),
            issuer: Issuer::new(params, key),
        };
        made.write("ca.pem", &authority.pem());
        made.leaf("server", 1);
        made.leaf("client", 65);
        made.leaf("revoked", REVOKED);
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2096, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(REVOKED),
                revocation_time: date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        made.write("crl.pem", &list.signed_by(&made.issuer).unwrap().pem().unwrap());
        made
    }

    /// Makes `NAME.pem` and `NAME.key`, for this machine.
    pub fn leaf(&self, name: &str, serial: u64) {
        self.leaf_for(&["localhost", "127.0.0.1"], name, serial);
    }

    /// The same for other hosts.
    pub fn leaf_for(&self, hosts: &[&str], name: &str, serial: u64) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.pem"), &cert.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// `[listener.tls]` with these files, and `more` of its keys.
    pub fn section(&self, more: &str) -> String {
        format!(
            "[listener.tls]\ncert = \"{}\"\nkey = \"{}\"\n{more}\n",
            self.path("server.pem"),
            self.path("server.key")
        )
    }

    /// The same, where clients must show a certificate that is not revoked.
    pub fn section_for_clients(&self) -> String {
        let more = format!(
            "client_ca = \"{}\"\ncrl = \"{}\"\nclient_cert = \"required\"",
            self.path("ca.pem"),
            self.path("crl.pem")
        );
        self.section(&more)
    }
}
