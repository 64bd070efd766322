//! A reader for the DER of certificates and keys: how long a certificate is valid, and the kind of its key. Whether it
//! can be trusted is decided elsewhere.

use std::ops::RangeInclusive;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The context-specific tag of a certificate's version, and of the curve in a key of SEC 1.
const FIRST: u8 = 0xA0;

const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
/// `pkcs-7`: what follows the version in a PKCS#12 file.
const PKCS7: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07];
/// Curves and other algorithms, by their common names.
const NAMED: &[(&[u8], &str)] = &[
    (&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07], "P-256"),
    (&[0x2B, 0x81, 0x04, 0x00, 0x22], "P-384"),
    (&[0x2B, 0x65, 0x70], "Ed25519"),
    (&[0x2B, 0x81, 0x04, 0x00, 0x23], "P-521"),
    (&[0x2B, 0x81, 0x04, 0x00, 0x0A], "secp256k1"),
    (&[0x2B, 0x65, 0x71], "Ed448"),
    (&[0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04, 0x01], "DSA"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A], "RSA for PSS alone"),
];
const SUPPORTED: [&str; 3] = ["P-256", "P-384", "Ed25519"];

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// RSA, with this many bits.
    Rsa(usize),
    Named(&'static str),
}

impl KeyKind {
    /// Whether the cryptography here supports it, if RSA keys may have `rsa_bits` bits.
    pub(crate) fn is_supported(self, rsa_bits: &RangeInclusive<usize>) -> bool {
        match self {
            Self::Rsa(bits) => rsa_bits.contains(&bits),
            Self::Named(name) => SUPPORTED.contains(&name),
        }
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA with {bits} bits"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// When a certificate is valid, in seconds since 1970, both ends included.
pub(crate) fn validity(certificate: &[u8]) -> Option<RangeInclusive<u64>> {
    let mut rest = behind_issuer(certificate)?;
    let mut validity = expect(&mut rest, SEQUENCE)?;
    Some(time(&mut validity)?..=time(&mut validity)?)
}

/// The kind of a certificate's key.
pub(crate) fn certified_key(certificate: &[u8]) -> Option<KeyKind> {
    let mut rest = behind_issuer(certificate)?;
    let (_validity, _subject) = (expect(&mut rest, SEQUENCE)?, expect(&mut rest, SEQUENCE)?);
    let mut info = expect(&mut rest, SEQUENCE)?;
    let algorithm = expect(&mut info, SEQUENCE)?;
    let bits = expect(&mut info, BIT_STRING)?;
    // The first byte counts unused bits.
    kind(algorithm, || rsa_bits(&mut expect(&mut bits.get(1..)?, SEQUENCE)?))
}

/// The kind of a private key, in any of the three forms.
pub(super) fn private_key(mut key: &[u8]) -> Option<KeyKind> {
    let mut fields = expect(&mut key, SEQUENCE)?;
    let _version = expect(&mut fields, INTEGER)?;
    match *fields.first()? {
        // PKCS#1
        INTEGER => rsa_bits(&mut fields),
        // SEC 1
        OCTET_STRING => {
            let _key = expect(&mut fields, OCTET_STRING)?;
            named(expect(&mut expect(&mut fields, FIRST)?, OBJECT)?)
        }
        // PKCS#8
        _ => {
            let algorithm = expect(&mut fields, SEQUENCE)?;
            let mut inner = expect(&mut fields, OCTET_STRING)?;
            kind(algorithm, || {
                let mut key = expect(&mut inner, SEQUENCE)?;
                let _version = expect(&mut key, INTEGER)?;
                rsa_bits(&mut key)
            })
        }
    }
}

/// Whether it is a PKCS#12 file, written by browsers and Windows.
pub(super) fn is_pkcs12(mut file: &[u8]) -> bool {
    let mut read = || {
        let mut fields = expect(&mut file, SEQUENCE)?;
        let _version = expect(&mut fields, INTEGER)?;
        Some(expect(&mut expect(&mut fields, SEQUENCE)?, OBJECT)?.starts_with(PKCS7))
    };
    read().unwrap_or(false)
}

/// Whether it is an encrypted private key in PKCS#8: it begins with an algorithm instead of a version.
pub(super) fn is_encrypted_key(mut file: &[u8]) -> bool {
    let mut read = || {
        let mut fields = expect(&mut file, SEQUENCE)?;
        let (_algorithm, _key) = (expect(&mut fields, SEQUENCE)?, expect(&mut fields, OCTET_STRING)?);
        Some(fields.is_empty())
    };
    read().unwrap_or(false)
}

/// What follows the issuer in a certificate.
fn behind_issuer(mut certificate: &[u8]) -> Option<&[u8]> {
    let mut certificate = expect(&mut certificate, SEQUENCE)?;
    let mut rest = expect(&mut certificate, SEQUENCE)?;
    if rest.first() == Some(&FIRST) {
        element(&mut rest)?;
    }
    let (_serial, _algorithm) = (expect(&mut rest, INTEGER)?, expect(&mut rest, SEQUENCE)?);
    let _issuer = expect(&mut rest, SEQUENCE)?;
    Some(rest)
}

fn kind(mut algorithm: &[u8], bits: impl FnOnce() -> Option<KeyKind>) -> Option<KeyKind> {
    match expect(&mut algorithm, OBJECT)? {
        RSA => bits(),
        EC => named(expect(&mut algorithm, OBJECT)?),
        other => named(other),
    }
}

fn named(object: &[u8]) -> Option<KeyKind> {
    NAMED.iter().find(|(known, _)| *known == object).map(|(_, name)| KeyKind::Named(name))
}

/// Reads the modulus, and returns RSA with its number of bits.
fn rsa_bits(rest: &mut &[u8]) -> Option<KeyKind> {
    let modulus = expect(rest, INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let significant = &modulus[zeros..];
    let unused = significant.first().map_or(0, |first| first.leading_zeros() as usize);
    Some(KeyKind::Rsa(8 * significant.len() - unused))
}

/// Reads a time, in seconds since 1970.
fn time(rest: &mut &[u8]) -> Option<u64> {
    let (tag, text) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let number = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let (month, day) = (number(0)?, number(2)?);
    let (hour, minute, second) = (number(4)?, number(6)?, number(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    // A time before 1970 counts as 1970.
    Some(u64::try_from(seconds).unwrap_or(0))
}

/// Days from 1970 to a date of the Gregorian calendar; its years begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content) = element(rest)?;
    (found == tag).then_some(content)
}

/// Reads the next element: its tag and its content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, after) = rest.split_first()?;
    let (&length, after) = after.split_first()?;
    let (length, after) = match length {
        0..=0x7F => (usize::from(length), after),
        0x81..=0x84 => {
            let (bytes, after) = after.split_at_checked(usize::from(length & 0x7F))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), after)
        }
        _ => return None,
    };
    let (content, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

    use super::*;
    use crate::hostile::mutated;

    const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/certificate.pem");
    const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/key.pem");

    fn certificate() -> Vec<u8> {
        CertificateDer::from_pem_file(CERTIFICATE).unwrap().to_vec()
    }

    fn key() -> Vec<u8> {
        PrivateKeyDer::from_pem_file(KEY).unwrap().secret_der().to_vec()
    }

    #[test]
    fn a_certificate_tells_its_dates_and_a_key_its_kind() {
        let dates = validity(&certificate()).unwrap();
        assert!(dates.start() < dates.end(), "{dates:?}");
        let kind = certified_key(&certificate()).unwrap();
        assert!(kind.is_supported(&(2048..=8192)), "{kind}");
        assert_eq!(private_key(&key()), Some(kind));
        assert!(!is_pkcs12(&key()) && !is_pkcs12(&certificate()) && !is_encrypted_key(&key()));
    }

    #[test]
    fn times_are_read_in_both_forms_and_nothing_else_is() {
        let read = |tag: u8, text: &str| time(&mut &*[&[tag, text.len() as u8], text.as_bytes()].concat());
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(read(UTC_TIME, "500101000000Z"), Some(0), "1950");
        assert_eq!(read(GENERALIZED_TIME, "20240229120000Z"), Some(1_709_208_000));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for text in ["", "Z", "700101000000", "701301000000Z", "700100000000Z", "+00101000000Z", "7001010000é0Z"] {
            assert_eq!(read(UTC_TIME, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop_oneof![
            mutated(Just(certificate())),
            mutated(Just(key())),
            any::<Vec<u8>>(),
        ]) {
            validity(&bytes);
            certified_key(&bytes);
            private_key(&bytes);
            is_pkcs12(&bytes);
            is_encrypted_key(&bytes);
        }
    }
}
