//! The providers of the snapshot: profile, file and environment joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use providers::{Auth, ErrorRule, Profile};
use wire::reply::ErrorMark;

use super::Builder;
use crate::config::{At, Config, ProviderConfig};
use crate::directory::Kind;
use crate::edits::EditPlan;
use crate::health::Causes;
use crate::health::MOST_CREDENTIALS;
use crate::names::nearest;
use crate::prefill::{self, Prefill};
use crate::problem::Place;
use crate::provider::{Clocks, Forward, Origin, Provider, Scheme, parse_base_url, shown};
use crate::secret::Secret;

impl Builder<'_> {
    pub(super) fn providers(&mut self, config: &Config, clocks: Clocks) -> Vec<Arc<Provider>> {
        let named: Vec<(String, At<ProviderConfig>)> = match &config.providers {
            Some(named) => named.iter().map(|(id, at)| (id.clone(), at.clone())).collect(),
            None => self.found_in_environment(),
        };
        let mut providers = Vec::new();
        for (id, written) in &named {
            let before = self.problems.len();
            let provider = self.provider(id, written, clocks);
            if config.providers.is_none() && self.problems.len() > before {
                // A variable that is wrong leaves its provider out; the others serve all the same.
                let found = self.problems.drain(before..);
                let told = found.map(|problem| format!("{id} is left out: {}", problem.message));
                self.warnings.extend(told);
                continue;
            }
            providers.extend(provider.map(Arc::new));
        }
        if !named.iter().any(|(id, _)| id == "echo")
            && let Some(echo) = self.provider("echo", &At::default(), clocks)
        {
            providers.push(Arc::new(echo));
        }
        providers
    }

    /// The providers whose usual environment variables are set, in the order of their ids, but
    /// Xinghe, where Magpie comes from, first.
    fn found_in_environment(&mut self) -> Vec<(String, At<ProviderConfig>)> {
        let mut found = Vec::new();
        for (id, profile) in self.profiles {
            let has_key = profile.env.key.iter().any(|name| self.env(name).is_some());
            let base_url = self.base_url_from_environment(id, profile);
            // A server of one's own is only there if it is said where: a key alone says nothing.
            let set_up = match profile.auth {
                Auth::Optional => base_url.is_some(),
                _ => has_key,
            };
            if !set_up || id == "openai-compatible" {
                continue;
            }
            if profile.base_url.is_none() && base_url.is_none() {
                let wanted = base_url_variables(id, profile).join(" or ");
                self.warnings.push(format!("{id} has a key but no base URL: set {wanted}"));
                continue;
            }
            found.push((id.clone(), At::default()));
        }
        found.sort_by_key(|(id, _)| id != "xinghe");
        found
    }

    fn base_url_from_environment(&self, id: &str, profile: &Profile) -> Option<String> {
        let text =
            base_url_variables(id, profile).iter().find_map(|name| self.env(name))?.to_owned();
        Some(completed(&text, profile.base_url.as_deref()))
    }

    fn profile(&mut self, id: &str, written: &At<ProviderConfig>) -> Option<(String, Profile)> {
        let asked = written.value.profile.as_ref();
        let wanted = asked.map_or(id, |at| at.value.as_str());
        let known = |name: &str| self.profiles.iter().find(|(known, _)| known == name).cloned();
        if let Some(found) = known(wanted) {
            return Some(found);
        }
        if let Some(at) = asked {
            let near = nearest(wanted, self.profiles.iter().map(|(known, _)| known.as_str()), 3);
            let hint = match near.first() {
                Some(_) => format!("did you mean {}?", near.join(" or ")),
                None => String::from("`magpie providers` lists them"),
            };
            self.problem(at.place, format!("there is no profile `{wanted}`"), hint);
            return None;
        }
        known("openai-compatible")
    }

    fn provider(
        &mut self,
        id: &str,
        written: &At<ProviderConfig>,
        clocks: Clocks,
    ) -> Option<Provider> {
        let (profile_id, profile) = self.profile(id, written)?;
        let place = written.place;
        if id.is_empty() || id.contains(['/', '*']) || HeaderValue::from_str(id).is_err() {
            self.problem(place, format!("`{id}` cannot name a provider"), "use letters and dashes");
            return None;
        }
        let file = &written.value;
        let (origin, base_path) = self.origin(id, &profile, written)?;
        let clocks = self.or(place, clocks.with(&profile.timeouts), clocks);
        let clocks = self.clocks(clocks, &file.timeouts);
        let edits = file.request.clone().unwrap_or(At { value: profile.request.clone(), place });
        self.checked_edits(&edits);
        let auth = file.auth.clone().unwrap_or_else(|| profile.auth.clone());
        let credential = self.credential(id, &profile, file, &auth, place);
        let credential_header =
            credential.as_ref().and_then(|key| self.header_of(id, key, &auth, place));
        let more_credentials = self.more_credentials(id, file, &auth);
        let headers = file.headers.clone().unwrap_or_default();
        let mut set = profile.headers.set.clone();
        set.extend(headers.set);
        let forward = [profile.headers.forward.clone(), headers.forward].concat();
        for name in forward.iter().filter(|name| !may_forward(name)) {
            let hint = "credentials, cookies and the connection's own headers stay here";
            self.problem(place, format!("the header `{name}` is not forwarded"), hint);
        }
        let errors = file.errors.clone().unwrap_or_else(|| profile.errors.clone());
        let holder =
            super::callers::holder(Kind::Provider, id, file.limits.as_ref(), file.budget.as_ref());
        self.holders.extend(holder.clone());
        let health_check = self.health_check(file.health_check.as_ref(), &profile, &base_path);
        if let Some(At { value, place }) = &file.prefill
            && let Some(message) = prefill::fault(value)
        {
            self.problem(
                *place,
                message,
                "write for example  prefill: { message: { partial: true } }",
            );
        }
        let prefill = prefill_of(file, &profile, &origin, &base_path);
        Some(Provider {
            id: id.into(),
            id_header: HeaderValue::from_str(id).ok()?,
            name: profile.name.clone(),
            profile: profile_id,
            origin: Arc::new(origin),
            base_path,
            credential_header,
            credential,
            more_credentials,
            headers: self.headers(set, place),
            forward: Forward::new(&forward),
            error_marks: errors.iter().map(mark).collect(),
            error_statuses: statuses(&errors),
            causes: Causes::new(&file.causes, &profile.causes),
            stream_usage: file.stream_usage.unwrap_or(profile.stream_usage),
            prefill,
            clocks,
            edits: Arc::new(EditPlan::compile(&edits.value)),
            models: file.models.clone().unwrap_or_else(|| profile.models.clone()),
            default_model: profile.default_model.clone(),
            region: file.region.clone().or_else(|| profile.region.clone()),
            prices: Arc::clone(&self.prices),
            health_check,
            windows: self.windows(file.concurrency.as_ref()),
            holder,
        })
    }

    fn origin(
        &mut self,
        id: &str,
        profile: &Profile,
        written: &At<ProviderConfig>,
    ) -> Option<(Origin, Box<str>)> {
        let file = &written.value;
        let (url, place) = match &file.base_url {
            Some(at) => (Some(at.value.clone()), at.place),
            None => {
                let found = self.base_url_from_environment(id, profile);
                (found.or_else(|| profile.base_url.clone()), written.place)
            }
        };
        let Some(url) = url else {
            let hint =
                format!("add base_url, or set {}", base_url_variables(id, profile).join(" or "));
            self.problem(place, format!("the provider `{id}` needs a base_url"), hint);
            return None;
        };
        match parse_base_url(&url) {
            Ok((mut origin, path)) => {
                if self.is_own(&origin) {
                    let message = format!("`{url}` is the address Magpie itself listens on");
                    self.problem(place, message, "name the provider's own address");
                    return None;
                }
                origin.http = file.http.unwrap_or(profile.http).into();
                origin.ca_file = file.ca_file.as_deref().map(Into::into);
                let local = matches!(&*origin.host, "localhost" | "127.0.0.1" | "::1");
                if origin.scheme == Scheme::Http && !local && !profile.auth.eq(&Auth::Optional) {
                    let url = shown(&url);
                    self.warnings.push(format!("{id}: the key travels unencrypted to {url}"));
                }
                Some((origin, path))
            }
            Err(message) => {
                self.problem(place, message, "write for example https://host/v1");
                None
            }
        }
    }

    fn credential(
        &mut self,
        id: &str,
        profile: &Profile,
        file: &ProviderConfig,
        auth: &Auth,
        place: Place,
    ) -> Option<Secret> {
        let from_env = || profile.env.key.iter().find_map(|name| self.env(name));
        let listed = file.api_keys.as_ref().and_then(|keys| keys.value.first());
        let written = file.api_key.as_ref().or(listed).map(|key| key.trim());
        let text = written.or_else(from_env);
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            return Some(Secret::new(text));
        }
        if *auth != Auth::Optional {
            let hint = match profile.env.key.first() {
                Some(name) => format!("set {name}, or write api_key"),
                None => String::from("write api_key, or `auth: optional` if it needs none"),
            };
            self.problem(place, format!("the provider `{id}` has no key"), hint);
        }
        None
    }

    /// The credentials behind the first one.
    fn more_credentials(
        &mut self,
        id: &str,
        file: &ProviderConfig,
        auth: &Auth,
    ) -> Vec<(Secret, (HeaderName, HeaderValue))> {
        let Some(At { value: keys, place }) = &file.api_keys else { return Vec::new() };
        let keys: Vec<&str> = keys.iter().map(|key| key.trim()).collect();
        let stands_before = |index: usize| keys[..index].contains(&keys[index]);
        let message = if file.api_key.is_some() {
            Some("one of `api_key` and `api_keys` is enough".to_owned())
        } else if keys.len() > MOST_CREDENTIALS {
            Some(format!("`api_keys` takes at most {MOST_CREDENTIALS} credentials"))
        } else if let Some(index) = keys.iter().position(|key| key.is_empty()) {
            Some(format!("credential {} of `{id}` is empty", index + 1))
        } else {
            let twice = (0..keys.len()).find(|index| stands_before(*index));
            twice.map(|index| format!("credential {} of `{id}` stands there before", index + 1))
        };
        if let Some(message) = message {
            self.problem(*place, message, "list each credential once, best from the environment");
            return Vec::new();
        }
        let more = keys.iter().skip(1).map(|key| {
            let secret = Secret::new(key);
            let header = self.header_of(id, &secret, auth, *place)?;
            Some((secret, header))
        });
        more.flatten().collect()
    }

    fn header_of(
        &mut self,
        id: &str,
        key: &Secret,
        auth: &Auth,
        place: Place,
    ) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match auth {
            Auth::Bearer | Auth::Optional => {
                (Ok(http::header::AUTHORIZATION), format!("Bearer {}", key.expose()))
            }
            Auth::Header(name) => (name.parse(), key.expose().to_owned()),
        };
        match (name, HeaderValue::from_str(&text)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                Some((name, value))
            }
            _ => {
                let hint = "is there a line break or a space in it?";
                self.problem(place, format!("the key of `{id}` cannot be sent in a header"), hint);
                None
            }
        }
    }

    fn headers(
        &mut self,
        set: BTreeMap<String, String>,
        place: Place,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, value) in set {
            match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                (Ok(name), Ok(value)) if !is_framing(name.as_str()) => headers.push((name, value)),
                _ => self.problem(place, format!("`{name}` is no header"), "check name and value"),
            }
        }
        headers
    }
}

