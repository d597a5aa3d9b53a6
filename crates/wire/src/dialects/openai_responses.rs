//! OpenAI Responses, as far as forwarding it needs: when is a stream whole?
//!
//! Source: OpenAI's OpenAPI document (`ResponseStreamEvent`), 2026-11.

/// The events a stream may end with.
const LAST: [&[u8]; 4] =
    [b"response.completed", b"response.failed", b"response.incomplete", b"error"];
/// Bytes of a line that are kept to read an event's name: longer than any.
const LONGEST: usize = 64;

/// Watches a stream for its last event.
#[derive(Debug, Default)]
pub struct Ending {
    names_events: bool,
    saw_last: bool,
    /// The beginning of the line under way.
    line: Vec<u8>,
}

impl Ending {
    /// Looks at the next bytes. A raw line end cannot stand inside JSON, so a line that begins
    /// with an event's name is one.
    pub fn see(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            self.begin(&rest[..end]);
            self.read_line();
            rest = &rest[end + 1..];
        }
        self.begin(rest);
    }

    fn begin(&mut self, part: &[u8]) {
        let room = LONGEST.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn read_line(&mut self) {
        if let Some(name) = self.line.strip_prefix(b"event:") {
            self.names_events = true;
            self.saw_last |= LAST.contains(&name.trim_ascii());
        }
        self.line.clear();
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

    #[test]
    fn only_a_line_of_its_own_names_an_event() {
        let mut ending = Ending::default();
        ending.see(b"event:response.created\ndata: {\"x\":\"event: error happens\"}\n\n");
        assert!(!ending.is_whole(), "a text is no event");
        ending.see(b"event:response.completed\r\ndata: {}\r\n\r\n");
        assert!(ending.is_whole(), "the space is optional");
    }
}
