//! Medians over the rounds, the table, the file and the limits.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::gateway::Kind;
use super::scenario::Figures;

/// The figures in the order of the table: name, meaning, decimals.
pub(crate) const FIGURES: [(&str, &str, usize); 29] = [
    ("small_cpu_us", "small request: CPU µs", 1),
    ("small_per_s", "small request: per second", 0),
    ("small_p50_us", "small request, 64 at once: p50 µs", 0),
    ("small_p99_us", "small request, 64 at once: p99 µs", 0),
    ("large_cpu_us", "100 KB request: CPU µs", 1),
    ("large_per_s", "100 KB request: per second", 0),
    ("large_p50_us", "100 KB request, 64 at once: p50 µs", 0),
    ("piled_event_cpu_us", "64 streams piled up: CPU µs per event", 2),
    ("piled_events_per_s", "64 streams piled up: events per second", 0),
    ("paced_event_cpu_us", "1,000 paced streams: CPU µs per event", 2),
    ("paced_first_p50_us", "1,000 paced streams: first event p50 µs", 0),
    ("paced_first_p99_us", "1,000 paced streams: first event p99 µs", 0),
    ("paced_delay_p50_us", "1,000 paced streams: delay per event p50 µs", 0),
    ("paced_delay_p99_us", "1,000 paced streams: delay per event p99 µs", 0),
    ("many_stream_rss_kib", "5,000 streams: memory per stream KiB", 1),
    ("many_event_cpu_us", "5,000 streams: CPU µs per event", 2),
    ("many_delay_p50_us", "5,000 streams: delay per event p50 µs", 0),
    ("many_delay_p99_us", "5,000 streams: delay per event p99 µs", 0),
    ("open_low_p50_us", "open loop 500/s: p50 µs", 0),
    ("open_low_p99_us", "open loop 500/s: p99 µs", 0),
    ("open_low_add_p50_us", "open loop 500/s: p50 µs over direct", 0),
    ("open_low_add_p99_us", "open loop 500/s: p99 µs over direct", 0),
    ("open_half_rate", "open loop at half of the most: per second", 0),
    ("open_half_p50_us", "open loop at half of the most: p50 µs", 0),
    ("open_half_p99_us", "open loop at half of the most: p99 µs", 0),
    ("open_half_add_p50_us", "open loop at half: p50 µs over direct", 0),
    ("open_half_add_p99_us", "open loop at half: p99 µs over direct", 0),
    ("start_ms", "start to first reply ms", 1),
    ("idle_rss_mib", "idle memory MiB", 1),
];

/// What magpie may cost: figure, limit, and whether it is a multiple of nginx's figure.
const LIMITS: [(&str, f64, bool); 5] = [
    ("small_cpu_us", 1.6, true),
    ("piled_event_cpu_us", 1.3, true),
    ("paced_event_cpu_us", 1.3, true),
    ("many_stream_rss_kib", 40.0, false),
    ("idle_rss_mib", 15.0, false),
];

/// What keys, limits, budgets and the ledger may add, and many targets and models: the multiple of
/// the open Magpie's figure.
const ADDED_LIMITS: [(Kind, &str, f64); 4] = [
    (Kind::Team, "small_cpu_us", 1.10),
    (Kind::Team, "piled_event_cpu_us", 1.10),
    (Kind::Team, "paced_event_cpu_us", 1.10),
    (Kind::Wide, "small_cpu_us", 1.05),
];

/// All figures of all rounds.
#[derive(Debug)]
pub(crate) struct Results {
    kinds: Vec<Kind>,
    rounds: usize,
    figures: Vec<(Kind, Figures)>,
    /// Replies that were wrong or missing.
    pub(crate) problems: Vec<String>,
    /// How busy the machine was before the worst of the rounds, from 0 to 1.
    pub(crate) busiest: f64,
}

/// A median with the smallest and the largest value.
#[derive(Clone, Copy, Debug)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Spread { least, median, most })
}

impl Results {
    pub(crate) fn new(kinds: Vec<Kind>, rounds: usize) -> Self {
        Self { kinds, rounds, figures: Vec::new(), problems: Vec::new(), busiest: 0.0 }
    }

    pub(crate) fn add(&mut self, kind: Kind, figures: Figures) {
        self.figures.push((kind, figures));
    }

    fn spread(&self, kind: Kind, name: &str) -> Option<Spread> {
        let of_kind = self.figures.iter().filter(|(other, _)| *other == kind);
        spread(of_kind.filter_map(|(_, figures)| figures.get(name).copied()).collect())
    }

    fn median(&self, kind: Kind, name: &str) -> Option<f64> {
        self.spread(kind, name).map(|spread| spread.median)
    }

    /// The median of one as a multiple of another's.
    fn ratio(&self, of: Kind, to: Kind, name: &str) -> Option<f64> {
        Some(self.median(of, name)? / self.median(to, name)?)
    }