/// The variables that hold another base URL for a provider, in the order they are read.
fn base_url_variables(id: &str, profile: &Profile) -> Vec<String> {
    let own = format!("{}_BASE_URL", id.to_ascii_uppercase().replace('-', "_"));
    let others = profile.env.base_url.iter().filter(|name| **name != own).cloned();
    std::iter::once(own.clone()).chain(others).collect()
}

/// A base URL from the environment, which may be as short as Ollama's `0.0.0.0` or
/// `localhost:11434`: what is missing is taken from the profile's own.
fn completed(text: &str, profile_url: Option<&str>) -> String {
    let usual = profile_url.and_then(|url| parse_base_url(url).ok());
    let text = text.trim_end_matches('/');
    if text.contains("://") {
        let url = text.replace("//0.0.0.0", "//127.0.0.1");
        let given_path = parse_base_url(&url).map(|(_, path)| path).unwrap_or_default();
        return match usual {
            Some((_, path)) if given_path.is_empty() => format!("{url}{path}"),
            _ => url,
        };
    }
    let (place, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let place = match place.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None => place.replacen("0.0.0.0", "127.0.0.1", 1),
    };
    let has_port = place.rsplit(']').next().unwrap_or_default().contains(':');
    let Some((usual, usual_path)) = usual else {
        return format!("http://{place}{path}");
    };
    let path = if path.is_empty() { &*usual_path } else { path };
    match (usual.scheme, has_port) {
        // Without a scheme, a key never travels less safely than it usually does.
        (Scheme::Https, _) => format!("https://{place}{path}"),
        (_, true) => format!("http://{place}{path}"),
        (_, false) => format!("http://{place}:{}{path}", usual.port),
    }
}

