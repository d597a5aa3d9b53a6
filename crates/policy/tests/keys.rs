//! Keys: their form, their digests, and what is never taken for one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::collections::HashSet;

use policy::key::{
    Digest, DigestMap, KeyText, Pepper, is_admin_token, is_key, last_four, parse_sha256, sha256,
};
use proptest::prelude::*;

/// The bytes 0 to 31.
fn counting() -> [u8; 32] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

#[test]
fn a_key_is_what_the_random_bits_say() {
    let keys = [
        ([0; 32], "mk-00000000000000000000000000000000000000000003REsEb"),
        ([255; 32], "mk-yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp10ISSrh"),
        (counting(), "mk-003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf2lBSvh"),
    ];
    for (random, text) in keys {
        assert_eq!(KeyText::generate(random).expose(), text);
        assert_eq!(KeyText::parse(text).unwrap().expose(), text);
    }
    let admin = "mat-003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3gyKnL";
    assert_eq!(KeyText::generate_admin(counting()).expose(), admin);
    assert_eq!(KeyText::parse_admin(admin).unwrap().expose(), admin);
}

#[test]
fn a_key_is_no_admin_token_and_no_admin_token_a_key() {
    let (key, admin) = (KeyText::generate(counting()), KeyText::generate_admin(counting()));
    assert!(is_key(key.expose()) && !is_admin_token(key.expose()));
    assert!(is_admin_token(admin.expose()) && !is_key(admin.expose()));
    // Nor by its other prefix: the checksum is over it.
    assert!(!is_key(&admin.expose().replace("mat-", "mk-")));
    assert!(!is_admin_token(&key.expose().replace("mk-", "mat-")));
}

#[test]
fn no_key_has_one_character_wrong_or_two_in_the_wrong_order() {
    let key = KeyText::generate(counting());
    let bytes = key.expose().as_bytes();
    for at in 0..bytes.len() {
        for other in 0..=255 {
            let mut wrong = bytes.to_vec();
            wrong[at] = other;
            let taken = std::str::from_utf8(&wrong).is_ok_and(is_key);
            assert_eq!(taken, other == bytes[at], "{at} {other}");
        }
        for next in at + 1..bytes.len() {
            let mut wrong = bytes.to_vec();
            wrong.swap(at, next);
            assert_eq!(is_key(std::str::from_utf8(&wrong).unwrap()), bytes[at] == bytes[next]);
        }
    }
}

/// A text with the checksum that belongs to it.
fn checked(front: &str) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (mut rest, mut check) = (crc32fast::hash(front.as_bytes()) as usize, String::new());
    for _ in 0..6 {
        check.insert(0, char::from(DIGITS[rest % 62]));
        rest /= 62;
    }
    format!("{front}{check}")
}

#[test]
fn a_right_checksum_makes_no_key_of_another_text() {
    let body = &KeyText::generate(counting()).expose()[3..46].to_owned();
    assert!(
        is_key(&checked(&format!("mk-{body}"))) && is_admin_token(&checked(&format!("mat-{body}")))
    );
    for prefix in ["mk_", "MK-", "sk-", "mk", "mat-", "", "mkk-"] {
        assert!(!is_key(&checked(&format!("{prefix}{body}"))), "{prefix}");
    }
    for odd in ["'", "\0", " ", "-", "_", "+", "\u{7f}", "\u{e9}"] {
        for at in [0, 20, 43 - odd.len()] {
            let odd_body = format!("{}{odd}{}", &body[..at], &body[at + odd.len()..]);
            assert!(!is_key(&checked(&format!("mk-{odd_body}"))), "{odd:?}");
        }
    }
}

/// What somebody would try.
#[rustfmt::skip]
const TRIED: [&str; 71] = [
    "", " ", "mk-", "mk", "MK-", "mat-", "sk-", "null", "undefined", "None", "Bearer", "*", "%",
    "_", "\0", "\n", "\r\n", "\u{feff}", "\u{202e}", "'", "\"", "`", ";", "--", "/*", "*/", "#",
    "' OR '1'='1", "' OR 1=1 --", "\" OR \"\"=\"", "'; DROP TABLE keys; --", "1; SELECT 1",
    "' UNION SELECT token FROM keys --", "admin'--", "') OR ('1'='1", "'||(SELECT 1)||'",
    "' AND SLEEP(5) --", "'; SELECT pg_sleep(5) --", "${jndi:ldap://x/a}", "{{7*7}}",
    "<script>alert(1)</script>", "$(id)", "`id`", "| id", "& id", "../../etc/passwd",
    "..\\..\\boot.ini", "%2e%2e%2f", "%00", "%27", "{\"$ne\": null}", "[$ne]=1", "*)(uid=*", "\\",
    "\\'", "\\x27", "\u{2019} OR 1=1", "\u{ff07}", "master", "sk-1234", "test", "default", "mk-*",
    "mk-%", "mk-_", "true", "0", "-1", "NaN", "1e309", "eyJhbGciOiJub25lIn0.e30.",
];

/// What may come upon a key on its way.
#[rustfmt::skip]
const ODD: [&str; 22] = [
    " ", "\t", "\n", "\r\n", "\0", "'", "\"", ";", "--", "%", "*", ",", ".", "=", "\u{200b}",
    "\u{feff}", "\u{301}", "' OR '1'='1", "/*", "a", "0", "Bearer ",
];

