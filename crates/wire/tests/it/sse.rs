//! Events come out the same however the bytes of a stream were cut.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wire::sse::{Event, Framer, events};

use crate::corpus::samples;

/// Name and data of an event that a client would see.
type Seen = (Vec<u8>, Vec<u8>);

/// The standard's own algorithm (HTML, section 9.2.6), written down as it stands there, over a
/// whole stream: what is not closed by a blank line is not dispatched.
fn standard(stream: &[u8]) -> Vec<Seen> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut seen, mut name, mut data, mut line) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => drop(bytes.next_if_eq(&b'\n')),
            b'\n' => {}
            _ => {
                line.push(byte);
                continue;
            }
        }
        if line.is_empty() {
            if data.pop().is_some() {
                seen.push((name.clone(), data.clone()));
            }
            name.clear();
            data.clear();
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let mut value = line.get(colon + 1..).unwrap_or_default();
        value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            b"event" => name = value.to_vec(),
            _ => {}
        }
        line.clear();
    }
    seen
}

/// The events with data among some whole events.
fn seen(bytes: &[u8]) -> Vec<Seen> {
    let with_data = |event: Event<'_>| Some((event.name.to_vec(), event.data?.into_owned()));
    events(bytes).filter_map(with_data).collect()
}

/// A relay as the documentation of [`Framer`] has it: it hands on what is complete and keeps the
/// rest until more has come.
#[derive(Default)]
struct Relay {
    framer: Framer,
    tail: Vec<u8>,
    pieces: Vec<Vec<u8>>,
}

impl Relay {
    fn receive(&mut self, chunk: &[u8]) {
        let complete = self.framer.complete(chunk);
        if complete > 0 {
            let mut piece = std::mem::take(&mut self.tail);
            piece.extend_from_slice(&chunk[..complete]);
            self.pieces.push(piece);
        }
        self.tail.extend_from_slice(&chunk[complete..]);
    }
}

/// Sends `stream` cut at `cuts` (ascending, twice the same is an empty chunk) and checks that
/// nothing is different from the stream in one piece.
fn check(what: &str, stream: &[u8], wanted: &[Seen], cuts: &[usize]) {
    let mut relay = Relay::default();
    let mut at = 0;
    for cut in cuts.iter().copied().chain([stream.len()]) {
        relay.receive(&stream[at..cut]);
        let tail_is_empty = relay.tail.is_empty();
        assert_eq!(relay.framer.between_events(), tail_is_empty, "{what} at {cut} of {cuts:?}");
        at = cut;
    }
    let whole = Framer::default().complete(stream);
    assert_eq!(relay.pieces.concat(), stream[..whole], "{what} cut at {cuts:?}");
    assert_eq!(relay.tail, stream[whole..], "{what} cut at {cuts:?}");
    let found: Vec<Seen> = relay.pieces.iter().flat_map(|piece| seen(piece)).collect();
    assert_eq!(found, wanted, "{what} cut at {cuts:?}");
}

#[test]
fn the_corpus_is_there() {
    let all = samples("openai_chat", "sse");
    assert!(all.len() >= 25, "{}", all.len());
    for needed in ["cr", "crlf", "lf", "bom", "empty", "mixed_line_ends", "chinese_and_emoji"] {
        assert!(all.iter().any(|sample| sample.name == format!("{needed}.sse")), "{needed}");
    }
    let cr = all.iter().find(|sample| sample.name == "cr.sse").unwrap();
    assert!(!cr.bytes.contains(&b'\n') && cr.bytes.contains(&b'\r'), "line ends were converted");
}

#[test]
fn whole_streams_hold_the_events_of_the_standard() {
    for sample in samples("openai_chat", "sse") {
        let complete = Framer::default().complete(&sample.bytes);
        assert_eq!(seen(&sample.bytes[..complete]), standard(&sample.bytes), "{}", sample.name);
    }
}

#[test]
fn every_cut_gives_the_same_events() {
    for sample in samples("openai_chat", "sse") {
        let wanted = standard(&sample.bytes);
        for cut in 0..=sample.bytes.len() {
            check(&sample.name, &sample.bytes, &wanted, &[cut]);
        }
    }
}

#[test]
fn every_pair_of_cuts_gives_the_same_events() {
    for sample in samples("openai_chat", "sse").iter().filter(|sample| sample.bytes.len() <= 130) {
        let wanted = standard(&sample.bytes);
        for first in 0..=sample.bytes.len() {
            for second in first..=sample.bytes.len() {
                check(&sample.name, &sample.bytes, &wanted, &[first, second]);
            }
        }
    }
}

#[test]
fn byte_by_byte_gives_the_same_events() {
    for sample in samples("openai_chat", "sse") {
        let wanted = standard(&sample.bytes);
        let each: Vec<usize> = (0..=sample.bytes.len()).collect();
        check(&sample.name, &sample.bytes, &wanted, &each);
        let with_empty_chunks: Vec<usize> = each.iter().flat_map(|cut| [*cut; 3]).collect();
        check(&sample.name, &sample.bytes, &wanted, &with_empty_chunks);
    }
}

