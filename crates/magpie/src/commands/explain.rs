//! `magpie explain MODEL`: where a request would go, and why, without sending it. From the
//! configuration alone, or asked of a Magpie that runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use console::api::plans::Asked;
use console::explain::{Now, explain as explained};
use console::store::Store;
use console::store::now_ms;
use policy::Snapshot;
use policy::directory::{Chain, Directory, Kind};
use policy::key::Pepper;
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, LocalOptions};

use super::{Outcome, load, say};
use crate::admin::TOKEN;
use crate::callers::{apply_file, apply_one};
use crate::configuration::Source;
use crate::upstream::{Network, TlsConfigs, ask_json};

/// What to explain.
#[derive(Debug, Args)]
pub(crate) struct Question {
    /// The model, as a client names it.
    model: String,
    /// The key that the request comes from, by its id or name.
    #[arg(long)]
    key: Option<String>,
    /// A header of the request, such as `x-tier: gold`; may be said several times.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Metadata of the request, such as `cost_center=4711`; may be said several times.
    #[arg(long = "metadata", value_name = "NAME=VALUE")]
    metadata: Vec<String>,
    /// What it asks for, such as `embedding`, `responses` or `image`. Default: chat.
    #[arg(long)]
    operation: Option<String>,
    /// Its input tokens; with them it is told what they cost.
    #[arg(long, value_name = "N")]
    input_tokens: Option<u64>,
    /// It offers tools.
    #[arg(long)]
    tools: bool,
    /// There are images in it.
    #[arg(long)]
    images: bool,
    /// Its `prompt_cache_key`.
    #[arg(long, value_name = "TEXT")]
    cache_key: Option<String>,
    /// When it comes, such as `2026-11-22T02:30:00Z`. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Ask the Magpie that runs, by the address of its admin API, such as `http://127.0.0.1:8001`,
    /// with the token in MAGPIE_ADMIN_TOKEN: then it is told how the targets are now.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// As JSON, in the form of the admin API.
    #[arg(long)]
    json: bool,
}

impl Question {
    /// As the admin API takes it.
    fn body(&self) -> Result<Value, String> {
        let mut body = Map::new();
        body.insert("model".into(), json!(self.model));
        body.insert("headers".into(), json!(pairs(&self.headers, ':', "x-tier: gold")?));
        body.insert("metadata".into(), json!(pairs(&self.metadata, '=', "cost_center=4711")?));
        body.insert("tools".into(), json!(self.tools));
        body.insert("images".into(), json!(self.images));
        let optional = [
            ("key", json!(self.key)),
            ("operation", json!(self.operation)),
            ("input_tokens", json!(self.input_tokens)),
            ("prompt_cache_key", json!(self.cache_key)),
            ("at", json!(self.at)),
        ];
        let given = optional.into_iter().filter(|(_, value)| !value.is_null());
        body.extend(given.map(|(name, value)| (name.to_owned(), value)));
        Ok(Value::Object(body))
    }
}

