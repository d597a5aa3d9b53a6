//! Differences in words.

use super::{Interval, Measure};

/// What a difference is, in words: `slower by 118 ms (80 to 160)`.
pub(super) fn difference(measure: Measure, of: &str, interval: &Interval) -> String {
    let Interval { difference, low, high } = *interval;
    let (before, factor, behind) = unit(measure, of);
    let written = |value: f64| number(value * factor);
    if !interval.excludes_nothing() {
        let (low, high) = (written(low), written(high));
        return format!("no difference shown yet ({low} to {high}{behind})");
    }
    let [less, more] = directions(measure);
    let (word, by, least, most) = match difference > 0.0 {
        true => (more, difference, low, high),
        false => (less, -difference, -high, -low),
    };
    let (by, least, most) = (written(by), written(least), written(most));
    format!("{word} by {before}{by}{behind} ({least} to {most})")
}

/// What it is to have less and more of a measure.
fn directions(measure: Measure) -> [&'static str; 2] {
    match measure {
        Measure::Errors => ["fails less often", "fails more often"],
        Measure::Overtaken => ["overtaken less often", "overtaken more often"],
        Measure::Left => ["left less often", "left more often"],
        Measure::FirstToken | Measure::Total => ["faster", "slower"],
        Measure::OutputTokens => ["shorter", "longer"],
        Measure::Cost => ["cheaper", "dearer"],
        Measure::Feedback => ["rated lower", "rated higher"],
    }
}

/// What stands before an amount, how it is counted, and what stands behind it.
fn unit(measure: Measure, of: &str) -> (&str, f64, &'static str) {
    match measure {
        Measure::Errors | Measure::Overtaken | Measure::Left => ("", 100.0, " points"),
        Measure::FirstToken | Measure::Total => ("", 1.0, " ms"),
        Measure::OutputTokens => ("", 1.0, " tokens"),
        Measure::Cost => match of {
            "USD" => ("$", 1.0, ""),
            "CNY" => ("¥", 1.0, ""),
            _ => ("", 1.0, ""),
        },
        Measure::Feedback => ("", 1.0, ""),
    }
}

impl Measure {
    /// What it is called.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Overtaken => "overtaken",
            Self::Left => "left by the client",
            Self::FirstToken => "first token",
            Self::Total => "total time",
            Self::OutputTokens => "output tokens",
            Self::Cost => "cost",
            Self::Feedback => "feedback",
        }
    }

    /// A mean of it, with its unit.
    #[must_use]
    pub fn written(self, of: &str, mean: f64) -> String {
        let (before, factor, behind) = unit(self, of);
        let behind = match self {
            Self::Errors | Self::Overtaken | Self::Left => " %",
            Self::OutputTokens => "",
            _ => behind,
        };
        format!("{before}{}{behind}", number(mean * factor))
    }
}

/// A number with three digits that count, and all of those before the point.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if size == 0.0 || !size.is_finite() => 0,
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        // As many zeros as stand behind the point, and three more digits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 20")]
        _ => (2.0 - size.log10().floor()).clamp(0.0, 20.0) as usize,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    if text == "-0" { String::from("0") } else { text.to_owned() }
}