#[test]
fn a_crlf_may_come_in_two_pieces() {
    let mut framer = Framer::default();
    assert_eq!(framer.complete(b"data: a\r"), 0);
    assert!(!framer.between_events(), "the line is over but not the event");
    assert_eq!(framer.complete(b"\n\r"), 2, "a CR alone may be the whole line end");
    assert!(framer.between_events());
    assert_eq!(framer.complete(b"\n"), 1, "the LF belongs to the line end before");
    assert!(framer.between_events());
    assert_eq!(framer.complete(b"\n"), 1, "and this is a blank line");
    assert_eq!(framer.complete(b"data: b\n"), 0);
    assert_eq!(framer.complete(b""), 0);
    assert_eq!(framer.complete(b"\ndata"), 1);
    assert!(!framer.between_events());
}

#[test]
fn spans_cover_the_stream_without_gaps() {
    for sample in samples("openai_chat", "sse") {
        let mut at = 0;
        for event in events(&sample.bytes) {
            assert_eq!(event.span.0, at, "{}", sample.name);
            assert!(event.span.1 > at, "{}", sample.name);
            at = event.span.1;
        }
        assert_eq!(at, sample.bytes.len(), "{}", sample.name);
    }
}

#[test]
fn an_event_is_read_field_by_field() {
    let stream =
        b"event: error\nid: 7\ndata: {\ndata:  \"a\"\ndata\nretry: 1\n: note\n\n: only a note\n\n";
    let found: Vec<Event<'_>> = events(stream).collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].name, b"error");
    assert_eq!(found[0].data.as_deref(), Some(&b"{\n \"a\"\n"[..]));
    assert_eq!(found[0].span, (0, 60));
    assert_eq!((found[1].name, found[1].data.as_deref()), (&b""[..], None));
    assert_eq!(found[1].span, (60, stream.len()));
}

#[test]
fn a_line_that_no_stream_holds_makes_its_event_odd() {
    let odd =
        |stream: &str| -> Vec<bool> { events(stream.as_bytes()).map(|event| event.odd).collect() };
    let usual = "\u{feff}: note\nid: 1\nretry: 5\nevent: e\ndata: x\ndata\n\n:\r\r\n\ndata:";
    assert_eq!(odd(usual), [false, false, false, false]);
    for line in ["<html>", "{\"error\":{}}", "DATA: x", " data: x", "datas: x", "\u{1f389}"] {
        let stream = format!("data: x\n\ndata: 1\n{line}\ndata: 2\n\ndata: x\n\n");
        assert_eq!(odd(&stream), [false, true, false], "{line}");
        assert_eq!(odd(line), [true], "{line}");
    }
}

#[test]
fn data_of_one_line_is_borrowed() {
    let all: Vec<Event<'_>> = events(b"data: {\"a\":1}\r\n\r\ndata:[DONE]").collect();
    let data: Vec<_> = all.iter().map(|event| event.data.clone().unwrap()).collect();
    assert!(data.iter().all(|data| matches!(data, std::borrow::Cow::Borrowed(_))));
    assert_eq!(data[0].as_ref(), b"{\"a\":1}");
    assert_eq!(data[1].as_ref(), b"[DONE]", "a last event without its blank line is given too");
}

#[test]
fn a_byte_order_mark_counts_on_the_first_line_only() {
    let mark = "\u{feff}";
    assert_eq!(seen(format!("{mark}data: a\n\n").as_bytes()), [(vec![], b"a".to_vec())]);
    assert_eq!(seen(format!("event: x\n{mark}data: a\n\n").as_bytes()), []);
    assert_eq!(seen(format!("data: b\n\n{mark}data: a\n\n").as_bytes()), [(vec![], b"b".to_vec())]);
    assert_eq!(seen(format!("{mark}{mark}data: a\n\n").as_bytes()), []);
}

#[test]
fn a_framer_that_has_seen_nothing_is_between_events() {
    let mut framer = Framer::default();
    assert!(framer.between_events());
    assert_eq!(framer.complete(b""), 0);
    assert!(framer.between_events());
    assert_eq!(framer.complete(b": hi"), 0);
    assert!(!framer.between_events());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_streams_cut_anywhere_give_the_events_of_the_standard(
        mark in any::<bool>(),
        parts in vec(select(vec![
            "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "data: x", "data:", "data", "data: 中",
            "event: e", "event", ":", ": note", " ", "id: 1", "data:  y", "\0", "🎉",
        ]), 0..24),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream = format!("{}{}", if mark { "\u{feff}" } else { "" }, parts.concat());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        check("random", stream.as_bytes(), &standard(stream.as_bytes()), &cuts);
    }

    #[test]
    fn any_bytes_are_framed_without_loss(
        stream in vec(select(b"\r\n:da \xff".to_vec()), 0..40),
        mut cuts in vec(0_usize..40, 0..6),
    ) {
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(stream.len()));
        cuts.sort_unstable();
        check("bytes", &stream, &standard(&stream), &cuts);
    }
}
