//! The ledger as a file.

use jiff::tz::TimeZone;
use ledger::{By, Filter, Format, Opening, export_usage};
use serde_json::Value;

use crate::world::{closing, folder, open, opening, options};

fn written(rows: u64) -> (tempfile::TempDir, ledger::Ledger) {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for number in 0..rows {
        let model = if number == 0 { "=cmd|' /C calc'!A0" } else { "a,\"b\"\nc" };
        writer.opening(&Opening { model, ..opening(number) }).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    ledger.flush().unwrap();
    (folder, ledger)
}

fn export(ledger: &ledger::Ledger, format: Format) -> String {
    let mut out = Vec::new();
    let count = ledger.reader().unwrap().export(&Filter::default(), format, &mut out).unwrap();
    assert_eq!(count, 2);
    String::from_utf8(out).unwrap()
}

#[test]
fn csv_has_a_line_of_names_and_quotes_what_has_to_be() {
    let (_folder, ledger) = written(2);
    let text = export(&ledger, Format::Csv);
    let (names, rows) = text.split_once('\n').unwrap();
    assert!(names.starts_with("id,attempt,last_of,at,ended,key,"));
    let columns = names.split(',').count();
    let first = rows.lines().next().unwrap();
    assert_eq!(first.split(',').count(), columns);
    assert!(first.contains("2026-11-22T"), "{first}");
    assert!(first.contains(",'=cmd|' /C calc'!A0,"), "no spreadsheet computes it: {first}");
    assert!(first.contains(",0.0009,USD,false,"), "{first}");
    assert!(rows.contains(",\"a,\"\"b\"\"\nc\","), "{rows}");
}

#[test]
fn json_lines_are_json() {
    let (_folder, ledger) = written(2);
    let text = export(&ledger, Format::JsonLines);
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows[0]["model"], "=cmd|' /C calc'!A0");
    assert_eq!(rows[0]["cost"]["amount"], "0.0009");
    assert_eq!(rows[0]["cost"]["currency"], "USD");
    assert_eq!(rows[0]["provenance"], "reported");
    assert_eq!(rows[0]["tokens"]["output"], 300);
    assert!(rows[0]["id"].as_str().unwrap().starts_with("req_"));
}

#[test]
fn sums_can_be_written_too() {
    let (_folder, ledger) = written(2);
    let by = [By::Day, By::Team];
    let reader = ledger.reader().unwrap();
    let usage = reader.usage(&Filter::default(), &by, &TimeZone::UTC).unwrap();
    let mut out = Vec::new();
    export_usage(&usage, &by, Format::Csv, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("at,team,requests,attempts,errors,"));
    let line = lines.next().unwrap();
    assert!(line.starts_with("2026-11-22T00:00:00Z,red,2,2,0,2400,"), "{line}");
    let mut out = Vec::new();
    export_usage(&usage, &by, Format::JsonLines, &mut out).unwrap();
    let row: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&row["team"], &row["requests"]), (&Value::from("red"), &Value::from(2)));
}
