//! The load generator of the benches: raw HTTP/1.1 from one thread, every reply checked.

mod client;
mod histogram;
mod modes;
mod report;
mod stream;

pub use histogram::Histogram;
pub use modes::{Closed, Open, Paced, closed, open, paced};
pub use report::Report;

use std::net::SocketAddr;

/// Where requests go and what they look like.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address to connect to.
    pub address: SocketAddr,
    /// The path of the requests.
    pub path: String,
    /// The model they name.
    pub model: String,
    /// The key they carry.
    pub key: String,
    /// How many bytes their bodies have, if the fixed part leaves room.
    pub body_bytes: usize,
    /// How many `data:` events a complete stream has, `[DONE]` included; `None` asks for a
    /// reply that is not a stream.
    pub events: Option<u64>,
}

/// What the user says, again and again, until the body is long enough.
const PROSE: &str = "Summarise the notes below in three sentences.\\n\\n\\\"The gateway takes the \
    request, picks a provider and passes the events on as they come.\\\" Keep the numbers: 42, \
    3.14 and 1,000. ";

impl Target {
    /// The bytes of one request.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let body = self.body();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nAccept: application/json\r\n\
             Accept-Encoding: identity\r\nUser-Agent: testkit-load/1\r\n\
             Content-Length: {}\r\n\r\n",
            self.path,
            self.address,
            self.key,
            body.len()
        );
        (head + &body).into_bytes()
    }

    /// The body, its keys in the order in which the usual client libraries write them.
    fn body(&self) -> String {
        let start = "{\"messages\":[{\"role\":\"system\",\"content\":\"You are terse.\"},\
                     {\"role\":\"user\",\"content\":\"";
        let stream = if self.events.is_some() { ",\"stream\":true" } else { "" };
        let end = format!("\"}}],\"model\":\"{}\",\"temperature\":0.2{stream}}}", self.model);
        let room = self.body_bytes.saturating_sub(start.len() + end.len());
        let whole = room / PROSE.len();
        let rest = room - whole * PROSE.len();
        format!("{start}{}{}{end}", PROSE.repeat(whole), "x".repeat(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_wanted_size_and_are_json() {
        for (model, events) in [("ok", None), ("bench/events:64:0", Some(67))] {
            let target = Target {
                address: SocketAddr::from(([127, 0, 0, 1], 1)),
                path: "/".to_owned(),
                model: model.to_owned(),
                key: "sk".to_owned(),
                body_bytes: 1500,
                events,
            };
            let body = target.body();
            assert_eq!(body.len(), 1500);
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(value["model"], model);
            assert_eq!(value["stream"].as_bool(), events.map(|_| true));
        }
    }
}