/// What the file says, or else the profile, whose path is that of its own host.
fn prefill_of(
    file: &ProviderConfig,
    profile: &Profile,
    origin: &Origin,
    base_path: &str,
) -> Option<Prefill> {
    if let Some(written) = &file.prefill {
        return Prefill::compile(&written.value, base_path, true);
    }
    let usual = profile.base_url.as_deref().and_then(|url| parse_base_url(url).ok());
    let is_usual = usual.is_some_and(|(usual, _)| usual.authority == origin.authority);
    Prefill::compile(profile.prefill.as_ref()?, base_path, is_usual)
}

fn mark(rule: &ErrorRule) -> ErrorMark {
    let (field, inner) = match rule.path.split_once('.') {
        Some((field, inner)) => (field, Some(inner.to_owned())),
        None => (rule.path.as_str(), None),
    };
    ErrorMark { field: field.to_owned(), inner, ok: rule.ok.clone() }
}

fn statuses(rules: &[ErrorRule]) -> Vec<(Box<str>, u16)> {
    rules
        .iter()
        .flat_map(|rule| rule.status.iter().map(|(code, status)| (code.as_str().into(), *status)))
        .collect()
}

/// Headers of the connection itself, which the HTTP library writes.
fn is_framing(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "expect"
            | "proxy-connection"
    )
}

/// Whether a client's header may be let through to a provider at all.
fn may_forward(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let prefix = name.trim_end_matches('*');
    let is_credential = |full: &str| {
        matches!(full, "authorization" | "proxy-authorization" | "cookie" | "x-api-key" | "api-key")
            || full.starts_with("x-goog-api-key")
    };
    match name.ends_with('*') {
        // A prefix has to say something: `*` or `x-*` would let everything through.
        true => prefix.len() >= 4 && prefix.starts_with("x-") || prefix.contains("-beta"),
        false => !is_framing(&name) && !is_credential(&name),
    }
}
