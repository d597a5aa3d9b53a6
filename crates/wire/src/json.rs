//! A strict JSON scanner that skips values without building them.
//!
//! It accepts what RFC 8259 accepts (UTF-8 is checked by the caller, once for the whole body) and
//! nothing more, and it never allocates. `tests/it/envelope.rs` holds it against `serde_json` on
//! random input.

use crate::envelope::Problem;

/// Nesting above which a body is refused. Deep enough for any tool schema seen in the wild,
/// shallow enough that a bomb of brackets costs nothing; `serde_json` builds values up to 127.
pub(crate) const MAX_DEPTH: u32 = 128;

/// A scanning position over a body.
pub(crate) struct Scanner<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) at: usize,
}

type Step<T = ()> = Result<T, Problem>;

impl Scanner<'_> {
    /// The next byte, if any, without moving.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Moves past white space.
    pub(crate) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Moves past `wanted`, or fails where it stands.
    pub(crate) fn expect(&mut self, wanted: u8) -> Step {
        match self.peek() {
            Some(found) if found == wanted => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(Problem::Expected(char::from(wanted))),
            None => Err(Problem::Ended),
        }
    }

    /// Moves past any JSON value. `depth` counts the objects and arrays already open.
    pub(crate) fn skip_value(&mut self, depth: u32) -> Step {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => self.skip_object(depth),
            Some(b'[') => self.skip_array(depth),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b't') => self.skip_word(b"true"),
            Some(b'f') => self.skip_word(b"false"),
            Some(b'n') => self.skip_word(b"null"),
            Some(_) => Err(Problem::NotAValue),
            None => Err(Problem::Ended),
        }
    }

    /// Moves past a string, its quotes included.
    pub(crate) fn skip_string(&mut self) -> Step {
        self.expect(b'"')?;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
                self.refuse_control(rest.len())?;
                self.at = self.bytes.len();
                return Err(Problem::Ended);
            };
            self.refuse_control(length)?;
            self.at += length;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok(());
            }
            self.skip_escape()?;
        }
    }

    /// Fails at the first control character among the next `length` bytes. The fold has no early
    /// exit so that it becomes vector instructions: long strings are most of a large body.
    fn refuse_control(&mut self, length: usize) -> Step {
        let run = &self.bytes[self.at..self.at + length];
        if run.iter().fold(false, |bad, &byte| bad | (byte < 0x20)) {
            self.at += run.iter().position(|&byte| byte < 0x20).unwrap_or(0);
            return Err(Problem::ControlCharacter);
        }
        Ok(())
    }

    fn skip_escape(&mut self) -> Step {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek() {
                        Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                        Some(_) => return Err(Problem::BadEscape),
                        None => return Err(Problem::Ended),
                    }
                }
                Ok(())
            }
            Some(_) => Err(Problem::BadEscape),
            None => Err(Problem::Ended),
        }
    }

    fn skip_object(&mut self, depth: u32) -> Step {
        self.open(depth)?;
        if self.closes(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            self.key()?;
            self.skip_space();
            self.skip_value(depth + 1)?;
            if self.next_or_close(b'}')? {
                return Ok(());
            }
        }
    }

    fn skip_array(&mut self, depth: u32) -> Step {
        self.open(depth)?;
        if self.closes(b']') {
            return Ok(());
        }
        loop {
            self.skip_space();
            self.skip_value(depth + 1)?;
            if self.next_or_close(b']')? {
                return Ok(());
            }
        }
    }

    fn open(&mut self, depth: u32) -> Step {
        if depth >= MAX_DEPTH {
            return Err(Problem::TooDeep(MAX_DEPTH));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn closes(&mut self, close: u8) -> bool {
        let closes = self.peek() == Some(close);
        self.at += usize::from(closes);
        closes
    }

    /// Moves past a member's name and its colon.
    pub(crate) fn key(&mut self) -> Step {
        if !matches!(self.peek(), Some(b'"')) {
            return Err(self.fault(Problem::ExpectedKey));
        }
        self.skip_string()?;
        self.skip_space();
        self.expect(b':')
    }

    /// After a value: moves past a comma (false) or the closing bracket (true).
    pub(crate) fn next_or_close(&mut self, close: u8) -> Step<bool> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(found) if found == close => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Err(Problem::ExpectedCommaOr(char::from(close))),
            None => Err(Problem::Ended),
        }
    }

    fn skip_number(&mut self) -> Step {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => {
                self.at += 1;
                if matches!(self.peek(), Some(b'0'..=b'9')) {
                    return Err(Problem::BadNumber);
                }
            }
            Some(b'1'..=b'9') => self.skip_digits()?,
            _ => return Err(self.fault(Problem::BadNumber)),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.skip_digits()?;
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> Step {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.fault(Problem::BadNumber))
        } else {
            Ok(())
        }
    }

    fn skip_word(&mut self, word: &[u8]) -> Step {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(if word.starts_with(rest) {
            Problem::Ended
        } else {
            Problem::NotAValue
        })
    }

    /// What is wrong here: the body stops, or else `problem`.
    pub(crate) fn fault(&self, problem: Problem) -> Problem {
        if self.peek().is_none() {
            Problem::Ended
        } else {
            problem
        }
    }
}
