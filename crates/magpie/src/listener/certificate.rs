//! What has to be known of a certificate: whom it names, and how long it lasts.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use yasna::models::{ObjectIdentifier, TaggedDerValue};
use yasna::tags::{
    TAG_IA5STRING, TAG_NUMERICSTRING, TAG_PRINTABLESTRING, TAG_UTCTIME, TAG_UTF8STRING,
};
use yasna::{ASN1Result, BERReader, Tag};

/// When a certificate begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

/// The attributes that RFC 4514 has letters for, and the one of e-mail that everybody uses.
const LETTERS: [(&[u64], &str); 11] = [
    (&[2, 5, 4, 3], "CN"),
    (&[2, 5, 4, 5], "serialNumber"),
    (&[2, 5, 4, 6], "C"),
    (&[2, 5, 4, 7], "L"),
    (&[2, 5, 4, 8], "ST"),
    (&[2, 5, 4, 9], "STREET"),
    (&[2, 5, 4, 10], "O"),
    (&[2, 5, 4, 11], "OU"),
    (&[0, 9, 2342, 19_200_300, 100, 1, 1], "UID"),
    (&[0, 9, 2342, 19_200_300, 100, 1, 25], "DC"),
    (&[1, 2, 840, 113_549, 1, 9, 1], "emailAddress"),
];

/// The forms of text that are read as such; the others are older than UTF-8.
const TEXTS: [Tag; 4] = [TAG_UTF8STRING, TAG_PRINTABLESTRING, TAG_IA5STRING, TAG_NUMERICSTRING];

/// The subject as RFC 4514 writes it, the most particular part first: `CN=ci,O=Lab`.
///
/// # Errors
/// If the bytes are no certificate.
pub(super) fn subject(der: &[u8]) -> ASN1Result<String> {
    read(der).map(|(_, subject)| subject)
}

/// When it begins and ends.
///
/// # Errors
/// If the bytes are no certificate.
pub(super) fn validity(der: &[u8]) -> ASN1Result<Validity> {
    read(der).map(|(validity, _)| validity)
}

fn read(der: &[u8]) -> ASN1Result<(Validity, String)> {
    yasna::parse_der(der, |certificate| {
        certificate.read_sequence(|certificate| {
            let found = certificate.next().read_sequence(|fields| {
                fields.read_optional(|version| version.read_tagged(Tag::context(0), skip))?;
                for _serial_algorithm_issuer in 0..3 {
                    skip(fields.next())?;
                }
                let validity = fields.next().read_sequence(|times| {
                    Ok(Validity { from: time(times.next())?, until: time(times.next())? })
                })?;
                let subject = name(fields.next())?;
                while fields.read_optional(skip)?.is_some() {}
                Ok((validity, subject))
            })?;
            for _algorithm_signature in 0..2 {
                skip(certificate.next())?;
            }
            Ok(found)
        })
    })
}

fn skip(reader: BERReader<'_, '_>) -> ASN1Result<()> {
    reader.read_der().map(drop)
}

fn time(reader: BERReader<'_, '_>) -> ASN1Result<SystemTime> {
    let seconds = match reader.lookahead_tag()? {
        TAG_UTCTIME => reader.read_utctime()?.datetime().unix_timestamp(),
        _ => reader.read_generalized_time()?.datetime().unix_timestamp(),
    };
    // Before 1970 is as long over as 1970.
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn name(reader: BERReader<'_, '_>) -> ASN1Result<String> {
    let mut parts = reader.collect_sequence_of(|part| {
        let mut attributes = Vec::new();
        part.read_set_of(|attribute| {
            attributes.push(attribute.read_sequence(|attribute| {
                let kind = attribute.next().read_oid()?;
                Ok(written(&kind, &attribute.next().read_tagged_der()?))
            })?);
            Ok(())
        })?;
        Ok(attributes.join("+"))
    })?;
    parts.reverse();
    Ok(parts.join(","))
}

/// `O=Lab`; a kind without letters has its numbers, and a value that is no text its bytes.
fn written(kind: &ObjectIdentifier, value: &TaggedDerValue) -> String {
    let known = LETTERS.iter().find(|(numbers, _)| *numbers == kind.components().as_slice());
    let mut out = match known {
        Some((_, letters)) => format!("{letters}="),
        None => format!("{kind}="),
    };
    let is_text = TEXTS.contains(&value.tag());
    match std::str::from_utf8(value.value()).ok().filter(|_| is_text) {
        Some(text) => escape(text, &mut out),
        None => {
            out.push('#');
            for byte in value.value() {
                // Writing to a String cannot fail.
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
    out
}

/// What has a meaning of its own in a subject has a backslash in front, so that no value can
/// pretend to be several.
fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let at_an_end = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if c.is_control() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "\\{byte:02X}");
            }
            continue;
        }
        if at_an_end || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn made(parts: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 11, 22);
        params.not_after = date_time_ymd(2061, 1, 2);
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in parts {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn subjects_read_as_rfc_4514_writes_them() {
        use DnType::{CommonName, CountryName, OrganizationName};
        let der = made(&[(CountryName, "CN"), (OrganizationName, "Lab"), (CommonName, "鹊桥 ci")]);
        assert_eq!(subject(&der).unwrap(), "CN=鹊桥 ci,O=Lab,C=CN");
        assert_eq!(subject(&made(&[])).unwrap(), "");
        let der = made(&[(CommonName, " a,O=\"Root\"+\\#\n ")]);
        assert_eq!(subject(&der).unwrap(), "CN=\\ a\\,O\\=\\\"Root\\\"\\+\\\\#\\0A\\ ");
        let der = made(&[(DnType::CustomDnType(vec![2, 5, 4, 12]), "Dr")]);
        assert_eq!(subject(&der).unwrap(), "2.5.4.12=Dr");
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        // The first is written with two digits for the year, the other with four.
        let expected = Validity { from: day(20_779), until: day(33_239) };
        assert_eq!(validity(&made(&[])).unwrap(), expected);
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        let der = made(&[(DnType::CommonName, "x")]);
        for end in 0..der.len() {
            assert!(subject(&der[..end]).is_err(), "cut at {end}");
        }
        assert!(subject(b"-----BEGIN CERTIFICATE-----").is_err());
    }
}
