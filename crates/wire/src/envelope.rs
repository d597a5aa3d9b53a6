//! The envelope: a shallow map of a JSON object, from top-level key to byte span.
//!
//! A relay needs five fields of a request and must not lose the other fifty. So the body is
//! scanned once, strictly, and only the places of its top-level members are remembered; what is
//! not edited (see [`crate::splice`](mod@crate::splice)) leaves byte for byte as it came. Numbers
//! of thirty digits, escapes, white space and unknown fields cannot be lost, for they are never
//! read.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::json::Scanner;

/// Members of one object above which a body is refused: far above any real request, and it bounds
/// the map.
const MAX_FIELDS: usize = 10_000;

/// A top-level map of a JSON object. Borrows the body.
#[derive(Debug)]
pub struct Envelope<'b> {
    body: &'b [u8],
    fields: Vec<Field>,
    /// Where the members begin: just after `{`.
    start: usize,
}

#[derive(Debug, Clone)]
struct Field {
    /// The name as written, without its quotes.
    name: Range<usize>,
    value: Range<usize>,
    /// Whether the name holds escapes and must be decoded before it is compared.
    escaped: bool,
}

/// What kind of JSON value a span holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// a number of any size
    Number,
    /// a string
    String,
    /// an array
    Array,
    /// an object
    Object,
}

impl Kind {
    /// The word for it in an error message.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// A value in the body, unread.
#[derive(Debug, Clone, Copy)]
pub struct Value<'b> {
    raw: &'b [u8],
}

impl<'b> Value<'b> {
    /// A value that stands elsewhere, such as one of an edit; `None` if it is no JSON value.
    #[must_use]
    pub fn parse(raw: &'b [u8]) -> Option<Self> {
        std::str::from_utf8(raw).ok()?;
        let mut scanner = Scanner { bytes: raw, at: 0 };
        scanner.skip_value(0).ok()?;
        (scanner.at == raw.len()).then_some(Self { raw })
    }

    /// Its bytes as they stand in the body.
    #[must_use]
    pub fn raw(&self) -> &'b [u8] {
        self.raw
    }

    /// What kind of value it is, from its first byte (the scan has checked the rest).
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.raw.first() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The text, if it is a string. Borrows unless it holds escapes; `None` also for a string
    /// that is no valid text (a lone surrogate).
    #[must_use]
    pub fn as_str(&self) -> Option<Cow<'b, str>> {
        if self.kind() != Kind::String {
            return None;
        }
        let inner = &self.raw[1..self.raw.len() - 1];
        if memchr::memchr(b'\\', inner).is_none() {
            return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
        }
        serde_json::from_slice::<String>(self.raw).ok().map(Cow::Owned)
    }

    /// The truth, if it is a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.raw {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// Whether it is an array or object without members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.kind(), Kind::Array | Kind::Object)
            && self.raw[1..self.raw.len() - 1].iter().all(u8::is_ascii_whitespace)
    }
}

/// Why a body is not the JSON object it has to be, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub problem: Problem,
    /// Byte offset of the fault, from 0.
    pub offset: usize,
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}, column {}", self.problem, self.line, self.column)
    }
}

/// The ways in which a body can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It has no bytes, or only white space.
    Empty,
    /// It is not UTF-8.
    NotUtf8,
    /// It is JSON but not an object.
    NotAnObject,
    /// It stops in the middle.
    Ended,
    /// Another character had to stand here.
    Expected(char),
    /// A comma or this closing bracket had to stand here.
    ExpectedCommaOr(char),
    /// A member's name in double quotes had to stand here.
    ExpectedKey,
    /// No JSON value begins like this.
    NotAValue,
    /// A number that JSON does not know, such as `01` or `1.`.
    BadNumber,
    /// An escape that JSON does not know.
    BadEscape,
    /// A raw control character inside a string.
    ControlCharacter,
    /// More objects and arrays inside each other than this.
    TooDeep(u32),
    /// More members than this.
    TooManyFields(usize),
    /// Something follows the object.
    Trailing,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the body is empty"),
            Self::NotUtf8 => f.write_str("the body is not UTF-8"),
            Self::NotAnObject => f.write_str("the body is not a JSON object"),
            Self::Ended => f.write_str("the JSON ends too early"),
            Self::Expected(c) => write!(f, "expected `{c}`"),
            Self::ExpectedCommaOr(c) => write!(f, "expected `,` or `{c}`"),
            Self::ExpectedKey => f.write_str("expected a name in double quotes"),
            Self::NotAValue => f.write_str("expected a JSON value"),
            Self::BadNumber => f.write_str("not a JSON number"),
            Self::BadEscape => f.write_str("not a JSON escape"),
            Self::ControlCharacter => {
                f.write_str("a control character in a string has to be escaped")
            }
            Self::TooDeep(depth) => write!(f, "nested deeper than {depth} levels"),
            Self::TooManyFields(count) => write!(f, "more than {count} fields"),
            Self::Trailing => f.write_str("unexpected text after the JSON object"),
        }
    }
}

