//! Handshakes that fail: what it was, what an operator can do about it, how often, and a log that nobody can flood.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use rustls::{AlertDescription, CertificateError, Error};

/// One failure is logged in this time; the next line says how many were not.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Failure {
    /// What came is not TLS: its first byte.
    Plaintext(u8),
    /// The client went away.
    Lost,
    /// It took more than its time.
    TooSlow,
    /// What rustls says.
    Tls(Error),
}

/// Labels of the counter, by [`Failure::kind`].
const KINDS: [&str; 7] = [
    "plaintext",
    "lost",
    "timeout",
    "client_certificate",
    "distrusted",
    "incompatible",
    "protocol",
];

impl Failure {
    /// What an error of a read stands for.
    pub fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::Tls(error.clone()),
            None => Self::Lost,
        }
    }

    /// Its place in [`KINDS`].
    fn kind(&self) -> usize {
        match self {
            Self::Plaintext(_) => 0,
            Self::Lost => 1,
            Self::TooSlow => 2,
            Self::Tls(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => 3,
            Self::Tls(Error::AlertReceived(alert)) if is_distrust(*alert) => 4,
            Self::Tls(Error::PeerIncompatible(_) | Error::AlertReceived(_)) => 5,
            Self::Tls(_) => 6,
        }
    }

    /// What happened, and what to do about it.
    fn explained(&self) -> (String, &'static str) {
        match self {
            Self::Plaintext(0x10) => (
                "MQTT without TLS came".to_owned(),
                "the client must use TLS here (mqtts://), or another listener",
            ),
            Self::Plaintext(b'A'..=b'Z') => (
                "HTTP without TLS came".to_owned(),
                "the client must use TLS here (wss://), or another listener",
            ),
            Self::Plaintext(_) => (
                "what came is not TLS".to_owned(),
                "is this the port for it? a load balancer in front needs proxy_protocol = true",
            ),
            Self::Lost => (
                "the client went away before the handshake was done".to_owned(),
                "it may not trust the certificate, or only have looked whether the port is open",
            ),
            Self::TooSlow => (
                "no handshake within limits.connect_timeout_s".to_owned(),
                "a slow link, or a client that waits for the server to begin",
            ),
            Self::Tls(error) => (error.to_string(), hint(error)),
        }
    }
}

/// Whether the client says by it that it does not take the certificate.
fn is_distrust(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
    )
}

fn hint(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => {
            "client_cert = \"required\": give the client a certificate of client_ca"
        }
        Error::InvalidCertificate(error) => certificate_hint(error),
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the client says that the certificate has expired: renew it, and see to the client's clock"
        }
        Error::AlertReceived(alert) if is_distrust(*alert) => {
            "the client does not trust the certificate: give it the authority (--cafile), see to the names in the certificate and to the intermediates in cert"
        }
        Error::AlertReceived(_) | Error::PeerIncompatible(_) => {
            "client and broker have no version or cipher in common: TLS 1.2 and 1.3 are taken, with ECDHE and AES-GCM or ChaCha20"
        }
        _ => "not TLS as it must be",
    }
}

fn certificate_hint(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "the client's certificate is of an authority that is not in client_ca"
        }
        CertificateError::Revoked => "the client's certificate is on the list in crl",
        CertificateError::UnknownRevocationStatus => {
            "crl has no list of the authority that made the client's certificate"
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "the list in crl has expired: put a new one there and send SIGHUP"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the client's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the client's certificate is not valid yet: see to the clocks"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the client's certificate is not for clients: its extendedKeyUsage must have clientAuth"
        }
        _ => {
            "the client's certificate is not taken: it must be X.509 version 3, signed with RSA of 2048 bits or more, P-256, P-384 or Ed25519"
        }
    }
}

/// What is told of one listener's handshakes.
pub(crate) struct Told {
    listener: String,
    succeeded: Counter,
    failed: [Counter; KINDS.len()],
    /// When the next line may be written, and how many were not.
    quiet: Mutex<(Option<Instant>, u64)>,
}

impl Told {
    pub fn new(listener: &str) -> Self {
        Self {
            listener: listener.to_owned(),
            succeeded: counter!(crate::metrics::TLS_HANDSHAKES),
            failed: KINDS.map(|reason| counter!(crate::metrics::TLS_FAILED, "reason" => reason)),
            quiet: Mutex::default(),
        }
    }

    /// Counts one that was done.
    pub fn succeeded(&self) {
        self.succeeded.increment(1);
    }

    /// Counts one that failed, and logs it unless another was just now.
    pub(super) fn failed(&self, failure: &Failure, peer: SocketAddr) {
        if let Some(counter) = self.failed.get(failure.kind()) {
            counter.increment(1);
        }
        let Some(unsaid) = self.may_log(Instant::now()) else {
            return;
        };
        let (why, hint) = failure.explained();
        tracing::info!(listener = self.listener, %peer, why, hint, unsaid, "no TLS handshake");
    }

    /// Whether a line may be written now: the number of those that were not.
    fn may_log(&self, now: Instant) -> Option<u64> {
        let mut quiet = self.quiet.lock().unwrap_or_else(|e| e.into_inner());
        if quiet.0.is_some_and(|until| now < until) {
            quiet.1 += 1;
            return None;
        }
        quiet.0 = Some(now + LOG_EVERY);
        Some(std::mem::take(&mut quiet.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_second_says_how_many_were_not() {
        let told = Told::new("mqtts");
        let start = Instant::now();
        assert_eq!(told.may_log(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(told.may_log(start), None);
        }
        assert_eq!(told.may_log(start + LOG_EVERY), Some(1000));
        assert_eq!(told.may_log(start + LOG_EVERY), None);
    }

    #[test]
    fn each_failure_has_its_label_and_its_hint() {
        let cases = [
            (Failure::Plaintext(0x10), "plaintext", "mqtts://"),
            (Failure::Plaintext(b'G'), "plaintext", "wss://"),
            (Failure::Lost, "lost", "trust"),
            (Failure::TooSlow, "timeout", "slow"),
            (
                Failure::Tls(Error::NoCertificatesPresented),
                "client_certificate",
                "client_ca",
            ),
            (
                Failure::Tls(CertificateError::Revoked.into()),
                "client_certificate",
                "crl",
            ),
            (
                Failure::Tls(Error::AlertReceived(AlertDescription::UnknownCA)),
                "distrusted",
                "--cafile",
            ),
            (
                Failure::Tls(Error::AlertReceived(AlertDescription::ProtocolVersion)),
                "incompatible",
                "TLS 1.2",
            ),
            (Failure::Tls(Error::DecryptError), "protocol", "TLS"),
        ];
        for (failure, kind, hint) in cases {
            assert_eq!(KINDS.get(failure.kind()), Some(&kind), "{failure:?}");
            assert!(failure.explained().1.contains(hint), "{failure:?}");
        }
    }
}