    /// The table in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("Medians of {} round(s), least–most in brackets.\n\n|", self.rounds);
        let names = self.kinds.iter().map(|kind| kind.name());
        let ratios = ["magpie ÷ nginx", "team ÷ magpie", "wide ÷ magpie"];
        for name in ["figure"].into_iter().chain(names).chain(ratios) {
            let _ = write!(text, " {name} |");
        }
        text += "\n|---|";
        text += &"---:|".repeat(self.kinds.len() + ratios.len());
        for (name, meaning, decimals) in FIGURES {
            let _ = write!(text, "\n| {meaning} |");
            for kind in &self.kinds {
                let cell = self.spread(*kind, name).map_or_else(
                    || "–".to_owned(),
                    |Spread { least, median, most }| {
                        format!("{median:.decimals$} ({least:.decimals$}–{most:.decimals$})")
                    },
                );
                let _ = write!(text, " {cell} |");
            }
            let open = Kind::Magpie;
            for (of, to) in [(open, Kind::Nginx), (Kind::Team, open), (Kind::Wide, open)] {
                let ratio = self.ratio(of, to, name);
                let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
                let _ = write!(text, " {ratio} |");
            }
        }
        let busiest = self.busiest * 100.0;
        let _ =
            writeln!(text, "\n\nOther work on the machine before a round: at most {busiest:.0} %.");
        text
    }

    fn to_json(&self) -> Value {
        let rounds: Vec<Value> = self
            .figures
            .iter()
            .map(|(kind, figures)| json!({"gateway": kind.name(), "figures": figures}))
            .collect();
        let mut medians = Map::new();
        for kind in &self.kinds {
            let of_kind = FIGURES.iter().filter_map(|(name, ..)| {
                let Spread { least, median, most } = self.spread(*kind, name)?;
                let value = json!({"median": median, "least": least, "most": most});
                Some(((*name).to_owned(), value))
            });
            medians.insert(kind.name().to_owned(), Value::Object(of_kind.collect()));
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        json!({
            "unix_time": now.unwrap_or_default().as_secs(),
            "rounds": rounds,
            "medians": medians,
            "failed_limits": self.failed_limits(),
            "problems": self.problems,
            "busiest": self.busiest,
        })
    }

    /// Writes the figures to a file.
    pub(crate) fn save(&self, file: &Path) -> Result<(), String> {
        let problem = |error: std::io::Error| format!("{}: {error}", file.display());
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(problem)?;
        }
        std::fs::write(file, format!("{:#}\n", self.to_json())).map_err(problem)
    }

    /// Whether all that the limits are about was to be measured.
    pub(crate) fn can_check(&self) -> bool {
        [Kind::Nginx, Kind::Magpie].iter().all(|kind| self.kinds.contains(kind))
    }

    /// The limits that magpie exceeds or that could not be checked.
    pub(crate) fn failed_limits(&self) -> Vec<String> {
        let mut failed = Vec::new();
        for (name, limit, relative) in LIMITS {
            let value = match relative {
                true => self.ratio(Kind::Magpie, Kind::Nginx, name),
                false => self.median(Kind::Magpie, name),
            };
            let times = if relative { " times nginx" } else { "" };
            match value {
                Some(value) if value <= limit => {}
                Some(value) => {
                    failed.push(format!("{name} is {value:.2}{times}, allowed is {limit}{times}"));
                }
                None => failed.push(format!("{name} was not measured for magpie or nginx")),
            }
        }
        let measured = |(kind, ..): &&(Kind, _, _)| self.kinds.contains(kind);
        for (kind, name, limit) in ADDED_LIMITS.iter().filter(measured) {
            let kind_name = kind.name();
            match self.ratio(*kind, Kind::Magpie, name) {
                Some(ratio) if ratio <= *limit => {}
                Some(ratio) => failed.push(format!(
                    "{name} of {kind_name} is {ratio:.2} times the open one, allowed is {limit}"
                )),
                None => failed.push(format!("{name} was not measured for {kind_name} or magpie")),
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_limits() {
        let mut results = Results::new(vec![Kind::Nginx, Kind::Magpie], 3);
        for (nginx, magpie) in [(10.0, 20.0), (12.0, 15.0), (11.0, 16.0)] {
            results.add(Kind::Nginx, Figures::from([("small_cpu_us", nginx)]));
            results.add(Kind::Magpie, Figures::from([("small_cpu_us", magpie)]));
        }
        assert!(results.table().contains("| 11.0 (10.0–12.0) | 16.0 (15.0–20.0) | 1.45 |"));
        let failed = results.failed_limits();
        assert_eq!(failed.len(), 4);
        assert!(failed.iter().all(|line| !line.contains("small_cpu_us")));
    }
}
