//! The model of an upload is found in its form, also while the form is still arriving, and is
//! never taken from a file.

use proptest::prelude::*;
use proptest::sample::select;
use wire::multipart::{Rest, Search, boundary, find_field};

const BOUNDARY: &str = "----WebKitFormBoundary7MA4YWxkTrZu0gW";

/// A part with this disposition behind `form-data;`.
fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat()
}

/// The value of `model`, if it is found.
fn model(body: &[u8]) -> Option<&[u8]> {
    match find_field(body, BOUNDARY, "model") {
        Search::Found(place) => Some(&body[place]),
        Search::NeedMore | Search::Absent => None,
    }
}

/// Gives the body in ever longer prefixes: until there is an answer more has to be asked for, and
/// the first answer has to be the last.
fn every_cut(body: &[u8]) -> Search {
    let last = find_field(body, BOUNDARY, "model");
    let mut decided = false;
    for cut in 0..body.len() {
        let now = find_field(&body[..cut], BOUNDARY, "model");
        assert!(
            now == last || (now == Search::NeedMore && !decided),
            "{now:?} at {cut}, {last:?} at the end"
        );
        decided |= now != Search::NeedMore;
    }
    last
}

#[test]
fn the_model_is_found_in_front_of_the_file() {
    let body = form(&[
        part(r#"name="model""#, b"whisper-1"),
        part(r#"name="file"; filename="a.wav""#, &[0xff; 100]),
    ]);
    assert_eq!(model(&body), Some(&b"whisper-1"[..]));
    let upto_second = body.windows(4).rposition(|window| window == b"name").unwrap();
    assert_eq!(model(&body[..upto_second]), Some(&b"whisper-1"[..]), "the file need not be there");
}

#[test]
fn the_model_is_found_behind_a_file_of_100_kb() {
    let scramble = |place: u32| place.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    let mut noise: Vec<u8> = (0..100_000).map(scramble).collect();
    noise.extend_from_slice(b"\r\n--\r\n\r\n--\r\n");
    let body = form(&[
        part("name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav", &noise),
        part(r#"name="model""#, "通义-asr".as_bytes()),
        part(r#"name="language""#, b"zh"),
    ]);
    assert_eq!(model(&body), Some("通义-asr".as_bytes()));
    assert_eq!(find_field(&body[..50_000], BOUNDARY, "model"), Search::NeedMore);
    assert_eq!(find_field(&body[..100_000], BOUNDARY, "model"), Search::NeedMore);
}

#[test]
fn the_disposition_may_be_written_in_many_ways() {
    for disposition in [
        r#"name="model""#,
        "name=model",
        r#"NAME="model""#,
        r#" name = "model" "#,
        r#"name="model"; charset=utf-8"#,
        r#"x=";"; name="model""#,
        "name=\"model\"\r\nContent-Type: text/plain; charset=utf-8",
    ] {
        assert_eq!(model(&form(&[part(disposition, b"m")])), Some(&b"m"[..]), "{disposition}");
    }
    let lower = format!(
        "--{BOUNDARY}\r\ncontent-type: text/plain\r\ncontent-disposition:form-data;name=\"model\"\r\n\r\nm\r\n--{BOUNDARY}--"
    );
    assert_eq!(model(lower.as_bytes()), Some(&b"m"[..]));
}

#[test]
fn parts_of_another_name_are_not_the_model() {
    for disposition in [
        r#"name="models""#,
        r#"name="Model""#,
        r#"name="""#,
        r#"filename="model""#,
        r#"x-name="model""#,
        r#"name="file"; filename="a;name=model;b.wav""#,
        r#"name="file"; filename="a; name=\"model\"; b.wav""#,
        r#"name="file"; filename="\\\"; name=model""#,
        "name=\"file\"\r\nX-Content-Disposition: form-data; name=\"model\"",
        "name=\"file\"\r\nContent-Type: x; name=\"model\"",
    ] {
        let body = form(&[part(disposition, b"wrong")]);
        assert_eq!(find_field(&body, BOUNDARY, "model"), Search::Absent, "{disposition}");
        let body = form(&[part(disposition, b"wrong"), part("name=model", b"right")]);
        assert_eq!(model(&body), Some(&b"right"[..]), "{disposition}");
    }
}

#[test]
fn a_file_that_looks_like_a_form_is_still_a_file() {
    let inner = "Content-Disposition: form-data; name=\"model\"\r\n\r\nwrong\r\n";
    for content in [
        inner.to_owned(),
        format!("\r\n\r\n{inner}"),
        format!("--other\r\n{inner}--other--\r\n"),
        format!("no line begins with --{BOUNDARY}\r\n{inner}"),
        format!("\n--{BOUNDARY}\r\n{inner}"),
        format!("\r\n-{BOUNDARY}\r\n{inner}"),
        format!("\r\n--{}\r\n{inner}", &BOUNDARY[..BOUNDARY.len() - 1]),
    ] {
        let file = part(r#"name="file"; filename="a.txt""#, content.as_bytes());
        assert_eq!(
            find_field(&form(std::slice::from_ref(&file)), BOUNDARY, "model"),
            Search::Absent,
            "{content}"
        );
        let body = form(&[file, part("name=model", b"right")]);
        assert_eq!(model(&body), Some(&b"right"[..]), "{content}");
        every_cut(&body);
    }
}

#[test]
fn a_body_cut_anywhere_needs_more_until_the_answer_is_sure() {
    let file = part(
        "name=\"file\"; filename=\"a.bin\"\r\nContent-Type: x",
        b"\r\n\0name=\"model\"\r\n\r\n--\r\n",
    );
    for (parts, found) in [
        (vec![part("name=model", b"m-1"), file.clone()], true),
        (vec![file.clone(), part("name=\"model\"", b"m-1")], true),
        (vec![file.clone(), part("name=model", b""), file.clone()], true),
        (vec![file.clone(), part("name=language", b"zh")], false),
        (vec![], false),
    ] {
        let body = form(&parts);
        assert_eq!(matches!(every_cut(&body), Search::Found(_)), found);
        let with_preamble = [b"This is a form.\r\n", &body[..]].concat();
        assert_eq!(matches!(every_cut(&with_preamble), Search::Found(_)), found);
    }
}

#[test]
fn the_value_is_all_that_stands_between_its_head_and_the_next_line_of_the_boundary() {
    for content in ["", "m", "a\r\nb", "\r\n", "\r\n\r\n", " spaced ", "--", "--\r\n", "中文"] {
        let body = form(&[part("name=model", content.as_bytes())]);
        assert_eq!(model(&body), Some(content.as_bytes()), "{content:?}");
    }
    let shared =
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=model\r\n\r\n--{BOUNDARY}--");
    assert_eq!(model(shared.as_bytes()), Some(&b""[..]), "head and delimiter share a line end");
}

#[test]
fn the_end_of_the_form_is_the_end_of_the_search() {
    let body = [form(&[part("name=x", b"1")]), form(&[part("name=model", b"wrong")])].concat();
    assert_eq!(find_field(&body, BOUNDARY, "model"), Search::Absent);
    let garbage = format!("--{BOUNDARY}garbage");
    assert_eq!(find_field(garbage.as_bytes(), BOUNDARY, "model"), Search::Absent);
}

#[test]
fn bytes_that_are_no_form_never_hold_the_model() {
    assert_eq!(find_field(b"", BOUNDARY, "model"), Search::NeedMore);
    assert_eq!(find_field(br#"{"model":"x"}"#, BOUNDARY, "model"), Search::NeedMore);
    let headless = format!("--{BOUNDARY}\r\n\r\nname=model\r\n--{BOUNDARY}--\r\n");
    assert_eq!(find_field(headless.as_bytes(), BOUNDARY, "model"), Search::Absent);
    let binary_head = [
        b"--",
        BOUNDARY.as_bytes(),
        b"\r\n\xff: name=model\r\n\r\nx\r\n--",
        BOUNDARY.as_bytes(),
        b"--",
    ]
    .concat();
    assert_eq!(find_field(&binary_head, BOUNDARY, "model"), Search::Absent);
}

#[test]
fn the_boundary_is_read_from_the_content_type() {
    let longest = "b".repeat(70);
    for (content_type, wanted) in [
        ("multipart/form-data; boundary=abc", Some("abc")),
        ("multipart/form-data;boundary=abc", Some("abc")),
        (r#"multipart/form-data; boundary="a b:c""#, Some("a b:c")),
        (r#"Multipart/Form-Data; charset=utf-8; Boundary = "abc" ; x=y"#, Some("abc")),
        (r#"multipart/form-data; x="; boundary=no"; boundary=yes"#, Some("yes")),
        ("multipart/form-data ; boundary=a=b=", Some("a=b=")),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", Some(BOUNDARY)),
        (&format!("multipart/form-data; boundary={longest}"), Some(&*longest)),
        (&format!("multipart/form-data; boundary={longest}b"), None),
        ("multipart/form-data; boundary=", None),
        (r#"multipart/form-data; boundary="""#, None),
        ("multipart/form-data; xboundary=abc", None),
        ("multipart/form-data; boundary", None),
        ("multipart/form-data", None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json; boundary=abc", None),
        ("application/json", None),
        ("", None),
    ] {
        assert_eq!(boundary(content_type), wanted, "{content_type}");
    }
}

#[test]
fn a_quoted_boundary_finds_its_form() {
    let marked = boundary(r#"multipart/form-data; boundary="gc0p4Jq0M2Yt08j34c0p""#).unwrap();
    let body = b"--gc0p4Jq0M2Yt08j34c0p\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--gc0p4Jq0M2Yt08j34c0p--\r\n";
    assert!(
        matches!(find_field(body, marked, "model"), Search::Found(place) if &body[place.clone()] == b"m")
    );
}

/// Whether what comes behind the first field `model` of a form has another one, however it is cut.
fn repeats(body: &[u8]) -> bool {
    let Search::Found(place) = find_field(body, BOUNDARY, "model") else { panic!("no model") };
    let rest = &body[place.end..];
    let whole = Rest::behind("model", BOUNDARY).repeats(rest);
    for size in [1, 2, 3, 7, 61, 1_000] {
        let mut watch = Rest::behind("model", BOUNDARY);
        let any = rest.chunks(size).any(|piece| watch.repeats(piece));
        assert_eq!(any, whole, "in pieces of {size}");
    }
    for cut in 0..rest.len().min(600) {
        let mut watch = Rest::behind("model", BOUNDARY);
        let either = watch.repeats(&rest[..cut]) || watch.repeats(&rest[cut..]);
        assert_eq!(either, whole, "cut at {cut}");
    }
    whole
}

#[test]
fn a_second_model_is_seen_wherever_it_stands() {
    let file = part("name=\"file\"; filename=\"a\"", &b"\r\n--x\r\n\r\n name=\"model\"".repeat(20));
    let (first, second) = (part("name=model", b"cheap"), part("name=\"model\"", b"dear"));
    let language = part("name=language", b"zh");
    for parts in [
        vec![first.clone(), second.clone()],
        vec![first.clone(), file.clone(), second.clone()],
        vec![first.clone(), second.clone(), file.clone()],
        vec![language.clone(), file.clone(), first.clone(), language.clone(), second.clone()],
        vec![first.clone(), part("name=empty", b""), second.clone()],
        vec![first.clone(), part("name=model", b"")],
        vec![first.clone(), part("name=\"model\"; filename=\"\u{e9}\"", b"dear")],
    ] {
        assert!(repeats(&form(&parts)));
    }
    for parts in [
        vec![first.clone()],
        vec![first.clone(), file.clone()],
        vec![language.clone(), first.clone(), file, language],
        vec![first.clone(), part("name=models", b"x"), part("filename=model", b"x")],
    ] {
        assert!(!repeats(&form(&parts)));
    }
    let behind_the_end = [form(std::slice::from_ref(&first)), second.clone()].concat();
    assert!(!repeats(&behind_the_end), "what follows the end is not the form");

    // What a lenient reader takes for a part is one here.
    let text = String::from_utf8(form(&[first.clone(), second])).unwrap();
    let (front, back) = text.rsplit_once(&format!("--{BOUNDARY}\r\n")).unwrap();
    assert!(repeats(format!("{front}--{BOUNDARY} \t\r\n{back}").as_bytes()), "padded");
    let odd = part("name=model\r\nX-Odd: ", b"dear");
    let odd: Vec<u8> = odd.into_iter().map(|b| if b == b'O' { 0xff } else { b }).collect();
    assert!(repeats(&form(&[first.clone(), odd])), "not UTF-8");
    let long = format!("name=x\r\nX-Long: {}\r\nY: y", "y".repeat(17 << 10));
    assert!(repeats(&form(&[first, part(&long, b"")])), "a head that is too long to tell");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Files are full of everything that means something to the search, but for a whole delimiter.
    #[test]
    fn random_files_neither_hide_nor_feign_the_model(
        pieces in prop::collection::vec(select(vec![
            "\r\n", "\n", "\r", "--", "-", "----WebKitFormBoundary7MA4YWxkTrZu0g", "name=\"model\"", "\r\n\r\n",
            "Content-Disposition: form-data; name=\"model\"\r\n\r\nwrong", "\0", "x",
        ]), 0..12),
        in_front in any::<bool>(), present in any::<bool>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut parts = vec![part("name=\"file\"; filename=\"a\"", pieces.concat().as_bytes())];
        if present {
            parts.insert(usize::from(!in_front), part("name=\"model\"", b"right"));
        }
        let body = form(&parts);
        prop_assert_eq!(model(&body), present.then_some(&b"right"[..]));
        let cut = &body[..cut.index(body.len())];
        match find_field(cut, BOUNDARY, "model") {
            Search::Found(place) => prop_assert_eq!(&cut[place], b"right"),
            Search::Absent => prop_assert!(!present),
            Search::NeedMore => {}
        }
    }
}
