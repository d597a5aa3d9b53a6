//! What is written is what the formats say, to the letter.

use std::collections::BTreeSet;

use metrics::catalogue::{self, ALL, WHOLE};
use metrics::{Count, Exposition, Form, Histogram, Kind, Scale, Total, Value};

#[test]
fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
    let scale = Scale { first_ns: 10, buckets: 4 };
    assert_eq!(scale.bounds().collect::<Vec<_>>(), [10, 20, 40, 80]);
    for (ns, bound) in [(0, 10), (1, 10), (10, 10), (11, 20), (20, 20), (21, 40), (80, 80)] {
        let histogram = Histogram::default();
        histogram.observe(scale, ns);
        let total: Total = [&histogram].into_iter().collect();
        for (upper, count) in total.up_to(scale) {
            assert_eq!(count, u64::from(upper >= bound), "{ns} at {upper}");
        }
    }
    for ns in [81, 1_000, u64::MAX] {
        let histogram = Histogram::default();
        histogram.observe(scale, ns);
        let total: Total = [&histogram].into_iter().collect();
        assert!(total.up_to(scale).all(|(_, count)| count == 0), "{ns}");
        assert_eq!((total.count(), total.sum_ns), (1, ns));
    }
}

#[test]
fn histograms_of_several_threads_add_up() {
    let (one, other) = (Histogram::default(), Histogram::default());
    one.observe(WHOLE, 5_000_000);
    other.observe(WHOLE, 5_000_000);
    other.observe(WHOLE, 1_000_000_000);
    let total: Total = [&one, &other].into_iter().collect();
    assert_eq!((total.count(), total.sum_ns), (3, 1_010_000_000));
    assert_eq!(total.up_to(WHOLE).next(), Some((10_000_000, 2)));
}

#[test]
fn a_count_is_what_was_added_and_never_below_zero() {
    let count = Count::default();
    count.add(2);
    count.add(3);
    count.sub(1);
    assert_eq!(count.get(), 4);
    count.sub(9);
    assert_eq!(count.get(), 0);
}

fn sample(form: Form) -> String {
    let mut told = Exposition::new(form);
    let mut requests = told.family(&catalogue::REQUESTS);
    requests.sample(&["a\"b\\c\nd", "lab", "chat", "", "2xx", "complete"], 7);
    requests.unless_zero(&["none", "lab", "chat", "", "2xx", "complete"], Value::Whole(0));
    told.family(&catalogue::COST)
        .sample(&["m", "lab", "chat", "t", "USD"], Value::Nanos(1_500_000_001));
    told.family(&catalogue::BUDGET_USED).sample(&["team", "search", "month"], 0.25);
    let histogram = Histogram::default();
    histogram.observe(catalogue::STEP, 1_500_000);
    let total: Total = [&histogram].into_iter().collect();
    let labels = ["m", "lab", "chat", ""];
    told.family(&catalogue::OUTPUT_TOKEN).histogram(&labels, catalogue::STEP, &total);
    told.finish()
}

#[test]
fn prometheus_text_is_as_the_format_has_it() {
    let text = sample(Form::Prometheus);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "# TYPE magpie_requests_total counter");
    let first = r#"magpie_requests_total{model="a\"b\\c\nd",provider="lab",operation="chat",status="2xx",outcome="complete"} 7"#;
    assert_eq!(lines[2], first);
    let cost = r#"magpie_cost_total{model="m",provider="lab",operation="chat",team="t",currency="USD"} 1.500000001"#;
    assert_eq!(lines[5], cost);
    let used = r#"magpie_budget_used_ratio{holder="team",name="search",period="month"} 0.25"#;
    assert_eq!(lines[8], used);
    let labels = r#"model="m",provider="lab",operation="chat""#;
    let name = "magpie_time_per_output_token_seconds";
    assert_eq!(lines[11], format!("{name}_bucket{{{labels},le=\"0.001\"}} 0"));
    assert_eq!(lines[12], format!("{name}_bucket{{{labels},le=\"0.002\"}} 1"));
    assert_eq!(lines[24], format!("{name}_bucket{{{labels},le=\"+Inf\"}} 1"));
    assert_eq!(lines[25], format!("{name}_sum{{{labels}}} 0.0015"));
    assert_eq!(lines[26], format!("{name}_count{{{labels}}} 1"));
    assert_eq!(lines.len(), 27);
}

#[test]
fn openmetrics_names_families_without_total_and_says_where_it_ends() {
    let text = sample(Form::OpenMetrics);
    assert!(text.starts_with("# HELP magpie_requests "), "{text}");
    assert!(text.contains("# TYPE magpie_requests counter\nmagpie_requests_total{"), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let plain = |text: &str| {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(plain(&text), plain(&sample(Form::Prometheus)), "the samples are the same");
}

#[test]
fn the_reader_says_which_form_it_wants() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, form) in [
        (prometheus, Form::OpenMetrics),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Form::OpenMetrics),
        ("", Form::Prometheus),
        ("*/*", Form::Prometheus),
        ("text/plain;version=0.0.4", Form::Prometheus),
        ("text/plain,application/openmetrics-text;q=0.5", Form::Prometheus),
        ("application/openmetrics-text;q=0", Form::Prometheus),
        ("text/html", Form::Prometheus),
    ] {
        assert_eq!(Form::wanted(accept), form, "{accept}");
    }
}

#[test]
fn the_catalogue_keeps_the_conventions() {
    let families: Vec<_> = ALL.iter().flat_map(|section| section.families).collect();
    let names: BTreeSet<&str> = families.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), families.len(), "each name once");
    for family in families {
        let name = family.name;
        assert!(name.starts_with("magpie_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        if let Kind::Histogram(scale) = family.kind {
            assert!(name.ends_with("_seconds"), "{name}");
            assert!(scale.buckets <= metrics::MOST_BUCKETS, "{name}");
        }
        for text in [family.help.en, family.help.zh] {
            assert!(!text.is_empty() && !text.contains(['"', '\\', '\n', '|']), "{name}: {text}");
        }
        assert!(family.help.en.ends_with('.') && family.help.zh.ends_with('。'), "{name}");
        assert!(!family.labels.contains(&"le"), "{name}");
    }
}
