//! A provider, resolved: everything a request to it needs, ready to be written.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use providers::{Http, StreamUsage, Timeouts};
use wire::reply::ErrorMark;

use crate::directory::Holder;
use crate::edits::EditPlan;
use crate::health::{Causes, HealthCheck, Range};
use crate::key;
use crate::prefill::Prefill;
use crate::price::{ModelLimits, Overrides, Price, PriceBook};
use crate::secret::Secret;
use crate::units;

/// A provider of the snapshot.
pub struct Provider {
    /// Its name in this configuration.
    pub id: Arc<str>,
    /// The same, as the value of a header.
    pub id_header: HeaderValue,
    /// For people.
    pub name: String,
    /// The built-in profile it started from.
    pub profile: String,
    /// Where it lives.
    pub origin: Arc<Origin>,
    /// The path of its base URL, without a slash at the end.
    pub base_path: Box<str>,
    /// The header that carries the credential. Marked sensitive.
    pub credential_header: Option<(HeaderName, HeaderValue)>,
    /// The credential itself, to take it out of what the provider echoes.
    pub credential: Option<Secret>,
    /// The credentials that take turns with that one, each with its header.
    pub more_credentials: Vec<(Secret, (HeaderName, HeaderValue))>,
    /// Headers set on every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Client headers let through beyond the common ones.
    pub forward: Forward,
    /// How a reply of status 200 says "error".
    pub error_marks: Vec<ErrorMark>,
    /// The status to answer with, by a provider's own error code.
    pub error_statuses: Vec<(Box<str>, u16)>,
    /// What its error codes mean.
    pub causes: Causes,
    /// Whether a stream may be asked for its token counts.
    pub stream_usage: StreamUsage,
    /// How it is given the beginning of an answer to go on with; `None` if it cannot do that.
    pub prefill: Option<Prefill>,
    /// Its clocks.
    pub clocks: Clocks,
    /// Edits to every chat and completion request.
    pub edits: Arc<EditPlan>,
    /// Upstream models to list.
    pub models: Vec<String>,
    /// What `default` means if nothing else says so.
    pub default_model: Option<String>,
    /// Where requests end up.
    pub region: Option<String>,
    /// The configuration's prices, which come before the built-in ones.
    pub prices: Arc<Overrides>,
    /// How it is asked whether it is there, if it is.
    pub health_check: Option<HealthCheck>,
    /// How wide the windows of its credentials may be, if they have any.
    pub windows: Option<Range>,
    /// Its own limits and budgets, if it has any.
    pub holder: Option<Arc<Holder>>,
}

impl Provider {
    /// A server that is no provider, for calls that Magpie makes for itself, and the path and query
    /// of a URL there.
    ///
    /// # Errors
    /// A sentence, if the URL cannot be read.
    pub fn bare(url: &str) -> Result<(Self, String), String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (origin, path) = parse_base_url(base)?;
        let path = match (&*path, query) {
            ("", "") => String::from("/"),
            (path, "") => path.to_owned(),
            (path, query) => format!("{}?{query}", if path.is_empty() { "/" } else { path }),
        };
        let bare = Self {
            id: "".into(),
            id_header: HeaderValue::from_static(""),
            name: String::new(),
            profile: String::new(),
            origin: Arc::new(origin),
            base_path: "".into(),
            credential_header: None,
            credential: None,
            more_credentials: Vec::new(),
            headers: Vec::new(),
            forward: Forward::new(&[]),
            error_marks: Vec::new(),
            error_statuses: Vec::new(),
            causes: Causes::default(),
            stream_usage: StreamUsage::NeverAsk,
            prefill: None,
            clocks: Clocks::default(),
            edits: Arc::default(),
            models: Vec::new(),
            default_model: None,
            region: None,
            prices: Arc::default(),
            health_check: None,
            windows: None,
            holder: None,
        };
        Ok((bare, path))
    }

    /// The header of one of its credentials, by the number that a [`Lease`](crate::health::Lease)
    /// has; of the first for a number that none has.
    #[must_use]
    pub fn header_of_credential(&self, number: usize) -> Option<&(HeaderName, HeaderValue)> {
        let more = number.checked_sub(1).and_then(|index| self.more_credentials.get(index));
        more.map(|(_, header)| header).or(self.credential_header.as_ref())
    }

    /// All its credentials, to take them out of what it echoes.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.credential.iter().chain(self.more_credentials.iter().map(|(secret, _)| secret))
    }

    /// Marks that tell its credentials apart without being them, in their order: the beginning of
    /// a digest.
    pub(crate) fn credential_marks(&self) -> Vec<String> {
        let mark = |secret: &Secret| {
            let digest = key::sha256(secret.expose().as_bytes());
            digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        self.secrets().map(mark).collect()
    }

    /// What one of its models costs, if that is known.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<Arc<Price>> {
        let written = self.prices.find(&self.id, model);
        written.or_else(|| PriceBook::builtin().find(&self.profile, model))
    }

    /// What one of its models can take and give, as far as that is known.
    #[must_use]
    pub fn model_limits(&self, model: &str) -> ModelLimits {
        let written = self.prices.limits(&self.id, model);
        let known = PriceBook::builtin().limits(&self.profile, model).unwrap_or_default();
        ModelLimits {
            max_input: written.max_input.or(known.max_input),
            max_output: written.max_output.or(known.max_output),
        }
    }
}

