//! Every cut: however the network slices a stream, the client gets the same bytes.

use std::path::Path;
use std::sync::Arc;

use policy::Snapshot;
use relay::Outcome;

use crate::scripted::Reply;
use crate::world::{ASK_STREAM, LAB, World, chat, millis, snapshot};

/// Short streams that end normally, one for each way to write one.
const SHORT: [(&str, &str); 7] = [
    ("lf", "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n"),
    ("crlf", "data: {\"a\":1}\r\n\r\n: k\r\n\r\ndata: [DONE]\r\n\r\n"),
    ("cr", "data: {\"a\":1}\r\rdata: [DONE]\r\r"),
    ("no space", "data:{\"a\":1}\n\n:\n\ndata:[DONE]\n\n"),
    ("comments", ": keep-alive\n\n\n: 1\ndata: {\"a\":1}\n: 2\n\ndata: [DONE]\n\n"),
    ("utf-8", "id: 1\ndata: {\"a\":\"你好🐦é\"}\n\nretry: 5\n\ndata: [DONE]\n\n"),
    ("mixed", "event: x\r\ndata: {\ndata: \"a\":1}\n\r\ndata: [DONE]\n\n"),
];

/// A longer one, to be cut in two only.
const LONG: &str = ": start\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"星河\\n\\ud83d\\ude00\"}}]}\r\n\r\n\
    data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":\"}}]}}]}\n\n\
    : PROCESSING\n\n: PROCESSING\n\ndata:{\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n\
    id: 7\nevent: message\ndata: {\"choices\":[{\"finish_reason\":null}],\"usage\":null}\n\ndata: [DONE]\n\n";

/// A stream in pieces that arrive one by one.
fn pieces(bytes: &[u8], cuts: &[usize]) -> Reply {
    let mut reply = Reply::stream();
    let mut at = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        reply = reply.data(bytes[at..cut].to_vec()).wait(millis(1));
        at = cut;
    }
    reply
}

async fn relayed(snapshot: &Arc<Snapshot>, reply: Reply) -> (Vec<u8>, Outcome, u64) {
    let world = World::with(snapshot, [reply]);
    let bytes = world.ask(chat(ASK_STREAM)).await.bytes().await;
    let record = world.record();
    (bytes, record.outcome, record.events)
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_in_two_anywhere_reaches_the_client_byte_for_byte() {
    let snapshot = snapshot(LAB);
    for text in SHORT.iter().map(|(_, text)| *text).chain([LONG]) {
        let whole = relayed(&snapshot, pieces(text.as_bytes(), &[])).await;
        assert_eq!(String::from_utf8_lossy(&whole.0), text);
        assert_eq!(whole.1, Outcome::Complete);
        for cut in 1..text.len() {
            let cut_up = relayed(&snapshot, pieces(text.as_bytes(), &[cut])).await;
            assert_eq!(cut_up, whole, "cut at {cut}: {text:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_in_three_anywhere_reaches_the_client_byte_for_byte() {
    let snapshot = snapshot(LAB);
    for (name, text) in SHORT {
        let bytes = text.as_bytes();
        for first in 1..bytes.len() - 1 {
            for second in first + 1..bytes.len() {
                let (got, outcome, _) = relayed(&snapshot, pieces(bytes, &[first, second])).await;
                assert_eq!(got, bytes, "{name} cut at {first} and {second}");
                assert_eq!(outcome, Outcome::Complete);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_drips_byte_by_byte_reaches_the_client_byte_for_byte() {
    let snapshot = snapshot(LAB);
    let cuts: Vec<usize> = (1..LONG.len()).collect();
    let (got, outcome, events) = relayed(&snapshot, pieces(LONG.as_bytes(), &cuts)).await;
    assert_eq!(String::from_utf8(got).unwrap(), LONG);
    assert_eq!((outcome, events), (Outcome::Complete, 4));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_from_the_client_leaves_no_event_behind_wherever_the_stream_is_cut() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}";
    for end in ["\n", "\r\n", "\r"] {
        let snapshot = snapshot(LAB);
        let stream = format!("data: {{\"a\":1}}{end}{end}{usage}{end}{end}data: [DONE]{end}{end}");
        for cut in 1..stream.len() {
            let (got, outcome, _) = relayed(&snapshot, pieces(stream.as_bytes(), &[cut])).await;
            let got = String::from_utf8(got).unwrap();
            let data: Vec<&str> = got.split(['\r', '\n']).filter(|line| !line.is_empty()).collect();
            assert_eq!(data, ["data: {\"a\":1}", "data: [DONE]"], "cut at {cut}");
            assert_eq!(outcome, Outcome::Complete);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_event_is_the_same_wherever_a_failing_stream_is_cut() {
    let snapshot = snapshot(LAB);
    let stream = "data: {\"a\":\"你\"}\n\n: k\n\ndata: {\"torn\":";
    let whole = relayed(&snapshot, pieces(stream.as_bytes(), &[])).await;
    assert_eq!(whole.1, Outcome::Truncated);
    for cut in 1..stream.len() {
        let cut_up = relayed(&snapshot, pieces(stream.as_bytes(), &[cut])).await;
        assert_eq!(cut_up, whole, "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_stream_of_the_corpus_ends_the_same_whether_whole_or_in_bytes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/fixtures/openai_chat");
    let snapshot = snapshot(&format!("metering: {{ stream_usage: false }}\n{LAB}"));
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|found| found != "sse") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let whole = relayed(&snapshot, pieces(&bytes, &[])).await;
        let cuts: Vec<usize> = (1..bytes.len()).collect();
        let dripped = relayed(&snapshot, pieces(&bytes, &cuts)).await;
        assert_eq!(dripped, whole, "{}", path.display());
        if whole.1 == Outcome::Complete {
            let got = whole.0.trim_ascii_end();
            assert!(bytes.starts_with(got), "{}", path.display());
        }
        compared += 1;
    }
    assert!(compared > 20, "{compared} streams");
}
