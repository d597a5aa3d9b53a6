//! A strict JSON scanner that skips values without building them.
//!
//! It accepts what RFC 8259 accepts (UTF-8 is checked by the caller, once for the whole body) and
//! nothing more, and it never allocates. `tests/it/envelope.rs` holds it against `serde_json` on
//! random input.

use crate::envelope::Problem;

/// Nesting above which a body is refused. Deep enough for any tool schema seen in the wild,
/// shallow enough that a bomb of brackets costs nothing; `serde_json` builds values up to 127.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Bytes of a string that are looked at eight at a time, before a vector search takes over.
const SHORT: usize = 24;

/// Where, from `at` on, the first byte stands that is not plain text inside a string: a quote, a
/// backslash or a control character; the end if there is none.
fn plain_until(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut plain = 0;
    for chunk in rest.chunks_exact(8).take(SHORT / 8) {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        let found = special(word);
        if found != 0 {
            return at + plain + found.trailing_zeros() as usize / 8;
        }
        plain += 8;
    }
    if plain == SHORT {
        return long_plain_until(bytes, at + plain);
    }
    let special = |&byte: &u8| byte < 0x20 || matches!(byte, b'"' | b'\\');
    let last = &rest[plain..];
    at + plain + last.iter().position(special).unwrap_or(last.len())
}

/// The same for the long texts that are most of a large body. The fold has no early exit, so that
/// it becomes vector instructions.
fn long_plain_until(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let length = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let run = &rest[..length];
    if run.iter().fold(false, |bad, &byte| bad | (byte < 0x20)) {
        return at + run.iter().position(|&byte| byte < 0x20).unwrap_or(length);
    }
    at + length
}

/// Marks, by the high bit of each byte, the bytes of a word that are special inside a string. Only
/// the lowest mark is sure: a borrow may set others above it.
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = |bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let equal = |byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero
    };
    (below(0x20) | equal(b'"') | equal(b'\\')) & (ONES << 7)
}

/// A member's name as written, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'b> {
    /// Where it begins, behind its quote.
    pub(crate) start: usize,
    pub(crate) raw: &'b [u8],
    /// It holds escapes and must be decoded before it is compared.
    pub(crate) escaped: bool,
}

impl<'b> Name<'b> {
    /// The name itself, decoded into `room` if it has to be; one that is no text (a lone
    /// surrogate) is no name that anyone knows.
    pub(crate) fn text<'t>(&self, room: &'t mut String) -> &'t [u8]
    where
        'b: 't,
    {
        if !self.escaped {
            return self.raw;
        }
        let quoted = [b"\"", self.raw, b"\""].concat();
        *room = serde_json::from_slice(&quoted).unwrap_or_default();
        room.as_bytes()
    }
}

/// A scanning position over a body.
pub(crate) struct Scanner<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) at: usize,
}

type Step<T = ()> = Result<T, Problem>;

impl<'b> Scanner<'b> {
    /// The next byte, if any, without moving.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Moves past white space.
    pub(crate) fn skip_space(&mut self) {
        while let Some(byte) = self.peek()
            && byte <= b' '
        {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return;
            }
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
            Some(b'"') => self.skip_string().map(drop),
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

    /// Moves past a string, its quotes included. Says whether it holds escapes.
    pub(crate) fn skip_string(&mut self) -> Step<bool> {
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            self.at = plain_until(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.skip_escape()?;
                }
                Some(_) => return Err(Problem::ControlCharacter),
                None => return Err(Problem::Ended),
            }
        }
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
        self.members(depth, |_, inner| inner.skip_value(depth + 1))
    }

    fn skip_array(&mut self, depth: u32) -> Step {
        self.elements(depth, |inner| inner.skip_value(depth + 1))
    }

    /// Walks the members of the object that begins here. `visit` is given each name, and has to
    /// move past the value.
    pub(crate) fn members(
        &mut self,
        depth: u32,
        mut visit: impl FnMut(Name<'b>, &mut Self) -> Step,
    ) -> Step {
        self.open(depth)?;
        if self.closes(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            let name = self.name()?;
            visit(name, self)?;
            if self.next_or_close(b'}')? {
                return Ok(());
            }
        }
    }

    /// Walks the elements of the array that begins here. `visit` has to move past each.
    pub(crate) fn elements(
        &mut self,
        depth: u32,
        mut visit: impl FnMut(&mut Self) -> Step,
    ) -> Step {
        self.open(depth)?;
        if self.closes(b']') {
            return Ok(());
        }
        loop {
            self.skip_space();
            visit(self)?;
            if self.next_or_close(b']')? {
                return Ok(());
            }
        }
    }

    /// Moves past the value that begins here, and gives its bytes.
    pub(crate) fn value(&mut self, depth: u32) -> Step<&'b [u8]> {
        let start = self.at;
        self.skip_value(depth)?;
        Ok(&self.bytes[start..self.at])
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

    /// Moves past a member's name, its colon, and the space around them.
    pub(crate) fn name(&mut self) -> Step<Name<'b>> {
        if !matches!(self.peek(), Some(b'"')) {
            return Err(self.peek().map_or(Problem::Ended, |_| Problem::ExpectedKey));
        }
        let start = self.at + 1;
        let escaped = self.skip_string()?;
        let name = Name { start, raw: &self.bytes[start..self.at - 1], escaped };
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(name)
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
        if self.at == start { Err(self.fault(Problem::BadNumber)) } else { Ok(()) }
    }

    fn skip_word(&mut self, word: &[u8]) -> Step {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(if word.starts_with(rest) { Problem::Ended } else { Problem::NotAValue })
    }

    /// What is wrong here: the body stops, or else `problem`.
    pub(crate) fn fault(&self, problem: Problem) -> Problem {
        if self.peek().is_none() { Problem::Ended } else { problem }
    }
}
