//! From a request and its script to what is done.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ask::{Ask, Endpoint};
use super::endpoints;
use super::render::{
    DEFAULT_PIECES, cut, digest_text, hidden_error, html, openai_error, pieces, wide_pieces,
};
use super::reply::{Manner, Reply};
use super::schema::example;
use super::script::Script;
use super::shape::{Answer, Call, Event, sections, whole};
use super::stream::{Ending, Plan, Step, Style};

/// What is done about a request.
#[derive(Debug)]
pub(crate) enum Action {
    Reply(Reply),
    Stream(Plan),
    /// Something else, after this time.
    Later(Duration, Box<Self>),
    /// Nothing, until the peer leaves.
    Hang,
}

/// Decides what is done about a request under a script.
pub(crate) fn act(ask: &Ask, script: &Script) -> Action {
    if let Some(action) = unshaped(ask, script) {
        return action;
    }
    let reply = match ask.endpoint {
        Endpoint::Embeddings => endpoints::embeddings(ask),
        Endpoint::Other => endpoints::reply(ask),
        _ if ask.stream && *script != Script::JsonForStream => {
            return Action::Stream(plan(ask, script));
        }
        _ => Reply::json(200, &whole(ask, &answer(ask, script))),
    };
    let mut reply = reply.manner(manner(script));
    reply.close = *script == Script::CloseAfter;
    reply.headers.extend(extra_headers(ask, script));
    Action::Reply(reply)
}

/// The scripts whose reply does not depend on the endpoint.
fn unshaped(ask: &Ask, script: &Script) -> Option<Action> {
    let reply = match script {
        Script::Hang => return Some(Action::Hang),
        Script::Slow(delay) => {
            return Some(Action::Later(*delay, Box::new(act(ask, &Script::Ok))));
        }
        Script::Html(status) => Reply::new(*status, "text/html; charset=utf-8", html(*status)),
        Script::NotSse => Reply::new(200, "text/event-stream", html(200)),
        Script::Status { code, retry_after } => status(*code, retry_after.as_deref()),
        Script::Error200(dialect) => Reply::json(200, &hidden_error(*dialect)),
        Script::ErrorEvent { dialect, .. } if !ask.stream => {
            Reply::json(200, &hidden_error(*dialect))
        }
        Script::Redirect(host) => Reply::new(307, "text/plain", "moved")
            .with("location", format!("http://{host}{}", ask.path)),
        Script::Big(bytes) => big(ask, *bytes),
        Script::Flood(bytes) if !ask.stream => {
            big(ask, usize::try_from(*bytes).unwrap_or(usize::MAX).min(1 << 28))
        }
        _ => return None,
    };
    Some(Action::Reply(reply))
}

fn status(code: u16, retry_after: Option<&str>) -> Reply {
    let mut reply = Reply::json(code, &openai_error(code))
        .with("x-request-id", "req_scripted")
        .with("x-ratelimit-limit-requests", "60")
        .with("x-ratelimit-limit-tokens", "150000")
        .with("x-ratelimit-remaining-requests", if code == 429 { "0" } else { "59" })
        .with("x-ratelimit-remaining-tokens", "149984");
    let reset = retry_after.map_or_else(|| "1s".to_owned(), |after| format!("{after}s"));
    reply =
        reply.with("x-ratelimit-reset-requests", reset).with("x-ratelimit-reset-tokens", "6m0s");
    match retry_after {
        Some(after) => reply.with("retry-after", after),
        None => reply,
    }
}

/// A reply whose body has this many bytes (never fewer than an empty one takes).
fn big(ask: &Ask, bytes: usize) -> Reply {
    let empty = whole(ask, &Answer::of(vec![String::new()])).to_string();
    let filler = "a".repeat(bytes.saturating_sub(empty.len()));
    Reply::json(200, &whole(ask, &Answer::of(vec![filler])))
}

/// How a script writes a reply that is not a stream.
fn manner(script: &Script) -> Manner {
    match script {
        Script::Cut(_) | Script::TruncatedBody => Manner::Half(Ending::Cut),
        Script::Reset(_) => Manner::Half(Ending::Reset),
        Script::Stall(_) => Manner::Half(Ending::Silence),
        Script::HangHeaders => Manner::HeadOnly,
        Script::Drip(delay) => Manner::Pieces(1, Some(*delay)),
        Script::Split(size) => Manner::Pieces(*size, None),
        _ => Manner::Whole,
    }
}

