//! What is read of a certificate or a list of revoked ones without checking it: from when to when it is valid, and its
//! public key. What is not as it must be gives `None`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

/// What a certificate says of itself.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    pub not_before: ASN1Time,
    pub not_after: ASN1Time,
    /// SubjectPublicKeyInfo, whole.
    pub public_key: &'a [u8],
}

/// Reads a certificate (RFC 5280 section 4.1).
pub(super) fn certificate(der: &[u8]) -> Option<Certificate<'_>> {
    let (_, read) = X509Certificate::from_der(der).ok()?;
    Some(Certificate {
        not_before: read.validity.not_before,
        not_after: read.validity.not_after,
        public_key: read.tbs_certificate.subject_pki.raw,
    })
}

/// From when to when a certificate (DER) is valid by its own words.
pub fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    certificate(der).map(|read| (instant(read.not_before), instant(read.not_after)))
}

/// When the next list is due, by a list of revoked certificates (RFC 5280 section 5.1).
pub(super) fn next_update(der: &[u8]) -> Option<ASN1Time> {
    CertificateRevocationList::from_der(der).ok()?.1.next_update()
}

/// Before 1970 it is 1970.
pub(super) fn instant(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// The day of `time`, as people write it.
pub(super) fn day(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_when_it_is_valid_and_what_is_cut_says_nothing() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1950, 2, 28);
        params.not_after = rcgen::date_time_ymd(2060, 1, 2); // behind 2049 times are written in another way
        let made = params.self_signed(&key).unwrap();
        let read = certificate(made.der()).unwrap();
        assert_eq!(day(read.not_before), "1950-02-28");
        assert_eq!(day(read.not_after), "2060-01-02");
        let end = UNIX_EPOCH + Duration::from_secs(2_840_227_200);
        assert_eq!(validity(made.der()), Some((UNIX_EPOCH, end)));
        assert_eq!(
            read.public_key,
            rcgen::PublicKeyData::subject_public_key_info(&key)
        );
        let der: &[u8] = made.der();
        for len in 0..der.len() {
            assert!(certificate(&der[..len]).is_none());
            assert!(next_update(&der[..len]).is_none());
        }
    }
}
