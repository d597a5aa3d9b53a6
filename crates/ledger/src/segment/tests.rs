//! Cuts and flipped bits.

use super::*;
use crate::record::{Amount, Bill};

const SALT: u32 = 0xfeed_f00d;

fn opening(number: u8) -> Opening<'static> {
    Opening {
        id: RequestId([number; 16]),
        attempt: 1,
        at_ms: 1_795_341_600_000,
        who: Who { key: Some("key_a"), user: None, team: Some("red"), org: None },
        operation: "chat",
        model: "smart",
        provider: "openai",
        upstream_model: "gpt-5-mini",
        stream: true,
        input_estimate: 99,
        max_output: None,
        reserved: Some(Amount { nanos: 1_000_000, currency: "USD" }),
    }
}

fn closing(number: u8) -> Closing<'static> {
    Closing {
        id: RequestId([number; 16]),
        attempt: 1,
        at_ms: 1_795_341_601_000,
        last_of: Some(1),
        status: 200,
        outcome: "complete",
        fault: None,
        tokens: Tokens { input: 5, output: 7, ..Tokens::default() },
        provenance: Provenance::Reported,
        bill: Bill::Charge(Amount { nanos: 12_000, currency: "USD" }),
        first_event_us: Some(1),
        total_us: 2,
        overhead_us: 3,
        events: 4,
        lines: &[Line { bucket: "input", count: 5, nanos_per_million: 6 }],
    }
}

fn feedback(number: u8) -> Feedback<'static> {
    let (id, at_ms, ended_ms) = (RequestId([number; 16]), 1_795_341_602_000, 1_795_341_601_000);
    Feedback { id, at_ms, ended_ms, label: "tone", score: 0.5, comment: Some("too long") }
}

/// Three requests, and where each record begins; the last place is the end.
fn written() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = vec![0; 9 * MAX_RECORD];
    let mut places = vec![0];
    for number in 1..=3 {
        for kind in [OPENING, CLOSING, FEEDBACK] {
            let at = places[places.len() - 1];
            let length = match kind {
                OPENING => put_opening(&mut bytes[at..], SALT, &opening(number)),
                CLOSING => put_closing(&mut bytes[at..], SALT, &closing(number)),
                _ => put_feedback(&mut bytes[at..], SALT, &feedback(number)),
            };
            places.push(at + length.unwrap());
        }
    }
    bytes.truncate(places[places.len() - 1]);
    (bytes, places)
}

/// Every record, found as whoever ships them finds them: their places and what they say.
fn found(bytes: &[u8], salt: u32) -> Vec<(usize, String)> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        match take(&bytes[at..], salt) {
            Some((record, length)) => {
                found.push((at, format!("{record:?}")));
                at += length;
            }
            None => match next_good(&bytes[at + 1..], salt) {
                Some(next) => at += 1 + next,
                None => break,
            },
        }
    }
    found
}

#[test]
fn records_come_out_as_they_went_in() {
    let (bytes, places) = written();
    let Some((first, length)) = take(&bytes, SALT) else { panic!("no record") };
    assert_eq!(length, places[1]);
    assert_eq!((first.id, first.attempt, first.at_ms), (RequestId([1; 16]), 1, 1_795_341_600_000));
    let Rest::Opening(head, rest) = first.rest else { panic!("no opening") };
    assert_eq!((head.stream, head.input_estimate, head.max_output), (true, 99, None));
    assert_eq!(names(rest).who, opening(1).who);
    assert_eq!(names(rest).upstream_model, "gpt-5-mini");
    let Some((second, _)) = take(&bytes[length..], SALT) else { panic!("no record") };
    let Rest::Closing(end, tail) = second.rest else { panic!("no closing") };
    assert_eq!((end.bill, end.tokens), (closing(1).bill, closing(1).tokens));
    assert_eq!(lines(ending(tail).unwrap().1), closing(1).lines);
    let Some((third, _)) = take(&bytes[places[2]..], SALT) else { panic!("no record") };
    let Rest::Feedback(opinion) = third.rest else { panic!("no feedback") };
    assert_eq!((third.at_ms, opinion.ended_ms), (1_795_341_602_000, 1_795_341_601_000));
    assert_eq!((opinion.label, opinion.score, opinion.comment), ("tone", 0.5, Some("too long")));
}

#[test]
fn of_a_torn_end_every_whole_record_is_found_and_nothing_else() {
    let (bytes, places) = written();
    let all = found(&bytes, SALT);
    assert_eq!(all.len(), 9);
    for cut in 0..=bytes.len() {
        let whole = places.iter().filter(|place| **place <= cut).count() - 1;
        assert_eq!(found(&bytes[..cut], SALT), all[..whole], "cut at {cut}");
        // The same with zeros behind it, as a file system may leave them.
        let mut torn = bytes[..cut].to_vec();
        torn.resize(bytes.len() + 4096, 0);
        let beyond = found(&torn, SALT);
        assert!(beyond == all[..whole] || beyond == all[..=whole], "zeros behind {cut}");
    }
}

#[test]
fn a_record_with_a_flipped_bit_is_never_taken_for_a_good_one() {
    let (bytes, places) = written();
    let all = found(&bytes, SALT);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let hit = places.iter().filter(|place| **place <= bit / 8).count() - 1;
        let mut others = all.clone();
        others.remove(hit);
        assert_eq!(found(&damaged, SALT), others, "bit {bit}");
    }
}

#[test]
fn records_of_another_file_are_not_good() {
    let (bytes, _) = written();
    assert_eq!(found(&bytes, SALT + 1), []);
    assert_eq!(found(&[0; 100_000], SALT), []);
    assert_eq!(found(&[0xff; 100_000], SALT), []);
}

#[test]
fn a_header_says_what_it_is() {
    let good = header(SALT);
    assert_eq!(read_header(&good), Header::Good(SALT));
    for cut in 0..HEADER {
        assert_eq!(read_header(&good[..cut]), Header::Bad);
    }
    for bit in 0..HEADER * 8 {
        let mut damaged = good;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read_header(&damaged), Header::Bad, "bit {bit}");
    }
    for (version, found) in [
        (0, Header::Foreign),
        (1, Header::Good(SALT)),
        (2, Header::Good(SALT)),
        (3, Header::Foreign),
    ] {
        let mut other = good;
        other[8] = version;
        let sum = crc32fast::hash(&other[..16]);
        other[16..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read_header(&other), found, "version {version}");
    }
}

#[test]
fn a_record_that_is_too_long_is_not_written() {
    let mut buffer = vec![0; 3 * MAX_RECORD];
    let line = Line { bucket: "input", count: u64::MAX, nanos_per_million: u64::MAX };
    let lines = vec![line; 1000];
    assert_eq!(put_closing(&mut buffer, SALT, &Closing { lines: &lines, ..closing(1) }), None);
}

#[test]
fn provenance_is_a_number_here_and_a_word_for_people() {
    use Provenance::{Estimated, None, Reported};
    for (provenance, number, word) in
        [(None, 0, "none"), (Reported, 1, "reported"), (Estimated, 3, "estimated")]
    {
        assert_eq!(postcard::to_stdvec(&provenance).unwrap(), [number]);
        assert_eq!(postcard::from_bytes(&[number]), Ok(provenance));
        assert_eq!(serde_json::to_value(provenance).unwrap(), word);
    }
    assert!(postcard::from_bytes::<Provenance>(&[2]).is_err());
}
