//! Faults of a provider that speaks HTTP/2: whatever breaks off before it has said anything is made
//! up for by the next target, whether the stream or its connection ends, and however.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{SendResponse, handshake};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use serde_json::Value;
use testkit::ScriptedUpstream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::failover::{ask, is_good, models, provider};
use crate::harness::{Magpie, PATIENCE, Setup};
use crate::raw::COMPLETION;

/// Plays a fault for each call, named by its model: `when:what`.
struct Faulty {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Faulty {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let accept = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(connection(stream));
            }
        };
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How a whole connection ends.
enum End {
    GoAway(Reason),
    Cut,
}

async fn connection(stream: TcpStream) {
    let mut connection = handshake(stream).await.unwrap();
    let (end, mut ends) = mpsc::channel(8);
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    tokio::spawn(play(request, respond, end.clone()));
                }
                _ => return,
            },
            Some(how) = ends.recv() => match how {
                End::GoAway(reason) => connection.abrupt_shutdown(reason),
                End::Cut => return,
            },
        }
    }
}

async fn play(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    end: mpsc::Sender<End>,
) {
    let mut body = request.into_body();
    let mut sent = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        sent.extend_from_slice(&data);
    }
    let ask: Value = serde_json::from_slice(&sent).unwrap();
    let (when, what) = ask["model"].as_str().unwrap().split_once(':').unwrap();
    let (kind, role, word) = match ask["stream"] == true {
        true => (
            "text/event-stream",
            r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"data: {"choices":[{"index":0,"delta":{"content":"word "}}]}"#,
        ),
        false => ("application/json", &COMPLETION[..10], &COMPLETION[10..20]),
    };
    let gap = if kind == "application/json" { "" } else { "\n\n" };
    let mut answer = (when != "before").then(|| {
        let head = Response::builder().header("content-type", kind).body(()).unwrap();
        respond.send_response(head, false).unwrap()
    });
    let said: &[&str] = match when {
        "role" => &[role],
        "word" => &[role, word],
        _ => &[],
    };
    if let Some(answer) = &mut answer {
        for piece in said {
            answer.send_data(format!("{piece}{gap}").into(), false).unwrap();
        }
    }
    // What was said leaves first.
    sleep(Duration::from_millis(20)).await;
    let reason = match what {
        "refused" => Reason::REFUSED_STREAM,
        "cancelled" => Reason::CANCEL,
        "nothing-wrong" | "leaving" => Reason::NO_ERROR,
        "calm" | "calm-down" => Reason::ENHANCE_YOUR_CALM,
        _ => Reason::INTERNAL_ERROR,
    };
    match (what, &mut answer) {
        ("leaving" | "calm-down" | "broken", _) => drop(end.send(End::GoAway(reason)).await),
        ("cut", _) => drop(end.send(End::Cut).await),
        (_, Some(answer)) => answer.send_reset(reason),
        (_, None) => respond.send_reset(reason),
    }
    // A stream that is dropped would be reset once more.
    sleep(PATIENCE).await;
}

/// Resets of the stream.
const RESETS: [&str; 5] = ["internal", "refused", "cancelled", "nothing-wrong", "calm"];
/// Ends of its connection: GOAWAY with three reasons, and none at all.
const ENDS: [&str; 4] = ["leaving", "calm-down", "broken", "cut"];

/// Each fault at this time, in front of a target that is well.
fn served(times: &[&str]) -> (Faulty, ScriptedUpstream, Magpie, Vec<String>) {
    let (faulty, good) = (Faulty::start(), ScriptedUpstream::start());
    let faults = RESETS.iter().chain(&ENDS);
    let faults: Vec<String> = times
        .iter()
        .flat_map(|when| faults.clone().map(move |what| format!("{when}:{what}")))
        .collect();
    let plans = faults.iter().enumerate().map(|(number, fault)| {
        (format!("m{number}"), format!("{{ fallback: ['bad/{fault}', good/ok] }}"))
    });
    let config = [
        "workers: 1\nlog: { requests: false }\nproviders:\n",
        &provider("bad", &format!("http://{}/v1", faulty.address), "http: http2"),
        &provider("good", &good.base_url(), ""),
        &models(plans),
    ];
    let magpie = Setup::file(&config.concat()).start();
    (faulty, good, magpie, faults)
}

fn made_up_for(times: &[&str], stream: bool) {
    let (_faulty, good, magpie, faults) = served(times);
    for (number, fault) in faults.iter().enumerate() {
        let reply = ask(&magpie, &format!("m{number}"), stream);
        let told = [reply.header("x-magpie-attempts"), reply.header("x-magpie-target")];
        assert_eq!(told, [Some("2"), Some("good/ok")], "{fault}: {}", reply.text());
        assert!(is_good(&reply, stream), "{fault}: {}", reply.text());
    }
    assert_eq!(good.received().len(), faults.len(), "once for each");
}

#[test]
fn an_answer_that_does_not_come_whole_is_made_up_for() {
    made_up_for(&["before", "head", "role", "word"], false);
}

#[test]
fn a_stream_that_breaks_off_before_it_says_anything_is_made_up_for() {
    made_up_for(&["before", "head", "role"], true);
}

#[test]
fn a_stream_that_breaks_off_behind_a_word_is_told_and_not_repeated() {
    let (_faulty, good, magpie, faults) = served(&["word"]);
    for (number, fault) in faults.iter().enumerate() {
        let reply = ask(&magpie, &format!("m{number}"), true);
        assert_eq!(reply.header("x-magpie-attempts"), Some("1"), "{fault}");
        reply.assert_broken_off("provider_truncated");
        assert_eq!(reply.content(), "word ", "{fault}");
    }
    assert_eq!(good.received().len(), 0);
}
