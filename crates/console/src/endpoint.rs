//! From a request to a handler and back: the one way, the same for every route.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, on};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use policy::json::Unique;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use crate::Console;
use crate::auth::{Authorized, Caller};
use crate::fault::{Code, Fault, Language};
use crate::ids::is_id;
use crate::routes::At;

/// The largest body, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What stands behind a route. It is called on a blocking thread, so it reads and writes the store
/// directly.
pub trait Endpoint: At + Sized {
    /// What may stand behind the question mark.
    type Query: DeserializeOwned + JsonSchema + Send + 'static;
    /// What may stand in the body.
    type Body: DeserializeOwned + JsonSchema + Send + 'static;
    /// What it answers.
    type Answer: Serialize + JsonSchema;
    /// The status of the answer.
    const STATUS: StatusCode = StatusCode::OK;
    /// The type of the answer, as its description names it.
    const MEDIA: &'static str = "application/json";

    /// Does it.
    ///
    /// # Errors
    /// A [`Fault`], which becomes the answer.
    fn run(call: Call<Self>) -> Result<Self::Answer, Fault>;

    /// Writes the answer: its `Content-Type`, and its bytes.
    ///
    /// # Errors
    /// [`Code::Failed`] for what cannot be written.
    fn write(answer: Self::Answer) -> Result<(&'static str, Vec<u8>), Fault> {
        let json = serde_json::to_vec(&answer);
        let json = json.map_err(|_| Fault::new(Code::Failed, "The answer cannot be written."))?;
        Ok((Self::MEDIA, json))
    }
}

/// A call that the policy table let in, its parts read.
pub struct Call<E: Endpoint> {
    /// The proof, and with it the console.
    pub desk: Authorized<E>,
    /// The id in the path, where the route has one.
    pub id: String,
    /// Behind the question mark.
    pub query: E::Query,
    /// The body.
    pub body: E::Body,
    /// Which types of answer the caller takes, by its `Accept`; empty if it does not say.
    pub accept: String,
}

/// For routes that take no query or no body.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The only way to a handler.
pub(crate) fn mount<E: Endpoint>() -> MethodRouter<Console> {
    on(E::ROUTE.filter(), enter::<E>)
}

async fn enter<E: Endpoint>(State(console): State<Console>, request: Request) -> Response {
    let language = Language::of(request.headers());
    answer::<E>(console, request).await.unwrap_or_else(|fault| fault.respond(language))
}

async fn answer<E: Endpoint>(console: Console, request: Request) -> Result<Response, Fault> {
    let (mut parts, body) = request.into_parts();
    let caller = parts.extensions.remove::<Caller>();
    let caller = caller.ok_or_else(|| Fault::new(Code::Failed, "Nobody asked who calls."))?;
    // Before anything of the request is read.
    let desk = Authorized::<E>::check(console.inner(), caller)?;
    let id = id::<E>(&mut parts).await?;
    let query = parse_query::<E::Query>(&parts.uri)?;
    let body = match parts.method {
        Method::POST | Method::PUT | Method::PATCH => read(&parts, body).await?,
        _ => Bytes::new(),
    };
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let accept = accept.unwrap_or_default().to_owned();
    let answer = console.blocking(move || {
        let body = parse::<E::Body>(&body)?;
        E::write(E::run(Call { desk, id, query, body, accept })?)
    });
    let (media, bytes) = answer.await?;
    let media = (header::CONTENT_TYPE, HeaderValue::from_static(media));
    Ok((E::STATUS, [media], bytes).into_response())
}

/// The same for a caller that sends no request.
pub(crate) fn act<E: Endpoint>(
    desk: Authorized<E>,
    id: &str,
    query: &str,
    body: Value,
) -> Result<E::Answer, Fault> {
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    let uri = uri.map_err(|_| Fault::new(Code::InvalidField, "The query cannot be read."))?;
    let query = parse_query(&uri)?;
    let body = E::Body::deserialize(body).map_err(|error| field_fault(&error.to_string()))?;
    E::run(Call { desk, id: id.to_owned(), query, body, accept: String::new() })
}

fn parse_query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Fault> {
    let query = Query::try_from_uri(uri).map_err(|error| field_fault(&error.body_text()))?;
    Ok(query.0)
}

/// The id in the path. What cannot be an id is an id that nothing has.
async fn id<E: Endpoint>(parts: &mut Parts) -> Result<String, Fault> {
    if !E::ROUTE.path().contains("{id}") {
        return Ok(String::new());
    }
    match Path::<String>::from_request_parts(parts, &()).await {
        Ok(Path(id)) if is_id(&id) => Ok(id),
        _ => Err(Fault::not_found()),
    }
}

async fn read(parts: &Parts, body: Body) -> Result<Bytes, Fault> {
    let too_large =
        || Fault::new(Code::BodyTooLarge, format!("The body is over {MAX_BODY} bytes."));
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|text| text.parse().ok()).is_some_and(|length: u64| length > MAX_BODY as u64)
    {
        return Err(too_large());
    }
    let late = || Fault::new(Code::BodyTimeout, "The body did not arrive whole and in time.");
    let read = timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await.map_err(|_| late())?;
    let body = read.map_err(|error| match is_length_limit(&error) {
        true => too_large(),
        false => late(),
    })?;
    // A page can send forms and plain text anywhere; JSON it cannot without being let in.
    if !body.is_empty() && !is_json(parts) {
        return Err(Fault::new(Code::JsonRequired, "The body is not announced as JSON."));
    }
    Ok(body)
}

fn is_length_limit(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.to_string().contains("length limit"))
}

fn is_json(parts: &Parts) -> bool {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Reads a body; an empty one is an object without members.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let body = if body.is_empty() { b"{}" } else { body };
    let Unique(value) = serde_json::from_slice(body)
        .map_err(|error| Fault::new(Code::InvalidJson, format!("The body is no JSON: {error}.")))?;
    if !value.is_object() {
        return Err(Fault::new(Code::InvalidJson, "The body is no JSON object."));
    }
    T::deserialize(value).map_err(|error: serde_json::Error| field_fault(&error.to_string()))
}

/// A fault with the field that serde names in backticks.
fn field_fault(message: &str) -> Fault {
    let fault = Fault::new(Code::InvalidField, format!("{}.", message.trim_end_matches('.')));
    match message.split('`').nth(1) {
        Some(name) if is_id(name) => fault.param(name),
        _ => fault,
    }
}

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct List<T> {
    /// Always `list`.
    pub object: &'static str,
    /// What is on this page.
    pub data: Vec<T>,
    /// Whether more follows.
    pub has_more: bool,
    /// What to send as `after` for the next page.
    pub next: Option<String>,
}

/// The most items on a page.
pub const MAX_PAGE: u32 = 200;

impl<T> List<T> {
    /// A page of what was read with one item more than asked for.
    pub fn page(mut data: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = data.len() > limit;
        data.truncate(limit);
        let next = data.last().filter(|_| has_more).map(cursor);
        Self { object: "list", data, has_more, next }
    }
}

/// How many items to read for a page of so many: one more says whether there is another page.
pub(crate) fn one_more(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1)
}

/// How many items were asked for: 50 unless said otherwise.
///
/// # Errors
/// [`Code::InvalidField`] outside 1 to [`MAX_PAGE`].
pub fn page_size(limit: Option<u32>) -> Result<u32, Fault> {
    match limit.unwrap_or(50) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        _ => Err(Fault::field("limit", format!("`limit` is 1 to {MAX_PAGE}."))),
    }
}