/// Names and values on both sides of a sign.
fn pairs(
    written: &[String],
    sign: char,
    example: &str,
) -> Result<BTreeMap<String, String>, String> {
    let pair = |text: &String| {
        let (name, value) = text
            .split_once(sign)
            .ok_or_else(|| format!("`{text}` has no `{sign}`; write for example \"{example}\""))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    written.iter().map(pair).collect()
}

/// `magpie explain`
pub(crate) fn explain(source: &Source, question: &Question) -> Outcome {
    let body = question.body()?;
    let told = match &question.admin {
        Some(url) => ask(url, &body)?,
        None => at_home(source, body)?,
    };
    match question.json {
        true => {
            let text = serde_json::to_string_pretty(&told);
            say(&format!("{}\n", text.map_err(|fault| fault.to_string())?))
        }
        false => say(&table(&told, question.admin.is_some())),
    }
}

/// What the configuration alone says, as if nothing had happened yet.
fn at_home(source: &Source, body: Value) -> Result<Value, String> {
    let snapshot = load(source)?;
    let asked: Asked = serde_json::from_value(body).map_err(|fault| fault.to_string())?;
    let key = asked.key().map(|key| chain(&snapshot, key)).transpose()?;
    let unix_ms = now_ms();
    let question = asked.question(unix_ms).map_err(|fault| fault.message)?;
    let told = explained(&snapshot, key.as_ref(), &question, Now { ms: 0, unix_ms });
    let told = told.map_err(|unknown| unknown.told(&question.model))?;
    serde_json::to_value(told).map_err(|fault| fault.to_string())
}

/// The key of this id or name with everyone above it: of the store, if there is one, or of the file.
fn chain(snapshot: &Snapshot, wanted: &str) -> Result<Chain, String> {
    let directory = Directory::default();
    // Nobody is let in by this directory, so it takes no secret to digest texts with.
    apply_file(&directory, &snapshot.callers, &Pepper::new([0; 32]));
    let store = snapshot.settings.data.as_ref().map(|folder| folder.join("settings.db"));
    if let Some(path) = store.filter(|path| path.exists()) {
        let store = Store::open(&path).map_err(|fault| fault.to_string())?;
        if let Some(holder) = apply_one(&directory, &store, wanted)? {
            return Ok(Chain::from(&holder));
        }
    }
    let filed = directory.holder(Kind::Key, wanted);
    // What was named may be the text of a key, which is not to be repeated.
    let unknown = || String::from("there is no such key: `magpie keys list` lists them");
    filed.map(|holder| Chain::from(&holder)).ok_or_else(unknown)
}

/// Asks the Magpie that runs.
fn ask(url: &str, body: &Value) -> Result<Value, String> {
    let token = std::env::var(TOKEN).map_err(|_| format!("{TOKEN} has to hold the token"))?;
    let url = format!("{}/admin/v1/explain", url.trim_end_matches('/'));
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let asked = runtime.map_err(|fault| fault.to_string())?.block_on(async {
        let network = Network::new(Arc::new(TlsConfigs::default()), Arc::default());
        ask_json(&network, &url, token.trim(), &body.to_string()).await
    });
    let (status, answer) = asked.map_err(|fault| format!("the admin API: {fault}"))?;
    if !status.is_success() {
        let said = wire::reply::error_text(&answer).message;
        return Err(said.unwrap_or_else(|| format!("the admin API answered {status}")));
    }
    serde_json::from_slice(&answer).map_err(|_| String::from("this is no admin API of a Magpie"))
}

/// The explanation for people. How targets are is only told by a Magpie that runs.
fn table(told: &Value, is_live: bool) -> String {
    let mut out = String::new();
    let (model, plan) = (text(&told["model"]), text(&told["plan"]));
    let through = if model == plan { String::new() } else { format!(" (by `{plan}`)") };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "model `{model}`{through}");
    if told["key"].is_object() {
        out.push_str(&key(&told["key"]));
    }
    let mut rows = vec![["#", "TARGET", "REGION", "WHY"].map(String::from).to_vec()];
    let states = ["BREAKER", "IN FLIGHT", "FIRST TOKEN", "CHECK", "INPUT COST"];
    let states = if is_live { &states[..] } else { &states[4..] };
    let clocks = ["CONNECT", "FIRST EVENT", "IDLE", "TOTAL"];
    rows[0].extend(states.iter().chain(&clocks).map(|name| (*name).to_owned()));
    for (index, one) in list(&told["candidates"]).enumerate() {
        let mut row = vec![
            (index + 1).to_string(),
            text(&one["target"]).to_owned(),
            or_dash(&one["region"]),
            text(&one["why"]).to_owned(),
        ];
        if is_live {
            row.extend(state(one));
        }
        row.push(or_dash(&one["input_cost"]["amount"]));
        let clocks = ["connect_ms", "first_event_ms", "idle_ms", "total_ms"];
        row.extend(clocks.map(|clock| time(&one["clocks"][clock])));
        rows.push(row);
    }
    out.push_str(&aligned(&rows));
    out.push_str(&passed_over(told, is_live));
    if let Some(composed) = told["composed"].as_str() {
        let _ = writeln!(out, "\nchats go to {composed}; these are the targets of the last");
    }
    if let Some(beside) = told["side_by_side"].as_str() {
        let _ = writeln!(out, "\nside by side: {beside}");
    }
    if let Some(mirror) = told["mirror"].as_str() {
        let _ = writeln!(out, "\nmirrored: {mirror}");
    }
    let most = &told["most_attempts"];
    let _ = match is_live {
        true => writeln!(
            out,
            "\nat most {most} of them are asked for one request; retries left now: {}",
            told["retries_left"]
        ),
        false => writeln!(
            out,
            "\nat most {most} of them are asked for one request; how targets are now is not \
             included: a Magpie that runs tells it, with --admin"
        ),
    };
    out
}