/// A field that Magpie reads stands twice in the body. Whoever authorises the first and whoever
/// serves the last would disagree, so it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The field.
    pub name: String,
}

impl<'b> Envelope<'b> {
    /// Maps `body`, which has to be one JSON object in UTF-8.
    ///
    /// # Errors
    /// [`Malformed`] with the place of the first fault. Nesting above 128 levels and more than
    /// 10,000 top-level fields are faults.
    pub fn scan(body: &'b [u8]) -> Result<Self, Malformed> {
        if let Err(fault) = std::str::from_utf8(body) {
            return Err(malformed(body, Problem::NotUtf8, fault.valid_up_to()));
        }
        let mut scanner = Scanner { bytes: body, at: 0 };
        scan_object(&mut scanner).map_err(|problem| malformed(body, problem, scanner.at))
    }

    /// The value of `name`, if it is there.
    ///
    /// # Errors
    /// [`Duplicate`] if `name` stands more than once, in whatever spelling.
    pub fn get(&self, name: &str) -> Result<Option<Value<'b>>, Duplicate> {
        let mut places = self.fields.iter().filter(|field| self.is_named(field, name));
        let first = places.next();
        if places.next().is_some() {
            return Err(Duplicate { name: name.to_owned() });
        }
        Ok(first.map(|field| Value { raw: &self.body[field.value.clone()] }))
    }

    /// Whether `name` stands at least once.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| self.is_named(field, name))
    }

    /// The body that was mapped.
    #[must_use]
    pub fn body(&self) -> &'b [u8] {
        self.body
    }

    /// How many members stand at the top level.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether the object is `{}`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The places of a member's value: several if the name stands more than once.
    pub(crate) fn value_spans(&self, name: &str) -> impl Iterator<Item = Range<usize>> {
        let named = self.fields.iter().filter(move |field| self.is_named(field, name));
        named.map(|field| field.value.clone())
    }

    /// The places to cut so that no member called by one of `names` remains, each with the one
    /// comma that belongs to it. The names are taken together, for what is a neighbour's comma
    /// depends on which neighbours stay.
    pub(crate) fn removal_spans(&self, names: &[&str]) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let mut kept_before = false;
        for (place, field) in self.fields.iter().enumerate() {
            if !names.iter().any(|name| self.is_named(field, name)) {
                kept_before = true;
                continue;
            }
            let start = field.name.start - 1;
            // With a survivor before it, a member goes with the comma in front of it; at the
            // front of the object it goes with the comma behind it.
            spans.push(match (kept_before, self.fields.get(place + 1)) {
                (true, _) => self.fields[place - 1].value.end..field.value.end,
                (false, Some(next)) => start..next.name.start - 1,
                (false, None) => start..field.value.end,
            });
        }
        spans
    }

    /// Just before the closing brace's white space: where new members go.
    pub(crate) fn insertion_point(&self) -> usize {
        self.fields.last().map_or(self.start, |field| field.value.end)
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        let written = &self.body[field.name.clone()];
        if !field.escaped {
            return written == name.as_bytes();
        }
        let quoted = &self.body[field.name.start - 1..=field.name.end];
        serde_json::from_slice::<String>(quoted).is_ok_and(|decoded| decoded == name)
    }
}

fn scan_object<'b>(scanner: &mut Scanner<'b>) -> Result<Envelope<'b>, Problem> {
    scanner.skip_space();
    match scanner.peek() {
        Some(b'{') => {}
        Some(_) => return Err(Problem::NotAnObject),
        None => return Err(Problem::Empty),
    }
    let start = scanner.at + 1;
    let mut fields = Vec::with_capacity(16);
    scanner.members(0, |name, inner| {
        if fields.len() == MAX_FIELDS {
            inner.at = name.start - 1;
            return Err(Problem::TooManyFields(MAX_FIELDS));
        }
        let value = inner.at;
        inner.skip_value(1)?;
        fields.push(Field {
            name: name.start..name.start + name.raw.len(),
            value: value..inner.at,
            escaped: name.escaped,
        });
        Ok(())
    })?;
    scanner.skip_space();
    match scanner.peek() {
        Some(_) => Err(Problem::Trailing),
        None => Ok(Envelope { body: scanner.bytes, fields, start }),
    }
}

fn malformed(body: &[u8], problem: Problem, offset: usize) -> Malformed {
    let before = &body[..offset.min(body.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    Malformed {
        problem,
        offset,
        line: memchr::memchr_iter(b'\n', before).count() + 1,
        column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
    }
}
