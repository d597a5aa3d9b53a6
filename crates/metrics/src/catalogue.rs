//! Every metric, once: its name, its labels, and what it says, in English and Chinese. The tables
//! of the guide are made from this.
//!
//! Names are those that Prometheus expects: base units, `_total` for what only grows. Labels are
//! bounded: names of the configuration, and words of the code.

use crate::histogram::Scale;

mod process;
mod requests;
mod state;

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and begins at 0 with the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Times, in buckets.
    Histogram(Scale),
}

/// A text in two languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// In English.
    pub en: &'static str,
    /// In Chinese.
    pub zh: &'static str,
}

/// A metric with its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The labels of its samples.
    pub labels: &'static [&'static str],
    /// What it says. Without quotes, backslashes and line breaks, which one of the formats would
    /// have to escape.
    pub help: Words,
}

/// Families of one subject.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// The subject.
    pub title: Words,
    /// Its families.
    pub families: &'static [&'static Family],
}

/// Writes a section down: its constants, and the list of them.
macro_rules! section {
    (
        $(#[$about:meta])* $section:ident, $title:literal, $title_zh:literal;
        $($name:ident $kind:ident $(($scale:ident))? $text:literal [$($label:literal),*] $en:literal, $zh:literal;)*
    ) => {
        $(
            #[doc = $en]
            pub const $name: Family = Family {
                name: $text,
                kind: Kind::$kind $(($scale))?,
                labels: &[$($label),*],
                help: Words { en: $en, zh: $zh },
            };
        )*

        $(#[$about])*
        pub const $section: Section = Section {
            title: Words { en: $title, zh: $title_zh },
            families: &[$(&$name),*],
        };
    };
}
use section;

pub use process::*;
pub use requests::*;
pub use state::*;

/// All of them, by subject.
pub const ALL: [Section; 10] = [
    REQUESTS_SECTION,
    ATTEMPTS_SECTION,
    TOKENS_SECTION,
    LIMITS_SECTION,
    TARGETS_SECTION,
    OPTIONS_SECTION,
    QUEUES_SECTION,
    CONNECTIONS_SECTION,
    MAGPIE_SECTION,
    PROCESS_SECTION,
];
