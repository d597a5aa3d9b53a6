//! `POST /v1/feedback`: what a caller thinks of an answer.
//!
//! Nothing is kept but what the caller sent, and it is written down before that is confirmed.

use bytes::Bytes;
use http_body::Body;
use policy::json::Unique;
use serde_json::{Map, Value, json};

use crate::fault::{Code, Fault};
use crate::identify::Caller;
use crate::intake;
use crate::ports::{BoxError, Recorder, Unnoted};
use crate::request_id::RequestId;

/// Bytes of a body.
const MAX_BODY: usize = 16 << 10;
/// Bytes of a label.
const MAX_LABEL: usize = 64;
/// Bytes of a comment.
const MAX_COMMENT: usize = 1000;
/// What may stand in a body.
const FIELDS: [&str; 5] = ["request_id", "score", "rating", "label", "comment"];

/// What a caller thinks of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// The request that was answered.
    pub request: RequestId,
    /// How good, from 0 to 1.
    pub score: f64,
    /// What it is about, up to 64 bytes; empty if it is about the answer as a whole. The last one for
    /// a request and a label counts.
    pub label: String,
    /// In words, up to 1,000 bytes.
    pub comment: Option<String>,
}

/// Takes feedback, and answers with what was understood.
///
/// # Errors
/// A [`Fault`] for a body that is none, a request that this caller cannot see, and feedback that
/// cannot be written down.
pub(crate) async fn answer<B>(
    body: B,
    recorder: &dyn Recorder,
    caller: &Caller,
) -> Result<String, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let body = intake::read(body, MAX_BODY).await?;
    let feedback = Feedback::read(&body)?;
    let id = feedback.request;
    let answer = json!({
        "object": "feedback",
        "request_id": id.to_string(),
        "score": feedback.score,
        "label": Some(&feedback.label).filter(|label| !label.is_empty()),
    });
    recorder.feedback(feedback, caller).await.map_err(|why| refusal(why, id))?;
    Ok(answer.to_string())
}

fn refusal(why: Unnoted, id: RequestId) -> Fault {
    match why {
        Unnoted::Unknown => {
            let message = format!("There is no request {id} of yours that is over.");
            Fault::new(Code::UnknownRequest, message).param("request_id")
        }
        Unnoted::TooManyLabels => {
            let message = "There are too many labels for this request already.";
            Fault::new(Code::InvalidField, message).param("label")
        }
        Unnoted::Unrecorded => {
            Fault::new(Code::LedgerUnavailable, "Feedback cannot be recorded for now.")
        }
    }
}

impl Feedback {
    fn read(body: &[u8]) -> Result<Self, Fault> {
        let Unique(value) = serde_json::from_slice(body)
            .map_err(|fault| Fault::new(Code::InvalidJson, format!("The body: {fault}.")))?;
        let Value::Object(fields) = value else {
            return Err(Fault::new(Code::InvalidJson, "The body is no JSON object."));
        };
        if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let shown: String = name.chars().take(64).collect();
            let known = FIELDS.join(", ");
            return Err(wrong(&shown, format!("`{shown}` is no field; there are {known}.")));
        }
        let id = text(&fields, "request_id", 64)?.and_then(|text| RequestId::parse(&text));
        let Some(request) = id else {
            let message = "`request_id` has to be the x-request-id of an answer, such as \
                           req_0192f3c8a1b24c5d8e9f0a1b2c3d4e5f.";
            return Err(wrong("request_id", message));
        };
        Ok(Self {
            request,
            score: score(&fields)?,
            label: text(&fields, "label", MAX_LABEL)?.unwrap_or_default(),
            comment: text(&fields, "comment", MAX_COMMENT)?.filter(|text| !text.is_empty()),
        })
    }
}

/// The score, or the rating that stands for 1 or 0.
fn score(fields: &Map<String, Value>) -> Result<f64, Fault> {
    let given = |name| fields.get(name).filter(|value| !value.is_null());
    match (given("score"), given("rating")) {
        (Some(score), None) => {
            let score = score.as_f64().filter(|score| (0.0..=1.0).contains(score));
            score.ok_or_else(|| wrong("score", "`score` has to be a number from 0 to 1."))
        }
        (None, Some(Value::Bool(is_up))) => Ok(f64::from(u8::from(*is_up))),
        (None, Some(Value::String(word))) if word == "up" => Ok(1.0),
        (None, Some(Value::String(word))) if word == "down" => Ok(0.0),
        (None, Some(_)) => {
            Err(wrong("rating", "`rating` has to be \"up\", \"down\", true or false."))
        }
        (Some(_), Some(_)) => Err(wrong("rating", "Send `score` or `rating`, not both.")),
        (None, None) => Err(wrong("score", "`score` is missing: a number from 0 to 1.")),
    }
}

/// A text of at most so many bytes, if it is there.
fn text(
    fields: &Map<String, Value>,
    name: &'static str,
    most: usize,
) -> Result<Option<String>, Fault> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= most => Ok(Some(text.clone())),
        Some(Value::String(_)) => {
            Err(wrong(name, format!("`{name}` is longer than {most} bytes.")))
        }
        Some(_) => Err(wrong(name, format!("`{name}` has to be a string."))),
    }
}

fn wrong(name: &str, message: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidField, message).param(name)
}
