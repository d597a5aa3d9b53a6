//! What a request asks for.

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

use super::request::Request;

/// The endpoints whose replies the scripts shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Other,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) endpoint: Endpoint,
    pub(crate) model: String,
    /// The body, `Null` when it is not JSON.
    pub(crate) body: Value,
    pub(crate) raw: Bytes,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// How many choices are wanted.
    pub(crate) n: usize,
}

impl Ask {
    pub(crate) fn new(request: Request) -> Self {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let path = request.path().to_owned();
        let model = match body["model"].as_str() {
            Some(model) => model.to_owned(),
            None => form_field(&request, "model").or_else(|| deployment(&path)).unwrap_or_default(),
        };
        let n = body["n"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
        Self {
            endpoint: endpoint(&request.method, &path),
            model,
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            n: n.clamp(1, 128),
            body,
            raw: request.body,
            headers: request.headers,
            method: request.method,
            path,
        }
    }
}

fn endpoint(method: &str, path: &str) -> Endpoint {
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next().unwrap_or_default() {
        _ if method != "POST" => Endpoint::Other,
        "completions" if path.ends_with("/chat/completions") => Endpoint::Chat,
        "completions" => Endpoint::Completions,
        "responses" => Endpoint::Responses,
        "embeddings" => Endpoint::Embeddings,
        _ => Endpoint::Other,
    }
}

/// The name behind `/deployments/` in the path.
fn deployment(path: &str) -> Option<String> {
    let rest = path.split_once("/deployments/")?.1;
    rest.split('/').next().map(str::to_owned)
}

/// A text field of a multipart form.
pub(crate) fn form_field(request: &Request, name: &str) -> Option<String> {
    if !request.header("content-type")?.starts_with("multipart/form-data") {
        return None;
    }
    let mark = format!("name=\"{name}\"");
    let body = &request.body[memmem::find(&request.body, mark.as_bytes())?..];
    let body = &body[memmem::find(body, b"\r\n\r\n")? + 4..];
    let value = &body[..memmem::find(body, b"\r\n")?];
    Some(String::from_utf8_lossy(value).into_owned())
}
