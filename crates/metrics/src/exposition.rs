//! The text formats in which metrics are told: that of Prometheus, version 0.0.4, and OpenMetrics
//! 1.0, which most take for its newer self.

use std::fmt::Write as _;

use crate::catalogue::{Family, Kind};
use crate::histogram::{Scale, Total};

/// A text format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// Prometheus text, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics text, version 1.0.
    OpenMetrics,
}

impl Form {
    /// The one that a reader wants, by the `Accept` header of its request; Prometheus text if it
    /// does not care.
    #[must_use]
    pub fn wanted(accept: &str) -> Self {
        let mut best = [0.0_f32; 2];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let form = match parts.next().unwrap_or_default() {
                "application/openmetrics-text" => 1,
                "text/plain" | "text/*" | "*/*" => 0,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            best[form] = best[form].max(quality.unwrap_or(1.0));
        }
        if best[1] > best[0] { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The number of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Billionths, written exactly.
    Nanos(u64),
    /// Any other.
    Float(f64),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

/// Metrics on their way into text, family by family.
#[derive(Debug)]
pub struct Exposition {
    form: Form,
    text: String,
}

impl Exposition {
    /// Nothing yet.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, text: String::with_capacity(64 << 10) }
    }

    /// Begins a family, of which all samples have to follow before the next one begins.
    pub fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let name = match self.form {
            Form::Prometheus => family.name,
            Form::OpenMetrics => family.name.trim_end_matches("_total"),
        };
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        // Writing to a String cannot fail; neither here nor below.
        let _ = writeln!(self.text, "# HELP {name} {}", family.help.en);
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        Samples { family, text: &mut self.text }
    }

    /// The text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'e> {
    family: &'static Family,
    text: &'e mut String,
}

impl Samples<'_> {
    /// A sample with a value for each label of the family; one that is empty is left out, which
    /// means the same.
    pub fn sample(&mut self, labels: &[&str], value: impl Into<Value>) {
        self.line("", labels, "", value.into());
    }

    /// The same, unless it is 0: for counters of which most never count.
    pub fn unless_zero(&mut self, labels: &[&str], value: Value) {
        if !matches!(value, Value::Whole(0) | Value::Nanos(0)) {
            self.line("", labels, "", value);
        }
    }

    /// The samples of a histogram, unless it is empty.
    pub fn histogram(&mut self, labels: &[&str], scale: Scale, total: &Total) {
        let count = total.count();
        if count == 0 {
            return;
        }
        let mut bound = String::new();
        for (ns, up_to) in total.up_to(scale) {
            bound.clear();
            nanos(&mut bound, ns);
            self.line("_bucket", labels, &bound, Value::Whole(up_to));
        }
        self.line("_bucket", labels, "+Inf", Value::Whole(count));
        self.line("_sum", labels, "", Value::Nanos(total.sum_ns));
        self.line("_count", labels, "", Value::Whole(count));
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: &str, value: Value) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let names = self.family.labels.iter().copied();
        let pairs = names.zip(labels.iter().copied()).chain([("le", bound)]);
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (name, value) in pairs.filter(|(_, value)| !value.is_empty()) {
            self.text.push(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
            before = ',';
        }
        self.text.push_str(if before == ',' { "} " } else { " " });
        let _ = match value {
            Value::Whole(number) => write!(self.text, "{number}"),
            Value::Float(number) => write!(self.text, "{number}"),
            Value::Nanos(number) => {
                nanos(self.text, number);
                Ok(())
            }
        };
        self.text.push('\n');
    }
}

/// Billionths as a decimal number, with at least one place: that is how both formats write the
/// bound of a bucket.
fn nanos(text: &mut String, number: u64) {
    let _ = write!(text, "{}.{:09}", number / 1_000_000_000, number % 1_000_000_000);
    let zeros = text.len() - text.trim_end_matches('0').len();
    text.truncate(text.len() - zeros.min(8));
}

fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
}
