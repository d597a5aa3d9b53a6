//! `magpie ab MODEL`: how the variants of a model compare, from the ledger.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use console::experiment::{ALPHA, Asked, Comparison, Experiment, Over, Setup, Variant, told};
use console::reports::{Filter, Reports};
use console::store::now_ms;
use policy::units::milliseconds;

use super::{Outcome, load, say};
use crate::configuration::Source;
use crate::reports::LedgerReports;

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct AbQuestion {
    /// The model, as it was asked for.
    model: String,
    /// From so long ago on, such as `7d`, `12h` or `30m`.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = ago)]
    since: Duration,
    /// The chance that an interval ever misses the truth, above 0 and up to 0.5.
    #[arg(long, default_value_t = ALPHA, value_parser = alpha)]
    alpha: f64,
    /// As JSON, in the form of the admin API.
    #[arg(long)]
    json: bool,
}

/// A time in days, or as the configuration has it.
fn ago(text: &str) -> Result<Duration, String> {
    let Some(days) = text.strip_suffix('d') else {
        return policy::units::duration(text);
    };
    let days: Option<u32> = days.parse().ok().filter(|days| (1..=3660).contains(days));
    let days =
        days.ok_or_else(|| format!("`{text}` is no time; write for example 7d, at most 3660d"));
    Ok(Duration::from_secs(u64::from(days?) * 86_400))
}

fn alpha(text: &str) -> Result<f64, String> {
    let alpha: Option<f64> = text.parse().ok().filter(|alpha| *alpha > 0.0 && *alpha <= 0.5);
    alpha.ok_or_else(|| String::from("it is a number above 0 and at most 0.5, such as 0.05"))
}

/// `magpie ab`
pub(crate) fn ab(source: &Source, question: &AbQuestion) -> Outcome {
    let snapshot = load(source)?;
    let folder = snapshot.settings.data.as_ref().ok_or("no folder with a ledger: set `data`")?;
    let path = folder.join("ledger.db");
    if !path.exists() {
        return Err(format!("there is no ledger in {}", folder.display()));
    }
    let model = question.model.clone();
    let setup = Setup::of(&snapshot, &model);
    // A minute more: a clock that was set back hides nothing.
    let to_ms = now_ms() + 60_000;
    let since = milliseconds(question.since);
    let from_ms = now_ms().saturating_sub(since);
    let filter = Filter { model: Some(model.clone()), from_ms, to_ms, ..Filter::default() };
    let counts = LedgerReports::at(path).variants(&filter, &setup)?;
    let asked = Asked { model, from_ms, to_ms, alpha: question.alpha };
    let experiment = told(asked, &setup, counts);
    // A name that is no model any more may still have a past.
    if let (true, Err(unknown)) = (experiment.variants.is_empty(), snapshot.plan(&question.model)) {
        return Err(unknown.told(&question.model));
    }
    match question.json {
        true => {
            let text = serde_json::to_string_pretty(&experiment);
            say(&format!("{}\n", text.map_err(|fault| fault.to_string())?))
        }
        false => say(&table(&experiment)),
    }
}

fn table(experiment: &Experiment) -> String {
    let Some((baseline, others)) = experiment.variants.split_first() else {
        return String::from("nothing in this time\n");
    };
    let names = experiment.variants.iter().map(|variant| variant.name.chars().count());
    let width = names.max().unwrap_or_default().max(8) + 11;
    let mut out = format!(
        "{:<width$} {:>7} {:>9} {:>8} {:>8}\n",
        "VARIANT", "WEIGHT", "REQUESTS", "CALLERS", "STRAYED"
    );
    row(&mut out, width, &format!("{} (baseline)", baseline.name), baseline);
    for other in others {
        row(&mut out, width, &other.name, other);
    }
    for other in others {
        let all = experiment.comparisons.iter().filter(|it| it.variant == other.name);
        let all: Vec<&Comparison> = all.collect();
        let against = format!("{} AGAINST {}", other.name, baseline.name);
        differences(&mut out, &against, &all);
    }
    let percent = 100.0 * (1.0 - experiment.alpha);
    out.push_str(&format!(
        "\nin brackets: between what a difference lies, with {} % certainty however often you look\n",
        console::experiment::number(percent)
    ));
    if experiment.elsewhere > 0 {
        let count = experiment.elsewhere;
        out.push_str(&format!("{count} requests went first to a target of no variant\n"));
    }
    for warning in &experiment.warnings {
        out.push_str(&format!("note: {warning}\n"));
    }
    out
}

fn row(out: &mut String, width: usize, name: &str, variant: &Variant) {
    let Variant { requests, callers, strayed, .. } = variant;
    let weight = variant.weight.map_or_else(|| String::from("-"), |weight| weight.to_string());
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name:<width$} {weight:>7} {requests:>9} {callers:>8} {strayed:>8}");
}

/// What a variant and the baseline differ in.
fn differences(out: &mut String, title: &str, all: &[&Comparison]) {
    let _ = writeln!(
        out,
        "\n{title}\n{:<28} {:>12} {:>12} {:<9} DIFFERENCE",
        "MEASURE", "BASELINE", "VARIANT", " OVER"
    );
    for it in all {
        let name = match it.of.as_str() {
            "" => it.measure.title().to_owned(),
            of => format!("{}: {}", it.measure.title(), of.escape_debug()),
        };
        let mean = |mean: Option<f64>| match mean {
            Some(mean) => it.measure.written(&it.of, mean),
            None => String::from("-"),
        };
        let over = match it.over {
            Over::Callers => "callers",
            Over::Requests => "requests",
        };
        let _ = writeln!(
            out,
            "{name:<28} {:>12} {:>12}  {over:<8} {}",
            mean(it.baseline),
            mean(it.mean),
            it.words
        );
    }
}
