//! What is read of a certificate or a list of revoked ones without checking it: from when to when it is valid, and its
//! public key. DER is walked by its lengths (X.690); what is not as it must be gives `None`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, which a certificate of version 1 has not.
const VERSION: u8 = 0xA0;

/// Values one behind the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag, what is in it, and all of its bytes.
    fn next(&mut self) -> Option<(u8, Der<'a>, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
                (len, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some((tag, Der(value), whole))
    }

    /// The next value, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next()
            .filter(|(found, ..)| *found == tag)
            .map(|(_, value, _)| value)
    }

    /// Steps over the next value if it has this tag.
    fn skip(&mut self, tag: u8) {
        let mut ahead = *self;
        if ahead.expect(tag).is_some() {
            *self = ahead;
        }
    }

    fn time(&mut self) -> Option<SystemTime> {
        match self.next()? {
            (UTC_TIME, text, _) => {
                let text = std::str::from_utf8(text.0).ok()?;
                let century = if text.get(..2)?.parse::<u8>().ok()? < 50 {
                    "20"
                } else {
                    "19"
                };
                instant(&format!("{century}{text}"))
            }
            (GENERALIZED_TIME, text, _) => instant(std::str::from_utf8(text.0).ok()?),
            _ => None,
        }
    }
}

/// What `YYYYMMDDHHMMSSZ` says; before 1970 it is 1970.
fn instant(text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z')?;
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    // Days since 1970 in a calendar whose years begin in March (Howard Hinnant's days_from_civil).
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let days =
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + part(8, 10)?) * 60 + part(10, 12)?) * 60 + part(12, 14)?;
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What a certificate says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// SubjectPublicKeyInfo, whole.
    pub public_key: &'a [u8],
    pub is_version_1: bool,
}

/// Reads a certificate (RFC 5280 section 4.1).
pub(super) fn certificate(der: &[u8]) -> Option<Certificate<'_>> {
    let mut fields = Der(der).expect(SEQUENCE)?.expect(SEQUENCE)?;
    let with_version = fields;
    fields.skip(VERSION);
    let is_version_1 = fields.0.len() == with_version.0.len();
    fields.expect(INTEGER)?; // serial number
    fields.expect(SEQUENCE)?; // how it is signed
    fields.expect(SEQUENCE)?; // issuer
    let mut validity = fields.expect(SEQUENCE)?;
    fields.expect(SEQUENCE)?; // subject
    let (tag, _, public_key) = fields.next()?;
    Some(Certificate {
        not_before: validity.time()?,
        not_after: validity.time()?,
        public_key: (tag == SEQUENCE).then_some(public_key)?,
        is_version_1,
    })
}

/// From when to when a certificate (DER) is valid by its own words.
pub fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    certificate(der).map(|read| (read.not_before, read.not_after))
}

/// When the next list is due, by a list of revoked certificates (RFC 5280 section 5.1).
pub(super) fn next_update(der: &[u8]) -> Option<SystemTime> {
    let mut fields = Der(der).expect(SEQUENCE)?.expect(SEQUENCE)?;
    fields.skip(INTEGER); // version
    fields.expect(SEQUENCE)?; // how it is signed
    fields.expect(SEQUENCE)?; // issuer
    fields.time()?;
    fields.time()
}

/// The day of `time`, as people write it.
pub(super) fn day(time: SystemTime) -> String {
    let days = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 86_400) as i64
        + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, over) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> u64 {
        instant(text)
            .unwrap()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn times_are_seconds_since_1970_and_days_again() {
        for (text, expected, shown) in [
            ("19700101000000Z", 0, "1970-01-01"),
            ("20000229120000Z", 951_825_600, "2000-02-29"),
            ("20261121204500Z", 1_795_293_900, "2026-11-21"),
            ("20991231235959Z", 4_102_444_799, "2099-12-31"),
            ("19500101000000Z", 0, "1970-01-01"),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
            assert_eq!(day(instant(text).unwrap()), shown);
        }
        for wrong in [
            "",
            "Z",
            "2026112120450Z",
            "20261121204500",
            "2026112120450xZ",
            "é",
        ] {
            assert_eq!(instant(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificate_says_when_it_is_valid_and_what_is_cut_says_nothing() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2060, 1, 2); // behind 2049 times are written in another way
        let made = params.self_signed(&key).unwrap();
        let read = certificate(made.der()).unwrap();
        assert_eq!(day(read.not_before), "2020-02-29");
        assert_eq!(day(read.not_after), "2060-01-02");
        assert!(!read.is_version_1);
        assert_eq!(
            read.public_key,
            rcgen::PublicKeyData::subject_public_key_info(&key)
        );
        let der: &[u8] = made.der();
        for len in 0..der.len() / 2 {
            assert_eq!(certificate(&der[..len]), None);
            let _ = next_update(&der[..len]);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = certificate(&bytes);
            let _ = next_update(&bytes);
            let nested = [&[0x30, 0x82, 1, 0x30, 0x30, 0x82, 1, 0x2C][..], &bytes].concat();
            let _ = certificate(&nested);
            let _ = next_update(&nested);
        }
    }
}
