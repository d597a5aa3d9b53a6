//! Random JSON text. Not values printed by a library, which are tidy, but text with all the
//! liberties that JSON gives: odd white space, every spelling of a number, escapes where none is
//! needed, the same name twice.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Names that members of a random object carry, each with the spellings it may have.
const NAMES: [(&str, &[&str]); 8] = [
    ("model", &[r#""model""#, r#""mod\u0065l""#, r#""\u006D\u006fdel""#]),
    ("stream_options", &[r#""stream_options""#]),
    ("stream", &[r#""stream""#, r#""\u0073tream""#]),
    ("", &[r#""""#]),
    ("中", &[r#""中""#, r#""\u4e2d""#]),
    ("q\"/", &[r#""q\"/""#, r#""q\"\/""#]),
    ("🎉", &[r#""🎉""#, r#""\ud83c\udf89""#]),
    ("Model", &[r#""Model""#]),
];

const NUMBERS: [&str; 13] = [
    "0",
    "-0",
    "7",
    "1.10",
    "-0.0",
    "1e400",
    "-1E-400",
    "2.5e+10",
    "123456789012345678901234567890",
    "-9007199254740993",
    "0.1000000000000000055511151231257827",
    "18446744073709551616",
    "1E0",
];

const PIECES: [&str; 22] = [
    "a",
    "model",
    "中文",
    "🎉",
    " ",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    "\u{7f}",
    "\u{2028}",
    r"\n",
    r"\/",
    r"\u4f60",
    r"\ud83d\ude00",
    r"\ud800",
    r#"\""#,
    r"\\",
    r"\b",
    r"\uABcd",
];

/// White space between tokens.
pub(crate) fn space() -> impl Strategy<Value = String> {
    vec(select(vec![" ", "\t", "\n", "\r", "\r\n"]), 0..3).prop_map(|parts| parts.concat())
}

/// A string with its quotes.
pub(crate) fn string() -> impl Strategy<Value = String> {
    vec(select(PIECES.to_vec()), 0..6).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// Any JSON value.
pub(crate) fn value() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        select(NUMBERS.to_vec()).prop_map(String::from),
        select(vec!["null", "true", "false", "{}", "[]", "[ \n]", "{\t}"]).prop_map(String::from),
        string(),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let spaced =
            (space(), inner, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}")).boxed();
        let member = (space(), string(), space(), spaced.clone())
            .prop_map(|(a, name, b, value)| format!("{a}{name}{b}:{value}"));
        prop_oneof![
            vec(spaced, 1..4).prop_map(|parts| format!("[{}]", parts.join(","))),
            vec(member, 1..4).prop_map(|parts| format!("{{{}}}", parts.join(","))),
        ]
    })
    .boxed()
}

/// One member of a random object.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its name, decoded.
    pub(crate) name: &'static str,
    /// Name, colon and the white space around the colon, as written.
    pub(crate) head: String,
    /// The value as written.
    pub(crate) value: String,
    space_before: String,
    space_behind: String,
}

/// A random object that remembers how it was put together.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) members: Vec<Member>,
    /// Up to and including `{`.
    pub(crate) opening: String,
    /// From `}` on.
    pub(crate) closing: String,
    space_if_empty: String,
}

impl Object {
    pub(crate) fn text(&self) -> String {
        self.text_with(|member| member.value.clone(), "")
    }

    /// The text with other values, and with `added` behind the last member's value.
    pub(crate) fn text_with(&self, value: impl Fn(&Member) -> String, added: &str) -> String {
        let mut text = self.opening.clone();
        for (place, member) in self.members.iter().enumerate() {
            let last = place + 1 == self.members.len();
            text.push_str(&member.space_before);
            text.push_str(&member.head);
            text.push_str(&value(member));
            text.push_str(if last { added } else { "" });
            text.push_str(&member.space_behind);
            text.push_str(if last { "" } else { "," });
        }
        if self.members.is_empty() {
            text.push_str(added);
            text.push_str(&self.space_if_empty);
        }
        text.push_str(&self.closing);
        text
    }
}

/// A JSON object with up to eight members, duplicates likely.
pub(crate) fn object() -> impl Strategy<Value = Object> {
    (space(), vec(member(), 0..8), space(), space()).prop_map(|(a, members, b, c)| Object {
        members,
        opening: format!("{a}{{"),
        closing: format!("}}{b}"),
        space_if_empty: c,
    })
}

fn member() -> impl Strategy<Value = Member> {
    (name(), vec(space(), 4), value()).prop_map(|((name, written), spaces, value)| Member {
        name,
        head: format!("{written}{}:{}", spaces[0], spaces[1]),
        value,
        space_before: spaces[2].clone(),
        space_behind: spaces[3].clone(),
    })
}

fn name() -> impl Strategy<Value = (&'static str, &'static str)> {
    let spellings = NAMES.iter().flat_map(|(name, all)| all.iter().map(|one| (*name, *one)));
    select(spellings.collect::<Vec<_>>())
}

/// A name that random objects may hold.
pub(crate) fn known_name() -> impl Strategy<Value = &'static str> {
    select(NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// Damage to a text: what a torn upload or a careless client does to it.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    CutOff(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

impl Damage {
    pub(crate) fn apply(&self, text: &mut Vec<u8>) {
        let end = text.len() + 1;
        match self {
            Self::Insert(place, byte) => text.insert(place.index(end), *byte),
            Self::CutOff(place) => text.truncate(place.index(end)),
            _ if text.is_empty() => {}
            Self::Replace(place, byte) => {
                let place = place.index(text.len());
                text[place] = *byte;
            }
            Self::Delete(place) => {
                text.remove(place.index(text.len()));
            }
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(end), to.index(end));
                let again = text[from.min(to)..from.max(to)].to_vec();
                text.splice(to..to, again);
            }
        }
    }
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    let byte = || prop_oneof![4 => select(b"{}[]\",:\\ \n\t\r0019-+.eEutfn/\x00\x0c\x1f\x7f\xef".to_vec()), 1 => any::<u8>()];
    prop_oneof![
        (place(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (place(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        place().prop_map(Damage::Delete),
        place().prop_map(Damage::CutOff),
        (place(), place()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}