/// The headers a script adds to an ordinary reply.
fn extra_headers(ask: &Ask, script: &Script) -> Vec<(String, String)> {
    let list: &[(&str, &str)] = match script {
        Script::Digest => {
            return vec![("x-scripted-digest".to_owned(), digest_text(&ask.raw))];
        }
        Script::Headers => &[
            ("x-request-id", "req_scripted"),
            ("openai-processing-ms", "42"),
            ("openai-organization", "org-scripted"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-limit-tokens", "2000000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-remaining-tokens", "1999984"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-reset-tokens", "0s"),
            ("set-cookie", "__cf_bm=scripted; path=/; HttpOnly"),
            ("set-cookie", "_cfuvid=scripted; path=/"),
            ("access-control-allow-origin", "*"),
            ("access-control-expose-headers", "X-Request-ID"),
            ("server", "scripted"),
            ("via", "1.1 scripted"),
            ("alt-svc", "h3=\":443\"; ma=86400"),
            ("strict-transport-security", "max-age=31536000"),
            ("x-bce-request-id", "bce-scripted"),
            ("x-custom-header", "custom"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
        ],
        _ => &[],
    };
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What the reply says under a script; only the rest of it, if the request gives its beginning.
pub(crate) fn answer(ask: &Ask, script: &Script) -> Answer {
    let mut answer = said(ask, script);
    if let Some(rest) =
        beginning(ask).and_then(|begun| answer.text().strip_prefix(begun).map(str::to_owned))
    {
        answer.pieces = cut(&rest, 5);
    }
    answer
}

/// A last message of the role `assistant`: what is to be gone on with.
fn beginning(ask: &Ask) -> Option<&str> {
    let last = ask.body["messages"].as_array()?.last()?;
    let content = last["content"].as_str().filter(|content| !content.is_empty());
    content.filter(|_| last["role"] == "assistant")
}

fn said(ask: &Ask, script: &Script) -> Answer {
    match script {
        Script::Events { count, bytes, timed, .. } => Answer::of(pieces(*count, *bytes, *timed)),
        Script::Cut(count)
        | Script::Reset(count)
        | Script::Eof(count)
        | Script::Stall(count)
        | Script::Malformed(count)
        | Script::ErrorEvent { count, .. } => Answer::of(pieces(*count, 0, false)),
        Script::Flood(_) => Answer::of(vec!["x".repeat(1000)]),
        Script::Split(_) => Answer::of(wide_pieces()),
        Script::Drip(_) => Answer::of(vec!["drip ".to_owned(), "drop".to_owned()]),
        Script::Json => Answer::of(cut(&wanted_json(ask).to_string(), 8)),
        Script::Digest => Answer::of(cut(&digest_text(&ask.raw), 8)),
        Script::EchoHeaders => Answer::of(cut(&headers_json(ask).to_string(), 64)),
        Script::Tools if !answers_a_tool(ask) => Answer { calls: calls(ask), ..Answer::default() },
        Script::Reasoning => Answer {
            reasoning: ["Let ", "me ", "think."].map(str::to_owned).to_vec(),
            ..Answer::of(default_pieces())
        },
        Script::UsageEvery => Answer { usage_every: true, ..Answer::of(default_pieces()) },
        _ => Answer::of(default_pieces()),
    }
}

fn default_pieces() -> Vec<String> {
    DEFAULT_PIECES.map(str::to_owned).to_vec()
}

/// The received headers as an object: lower-case names, repeated ones joined with a comma.
fn headers_json(ask: &Ask) -> Value {
    let mut map = Map::new();
    for (name, value) in &ask.headers {
        let entry = map.entry(name.to_ascii_lowercase()).or_insert_with(|| json!(""));
        let before = entry.as_str().unwrap_or_default();
        let joined = if before.is_empty() { value.clone() } else { format!("{before}, {value}") };
        *entry = json!(joined);
    }
    Value::Object(map)
}

/// An object for the wanted schema, of chat completions or of responses.
fn wanted_json(ask: &Ask) -> Value {
    let chat = &ask.body["response_format"]["json_schema"]["schema"];
    let responses = &ask.body["text"]["format"]["schema"];
    match [chat, responses].into_iter().find(|schema| schema.is_object()) {
        Some(schema) => example(schema),
        None => json!({"answer": "scripted", "value": 1}),
    }
}

/// The last message is the result of a tool, so that it is time for an answer in words.
fn answers_a_tool(ask: &Ask) -> bool {
    let last = |list: &Value| list.as_array().and_then(|list| list.last().cloned());
    let chat = last(&ask.body["messages"]).is_some_and(|message| message["role"] == "tool");
    let responses =
        last(&ask.body["input"]).is_some_and(|item| item["type"] == "function_call_output");
    chat || responses
}

/// One call of the first tool that was offered.
fn calls(ask: &Ask) -> Vec<Call> {
    let tool = &ask.body["tools"][0];
    let function = if tool["function"].is_object() { &tool["function"] } else { tool };
    let name = function["name"].as_str().unwrap_or("get_weather").to_owned();
    let wanted = &function["parameters"]["properties"];
    let arguments = if wanted.as_object().is_some_and(|properties| !properties.is_empty()) {
        example(&function["parameters"])
    } else {
        json!({"city": "北京", "unit": "celsius"})
    };
    vec![Call { id: "call_scripted".to_owned(), name, arguments: arguments.to_string() }]
}

/// The stream of a script.
fn plan(ask: &Ask, script: &Script) -> Plan {
    let sections = sections(ask, &answer(ask, script));
    let delay = match script {
        Script::Events { delay, .. } => *delay,
        _ => Duration::ZERO,
    };
    let mut steps: Vec<Step> = Vec::new();
    let nothing = sections.content.is_empty() && ends_early(script);
    if !nothing && *script != Script::HangHeaders {
        steps.extend(sections.opening.into_iter().map(Step::Event));
    }
    match script {
        Script::HangHeaders => {}
        Script::Flood(bytes) => {
            let event = sections.content.into_iter().flatten().next();
            steps.extend(event.map(|event| Step::Flood { event, bytes: *bytes }));
        }
        _ => {
            for (i, events) in sections.content.into_iter().enumerate() {
                if i > 0 && !delay.is_zero() {
                    steps.push(Step::Pause(delay));
                }
                steps.extend(events.into_iter().map(Step::Event));
            }
        }
    }
    let rest = match script {
        Script::Cut(_)
        | Script::Reset(_)
        | Script::Eof(_)
        | Script::Stall(_)
        | Script::HangHeaders => Vec::new(),
        Script::NoDone => [sections.finish, sections.usage].concat(),
        Script::ErrorEvent { dialect, .. } => {
            [vec![Event::data(&hidden_error(*dialect))], sections.done].concat()
        }
        _ => [sections.finish, sections.usage, sections.done].concat(),
    };
    if matches!(script, Script::Malformed(_)) {
        steps.push(Step::Raw(b"data: {\"id\":\n\n".to_vec()));
    }
    steps.extend(rest.into_iter().map(Step::Event));
    let mut plan = Plan::new(steps, ending(script));
    plan.style = style(script);
    plan.headers = extra_headers(ask, script);
    plan.close = *script == Script::CloseAfter;
    plan
}

/// Without content these scripts send nothing at all before they misbehave.
fn ends_early(script: &Script) -> bool {
    matches!(
        script,
        Script::Cut(_)
            | Script::Reset(_)
            | Script::Eof(_)
            | Script::Stall(_)
            | Script::Malformed(_)
            | Script::ErrorEvent { .. }
    )
}

fn ending(script: &Script) -> Ending {
    match script {
        Script::Cut(_) | Script::TruncatedBody => Ending::Cut,
        Script::Reset(_) => Ending::Reset,
        Script::Stall(_) | Script::HangHeaders => Ending::Silence,
        _ => Ending::Complete,
    }
}

fn style(script: &Script) -> Style {
    let plain = Style::default();
    match script {
        Script::Crlf => Style { line_end: "\r\n", ..plain },
        Script::NoSpace => Style { space: false, ..plain },
        Script::Comments => Style { comments: true, ..plain },
        Script::Events { timed: true, .. } => Style { timed: true, ..plain },
        Script::Split(size) => Style { split: Some(*size), ..plain },
        Script::Drip(delay) => Style { split: Some(1), drip: Some(*delay), ..plain },
        _ => plain,
    }
}