/// The targets that were passed over, with the reasons.
fn passed_over(told: &Value, is_live: bool) -> String {
    let mut rows = vec![["", "PASSED OVER", "REASON"].map(String::from).to_vec()];
    if is_live {
        rows[0].extend(["BREAKER", "IN FLIGHT", "FIRST TOKEN", "CHECK"].map(String::from));
    }
    for one in list(&told["skipped"]) {
        let (target, reason) = (text(&one["target"]).to_owned(), text(&one["reason"]).to_owned());
        let mut row = vec![String::from(" "), target, reason];
        if is_live {
            row.extend(state(one));
        }
        rows.push(row);
    }
    if rows.len() == 1 { String::new() } else { format!("\n{}", aligned(&rows)) }
}

/// A line about the key.
fn key(key: &Value) -> String {
    let above = ["user", "team", "org"].into_iter().filter_map(|kind| {
        let name = key[kind].as_str()?;
        Some(format!("{kind} {name}"))
    });
    let above: Vec<String> = above.collect();
    let above = if above.is_empty() { String::new() } else { format!(" ({})", above.join(", ")) };
    let may = match key["reason"].as_str() {
        None => "may make this request",
        Some(reason) => reason,
    };
    format!("key `{}`{above}: {may}\n", text(&key["name"]))
}

/// Breaker, requests in flight, mean time to the first token, health check.
fn state(one: &Value) -> [String; 4] {
    let breaker = &one["breaker"];
    let state = match (text(&breaker["state"]), breaker["percent"].as_u64()) {
        ("closed", Some(percent @ ..100)) => format!("closed, {percent} %"),
        (state, _) => state.replace('_', " "),
    };
    let check = match (one["check"]["result"].as_str(), &one["check"]["status"]) {
        (None, _) => String::from("-"),
        (Some("ok"), _) => format!("ok, {}", time(&one["check"]["took_ms"])),
        (Some(result), Value::Null) => result.replace('_', " "),
        (Some(result), status) => format!("{result}, {status}"),
    };
    [state, one["in_flight"].to_string(), time(&one["first_token_ms"]), check]
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or_dash(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// Milliseconds as they are written in the configuration: `400ms`, `2.5s`, `30m`.
fn time(ms: &Value) -> String {
    match ms.as_u64() {
        None => String::from("-"),
        Some(ms @ 0..1_000) => format!("{ms}ms"),
        Some(ms) if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        Some(ms) if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        Some(ms) => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
    }
}

/// Rows with their columns one below the other.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::time;

    #[test]
    fn times_are_written_as_in_the_configuration() {
        for (ms, written) in [
            (0, "0ms"),
            (400, "400ms"),
            (2_000, "2s"),
            (2_500, "2.5s"),
            (90_000, "90s"),
            (120_000, "2m"),
        ] {
            assert_eq!(time(&json!(ms)), written);
        }
        assert_eq!(time(&json!(null)), "-");
    }
}
