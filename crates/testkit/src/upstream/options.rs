//! How a scripted upstream is started.

/// How a [`crate::ScriptedUpstream`] is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Keep every request for [`crate::ScriptedUpstream::received`]. Without it the scripts
    /// `ok`, `events` and `timed` of chat completions take a much cheaper path.
    pub record: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, record: true }
    }
}