/// Where connections go. Two providers with equal origins share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// How to speak.
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// `host:port` as the `Host` header has it.
    pub authority: Box<str>,
    /// HTTP versions.
    pub http: HttpVersions,
    /// Certificates to trust beside the usual ones: a PEM file.
    pub ca_file: Option<Box<str>>,
}

/// How to speak to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// The built-in echo: no network at all.
    Echo,
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// HTTP versions to speak to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpVersions {
    /// Whatever TLS negotiates; HTTP/1.1 over plain TCP.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

impl From<Http> for HttpVersions {
    fn from(http: Http) -> Self {
        match http {
            Http::Auto => Self::Auto,
            Http::Http1 => Self::Http1,
            Http::Http2 => Self::Http2,
        }
    }
}

/// Reads a base URL into an origin and a path.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_base_url(url: &str) -> Result<(Origin, Box<str>), String> {
    let origin = |scheme, host: &str, port, authority: &str| Origin {
        scheme,
        host: host.into(),
        port,
        authority: authority.into(),
        http: HttpVersions::Auto,
        ca_file: None,
    };
    if url == "echo:" {
        return Ok((origin(Scheme::Echo, "echo", 0, "echo"), "".into()));
    }
    let shown = shown(url);
    let uri: http::Uri = url.parse().map_err(|fault| format!("`{shown}` is not a URL: {fault}"))?;
    let (scheme, port) = match uri.scheme_str() {
        Some("http") => (Scheme::Http, 80),
        Some("https") => (Scheme::Https, 443),
        _ => return Err(format!("`{shown}` must begin with http:// or https://")),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(String::from("a base URL must not hold a user name or password"));
    }
    if uri.query().is_some() {
        return Err(format!("`{shown}` must not hold a query"));
    }
    let host = uri.host().unwrap_or_default();
    if authority != host && uri.port_u16().is_none() {
        return Err(format!("`{shown}` has no port from 1 to 65535"));
    }
    let host = host.trim_matches(['[', ']']);
    let path = uri.path().trim_end_matches('/');
    if let Some(front) = path.strip_suffix("/chat/completions") {
        return Err(format!("`{shown}` must end before /chat/completions, so at `{front}`"));
    }
    Ok((origin(scheme, host, uri.port_u16().unwrap_or(port), authority), path.into()))
}

/// A URL without the parts that a secret may stand in.
pub(crate) fn shown(url: &str) -> &str {
    let before_query = url.split(['?', '#']).next().unwrap_or_default();
    before_query.rsplit('@').next().unwrap_or_default()
}

/// Client headers let through to a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forward {
    exact: Vec<Box<str>>,
    prefixes: Vec<Box<str>>,
}

impl Forward {
    /// Reads the names; one that ends in `*` is a prefix.
    pub(crate) fn new(names: &[String]) -> Self {
        let mut forward = Self::default();
        for name in names {
            let name = name.to_ascii_lowercase();
            match name.strip_suffix('*') {
                Some(prefix) => forward.prefixes.push(prefix.into()),
                None => forward.exact.push(name.into()),
            }
        }
        forward
    }

    /// Whether a header of this lower-case name may pass.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.exact.iter().any(|known| &**known == name)
            || self.prefixes.iter().any(|prefix| name.starts_with(&**prefix))
    }
}

/// The four clocks of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// Until the connection stands, TLS included.
    pub connect: Duration,
    /// To the first event of a stream. A reply that is not streamed may take all of `total`.
    pub first_event: Duration,
    /// Between two events.
    pub idle: Duration,
    /// For the whole request.
    pub total: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_event: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(30 * 60),
        }
    }
}

impl Clocks {
    /// These clocks with what `written` says instead.
    ///
    /// # Errors
    /// A sentence about the first value that is no duration.
    pub(crate) fn with(self, written: &Timeouts) -> Result<Self, String> {
        let pick = |text: &Option<String>, else_: Duration| match text {
            Some(text) => units::duration(text),
            None => Ok(else_),
        };
        Ok(Self {
            connect: pick(&written.connect, self.connect)?,
            first_event: pick(&written.first_event, self.first_event)?,
            idle: pick(&written.idle, self.idle)?,
            total: pick(&written.total, self.total)?,
        })
    }
}
