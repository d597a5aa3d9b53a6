//! The result of a run.

use std::time::Duration;

use serde_json::{Value, json};

use super::histogram::Histogram;

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How long the run took.
    pub elapsed: Duration,
    /// Complete replies of status 200.
    pub requests: u64,
    /// `data:` events in them, `[DONE]` included.
    pub events: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Requests without a complete reply of status 200.
    pub errors: u64,
    /// The first few of the errors.
    pub problems: Vec<String>,
    /// From the start of a request to the end of its reply.
    pub latency: Histogram,
    /// From the start of a request to its first event.
    pub first_event: Histogram,
    /// From the sending of an event by the upstream to its arrival, for events that carry the
    /// time of their sending.
    pub event_delay: Histogram,
    /// How late requests of an open loop were started.
    pub late: Histogram,
}

impl Report {
    /// Counts a failed request.
    pub(crate) fn problem(&mut self, problem: String) {
        self.errors += 1;
        if self.problems.len() < 5 {
            self.problems.push(problem);
        }
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        json!({
            "seconds": seconds,
            "requests": self.requests,
            "events": self.events,
            "bytes": self.bytes,
            "errors": self.errors,
            "problems": self.problems,
            "requests_per_second": self.requests as f64 / seconds,
            "events_per_second": self.events as f64 / seconds,
            "latency": self.latency.to_json(),
            "first_event": self.first_event.to_json(),
            "event_delay": self.event_delay.to_json(),
            "late": self.late.to_json(),
        })
    }
}
