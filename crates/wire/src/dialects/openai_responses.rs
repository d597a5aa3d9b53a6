//! OpenAI Responses, as far as forwarding it needs: when is a stream whole?
//!
//! Source: OpenAI's OpenAPI document (`ResponseStreamEvent`), 2026-11.

use memchr::memmem;

/// The last events a stream may end with.
const LAST: [&[u8]; 4] = [
    b"event: response.completed",
    b"event: response.failed",
    b"event: response.incomplete",
    b"event: error",
];
/// Bytes kept from one piece to the next: the longest of the above may be torn between them.
const OVERLAP: usize = 32;

/// Watches a stream for its last event.
#[derive(Debug, Default)]
pub struct Ending {
    names_events: bool,
    saw_last: bool,
    tail: Vec<u8>,
}

impl Ending {
    /// Looks at the next bytes. A raw line end cannot stand inside JSON, so a line that begins
    /// with an event's name is one.
    pub fn see(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.names_events |= memmem::find(&self.tail, b"event:").is_some();
        self.saw_last |= LAST.iter().any(|last| memmem::find(&self.tail, last).is_some());
        self.tail.drain(..self.tail.len().saturating_sub(OVERLAP));
    }

    /// Whether a stream that ends here is whole. One that names no events does not say.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.saw_last || !self.names_events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"event: response.created\ndata: {}\n\n\
        event: response.output_text.delta\ndata: {\"delta\":\"a\"}\n\n\
        event: response.completed\ndata: {}\n\n";

    #[test]
    fn a_stream_is_whole_with_its_last_event_however_it_is_cut() {
        for cut in 0..=STREAM.len() {
            let mut ending = Ending::default();
            ending.see(&STREAM[..cut]);
            ending.see(&STREAM[cut..]);
            assert!(ending.is_whole(), "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_without_its_last_event_is_not_whole() {
        let mut ending = Ending::default();
        STREAM[..STREAM.len() - 40].chunks(3).for_each(|piece| ending.see(piece));
        assert!(!ending.is_whole());
    }

    #[test]
    fn a_stream_that_names_no_events_does_not_say() {
        let mut ending = Ending::default();
        ending.see(b"data: {\"type\":\"response.created\"}\n\n");
        assert!(ending.is_whole());
    }
}
