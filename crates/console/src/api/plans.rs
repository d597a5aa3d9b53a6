//! Where requests go: how one would, and how all targets are.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use policy::directory::{Chain, Expiry};
use policy::scope::Operation;
use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::file_key;
use crate::auth::{Desk, Reach};
use crate::endpoint::{Call, Endpoint, List, Nothing, one_more, page_size};
use crate::explain::{Explained, Now, PlannedTarget, Question, explain, targets};
use crate::fault::{Code, Fault};
use crate::ids::random;
use crate::live::Plans;
use crate::routes::at;
use crate::store::keys::{self, Named};
use crate::store::now_ms;

/// Headers of a request, as many as the API takes.
const MAX_HEADERS: usize = 100;
/// Bytes of a model's name.
const MAX_MODEL: usize = 1_024;

/// A request to explain.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The model, as a client names it; empty for the default.
    model: String,
    /// The key it comes from, by its id or name; without one, it comes from nobody who is known. A
    /// manager has to name one.
    key: Option<String>,
    /// Its headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Its metadata.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// What it asks for; `chat` if absent.
    operation: Option<Operation>,
    /// Its input tokens; 0 if absent, and then nothing is said of what they cost.
    input_tokens: Option<u64>,
    /// Whether it offers tools.
    #[serde(default)]
    tools: bool,
    /// Whether there are images in it.
    #[serde(default)]
    images: bool,
    /// Its `prompt_cache_key`.
    prompt_cache_key: Option<String>,
    /// When it comes, as `2027-01-31T12:00:00Z`; now if absent. How targets are is told as of now.
    at: Option<String>,
}

impl Asked {
    /// The key that was named.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The question, without the key.
    ///
    /// # Errors
    /// [`Code::InvalidField`].
    pub fn question(self, now_ms: u64) -> Result<Question, Fault> {
        if self.model.len() > MAX_MODEL {
            let message = format!("The name of a model is at most {MAX_MODEL} bytes long.");
            return Err(Fault::field("model", message));
        }
        let operation = self.operation.unwrap_or(Operation::Chat);
        if matches!(operation, Operation::Models | Operation::Feedback) {
            let message = "`models` and `feedback` are answered here and go to no target.";
            return Err(Fault::field("operation", message));
        }
        let moment = |text| Expiry::try_from(text).map(|moment| moment.0);
        let at_ms = self.at.map(moment).transpose();
        let at_ms = at_ms.map_err(|why| Fault::field("at", format!("`at`: {why}.")))?;
        Ok(Question {
            model: self.model,
            operation,
            headers: headers(&self.headers)?,
            metadata: self.metadata,
            input_tokens: self.input_tokens,
            has_tools: self.tools,
            has_images: self.images,
            cache_key: self.prompt_cache_key,
            at_ms: at_ms.unwrap_or(now_ms),
            random: u64::from_le_bytes(random()?),
        })
    }
}

/// Headers as they would come.
fn headers(written: &BTreeMap<String, String>) -> Result<HeaderMap, Fault> {
    if written.len() > MAX_HEADERS {
        return Err(Fault::field(
            "headers",
            format!("A request has at most {MAX_HEADERS} headers."),
        ));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let pair = HeaderName::try_from(name.as_str()).ok();
        let pair = pair.and_then(|name| Some((name, HeaderValue::try_from(value.as_str()).ok()?)));
        let Some((name, value)) = pair else {
            return Err(Fault::field("headers", "A name or a value can be no header."));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

impl Endpoint for at::Explain {
    type Query = Nothing;
    type Body = Asked;
    type Answer = Explained;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let (desk, asked, unix_ms) = (&*call.desk, call.body, now_ms());
        let key = chain(desk, asked.key())?;
        let question = asked.question(unix_ms)?;
        let Plans { snapshot, now_ms } = plans(desk)?;
        let now = Now { ms: now_ms, unix_ms };
        explain(&snapshot, key.as_ref(), &question, now).map_err(|unknown| {
            Fault::new(Code::UnknownModel, unknown.told(&question.model)).param("model")
        })
    }
}

/// The chain of the key that was named. One that is out of reach is as unknown as one that is not
/// there.
fn chain(desk: &Desk, named: Option<&str>) -> Result<Option<Chain>, Fault> {
    let Some(named) = named else {
        return match desk.reach {
            Reach::All => Ok(None),
            Reach::Team(_) => {
                Err(Fault::field("key", "A manager has to name a key of the own team."))
            }
        };
    };
    let found = desk.inner.store.read(|read| {
        Ok(match keys::named(read, &desk.reach, named)? {
            Named::One(key) => Named::One(key.id),
            Named::Several => Named::Several,
            Named::None => {
                file_key(desk, read, named)?.map_or(Named::None, |key| Named::One(key.id))
            }
        })
    })?;
    let unknown = || Fault::field("key", "There is no such key that works.");
    match found {
        Named::One(id) => desk.inner.live.chain(&id).ok_or_else(unknown).map(Some),
        Named::Several => Err(Fault::field("key", "Several keys are called so; name the id.")),
        Named::None => Err(unknown()),
    }
}

pub(super) fn plans(desk: &Desk) -> Result<Plans, Fault> {
    let nothing = || Fault::new(Code::Failed, "Nothing runs here that has plans.");
    desk.inner.live.plans().ok_or_else(nothing)
}

/// A page of targets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only those behind this id.
    after: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
    /// Only those of this model, by the name that is asked for.
    model: Option<String>,
}

impl Endpoint for at::ListTargets {
    type Query = Page;
    type Body = Nothing;
    type Answer = List<PlannedTarget>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let Page { after, limit, model } = call.query;
        let limit = page_size(limit)?;
        let after = after.as_deref().map(cursor).transpose()?;
        let Plans { snapshot, now_ms: ms } = plans(&call.desk)?;
        let mut all = snapshot.plans();
        all.retain(|(name, _)| model.as_deref().is_none_or(|model| **name == *model));
        let now = Now { ms, unix_ms: now_ms() };
        let most = one_more(limit);
        Ok(List::page(targets(&all, snapshot.health(), after, most, now), limit, |target| {
            target.id.clone()
        }))
    }
}

/// The name and number in an id.
fn cursor(id: &str) -> Result<(&str, usize), Fault> {
    let parts = id.rsplit_once('#').and_then(|(name, number)| Some((name, number.parse().ok()?)));
    parts.ok_or_else(|| Fault::field("after", "`after` is no id of a target."))
}