/// All of that, and what may become of a good key on its way.
fn hostile() -> Vec<String> {
    let good = KeyText::generate(counting());
    let good = good.expose();
    let body = &good[3..];
    let mut texts: Vec<String> = TRIED.map(String::from).into();
    // A good key with something before it, behind it or in it, and in other letters.
    for odd in ODD {
        texts.extend([format!("{odd}{good}"), format!("{good}{odd}"), format!("mk-{odd}{body}")]);
        texts.push(format!("mk-{}{odd}{}", &body[..20], &body[20..]));
        texts.push(format!("mk-{}{odd}{}", &body[..20], body.get(20 + odd.len()..).unwrap()));
    }
    texts.extend([good.to_lowercase(), good.to_uppercase(), good.repeat(2), good[1..].into()]);
    texts.extend([good[..51].into(), good.chars().rev().collect(), format!("MK-{body}")]);
    texts.extend([format!("mk\u{2010}{body}"), format!("\u{43c}k-{body}"), format!("mk_{body}")]);
    texts.extend((1..=52).map(|length| "'".repeat(length)));
    texts.extend([
        "a".repeat(1 << 20),
        "\u{1f600}".repeat(13),
        "\u{e9}".repeat(26),
        "0".repeat(52),
    ]);
    texts
}

#[test]
fn hostile_credentials_have_no_form_of_a_key() {
    let texts = hostile();
    let different: HashSet<&String> = texts.iter().collect();
    assert!(different.len() >= 200, "{}", different.len());
    let pepper = Pepper::new([7; 32]);
    for text in &texts {
        assert!(KeyText::parse(text).is_none(), "{text:?}");
        assert!(KeyText::parse_admin(text).is_none(), "{text:?}");
        assert!(parse_sha256(text).is_none(), "{text:?}");
        assert!(!policy::jwt::looks_like_token(text), "{text:?}");
        assert!(last_four(text).chars().count() <= 4);
        let _ = pepper.digest(text.as_bytes());
    }
}

proptest! {
    #[test]
    fn every_key_reads_and_no_other_text_does(random: [u8; 32], text in "(mk-)?[!-~]{0,60}") {
        let key = KeyText::generate(random);
        prop_assert!(is_key(key.expose()) && key.expose().len() == 52);
        prop_assert!(!is_key(&text));
    }
}

#[test]
fn a_digest_is_the_hmac_of_the_sha256() {
    let pepper = Pepper::new([7; 32]);
    let key = KeyText::generate(counting());
    let digest = pepper.digest(key.expose().as_bytes());
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ce6c1729dbd3eb3c0e51336bbfeda29ea320e4c3f417ce36ec5027640dc23938");
    // So what a file holds in place of a key leads to the same holder.
    assert_eq!(pepper.upgrade(&sha256(key.expose().as_bytes())), digest);
    assert_eq!(Digest::from(*digest.as_bytes()), digest);
    assert_ne!(Pepper::new([8; 32]).digest(key.expose().as_bytes()), digest);
    assert_eq!(format!("{digest:?}"), "Digest(..)");
}

#[test]
fn a_sha256_is_written_in_full() {
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(parse_sha256(empty), Some(sha256(b"")));
    assert_eq!(parse_sha256(&empty.to_uppercase().replace("SHA256", "sha256")), Some(sha256(b"")));
    let zeros = "0".repeat(62);
    for wrong in ["", "sha256:", &empty[..70], &empty[7..], &format!("{empty}0")] {
        assert_eq!(parse_sha256(wrong), None, "{wrong}");
    }
    for odd in ["+1", " 1", "1 ", "-0", "0x", "\u{e9}", "g0"] {
        assert_eq!(parse_sha256(&format!("sha256:{zeros}{odd}")), None, "{odd}");
    }
}

/// S16: an identity found by part of a credential is somebody else's sooner or later.
#[test]
fn keys_that_begin_alike_never_cross() {
    const COUNT: usize = 50_000;
    let pepper = Pepper::new([7; 32]);
    let front = "x".repeat(200);
    let credential = |number: usize| format!("{front}{number}");
    let mut holders = DigestMap::default();
    for number in 0..COUNT {
        holders.insert(pepper.digest(credential(number).as_bytes()), number);
    }
    assert_eq!(holders.len(), COUNT);
    for number in 0..COUNT {
        assert_eq!(holders[&pepper.digest(credential(number).as_bytes())], number);
    }
    assert!(!holders.contains_key(&pepper.digest(front.as_bytes())));
}

#[test]
fn the_last_four_characters_are_shown_of_a_text_that_has_enough() {
    assert_eq!(last_four(KeyText::generate(counting()).expose()), "BSvh");
    assert_eq!(last_four("abcdefghijkl"), "ijkl");
    assert_eq!(last_four("abcdefghijk"), "");
    assert_eq!(last_four("\u{e9}\u{e8}\u{9e4a}\u{6865}abcdefg\u{e9}"), "efg\u{e9}");
}

#[test]
fn a_digest_of_texts_tells_where_one_ends_and_the_next_begins() {
    let (pepper, other) = (Pepper::new([1; 32]), Pepper::new([2; 32]));
    let lists: [&[&[u8]]; 6] = [&[], &[b""], &[b"ab"], &[b"a", b"b"], &[b"ab", b""], &[b"", b"ab"]];
    let digests: HashSet<_> = lists.iter().map(|list| *pepper.digest_of(list).as_bytes()).collect();
    assert_eq!(digests.len(), lists.len());
    assert_eq!(pepper.digest_of(&[b"a", b"b"]), pepper.digest_of(&[b"a", b"b"]));
    assert_ne!(pepper.digest_of(&[b"a"]), other.digest_of(&[b"a"]));
}
