//! The load generator against the scripted upstream.

use std::time::Duration;

use testkit::load::{Closed, Open, Paced, Target, closed, open, paced};
use testkit::{Options, ScriptedUpstream};

fn target(upstream: &ScriptedUpstream, model: &str, events: Option<u64>) -> Target {
    Target {
        address: upstream.address(),
        path: "/v1/chat/completions".to_owned(),
        model: model.to_owned(),
        key: "sk".to_owned(),
        body_bytes: 1500,
        events,
    }
}

#[test]
fn a_closed_loop_counts_replies_and_events() {
    let upstream = ScriptedUpstream::start_with(Options { record: false, ..Options::default() });
    let config = Closed { connections: 4, time: Duration::from_secs(10), requests: 200 };
    let report = closed(target(&upstream, "ok", None), config);
    assert_eq!((report.requests, report.errors), (200, 0));
    assert_eq!(upstream.connections(), 4);
    assert!(report.latency.quantile(99, 100) > 0);
    let report = closed(target(&upstream, "events:64", Some(67)), config);
    assert_eq!((report.requests, report.events, report.errors), (200, 200 * 67, 0));
}

#[test]
fn incomplete_streams_are_errors() {
    let upstream = ScriptedUpstream::start();
    let config = Closed { connections: 1, time: Duration::from_secs(10), requests: 1 };
    for model in ["cut:64", "no-done", "status:500", "eof:3", "events:63", "ok"] {
        let report = closed(target(&upstream, model, Some(67)), config);
        assert_eq!((report.requests, report.errors), (0, 1), "{model}");
    }
    let report = closed(target(&upstream, "status:500", None), config);
    assert!(report.problems[0].starts_with("status 500: {"), "{:?}", report.problems);
}

#[test]
fn paced_streams_are_timed() {
    let upstream = ScriptedUpstream::start();
    let config = Paced {
        streams: 20,
        ramp: Duration::from_millis(50),
        repeat: 2,
        limit: Duration::from_secs(10),
    };
    let report = paced(target(&upstream, "timed:5:10", Some(8)), config);
    assert_eq!((report.requests, report.errors), (40, 0), "{:?}", report.problems);
    assert_eq!(report.event_delay.count(), 200);
    assert_eq!(report.first_event.count(), 40);
    assert!(report.event_delay.quantile(1, 2) < 50_000_000);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let upstream = ScriptedUpstream::start();
    let config = Open { rate: 400.0, time: Duration::from_millis(500), connections: 8 };
    let report = open(target(&upstream, "ok", None), config);
    assert_eq!(report.errors, 0, "{:?}", report.problems);
    assert!((140..=260).contains(&report.requests), "{}", report.requests);
    assert_eq!(upstream.connections(), 8);
}
