//! From a token to who calls.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::crypto;
use serde_json::{Map, Value};

use super::issuer::{Issuer, Keys};
use super::keys::KeyRing;
use super::strict::object;
use crate::scope::Glob;

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8 << 10;
/// The longest user, team, organisation or key id, in bytes.
const MAX_NAME: usize = 256;
/// Models that a token may name.
const MAX_MODELS: usize = 256;
/// The end of the year 9999, in seconds: what is later is no time.
const MAX_TIME: u64 = 253_402_300_799;
/// Header parameters that would have the token say how it is to be trusted or read.
const FORBIDDEN: [&str; 8] = ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"];

/// Who calls, by a token that was verified.
#[derive(Debug, Clone)]
pub struct Claims {
    /// Who says so. The names below are the issuer's own: another's may be equal to them.
    pub issuer: Arc<Issuer>,
    /// The user.
    pub user: Box<str>,
    /// The team, if the issuer's claims are read for one.
    pub team: Option<Box<str>>,
    /// The organisation, likewise.
    pub org: Option<Box<str>>,
    /// The models that may be asked for; `None` for all.
    pub models: Option<Vec<Glob>>,
    /// The limits, as the token has them.
    pub limits: Option<Value>,
    /// When the token ends, in seconds since 1970, without the leeway.
    pub expires_s: u64,
}

/// Why a token is refused.
#[derive(Debug, Clone)]
pub enum JwtFault {
    /// It is no token: too long, or not of three parts of which two are objects.
    Form,
    /// Its header asks for what is not done.
    Header,
    /// Nobody has named its issuer.
    Issuer,
    /// It is signed with another algorithm than its issuer's.
    Algorithm,
    /// The issuer's keys could not be fetched so far.
    NoKeys(Arc<Issuer>),
    /// The issuer has no key of this id, as far as is known: it may have a new one.
    UnknownKey(Arc<Issuer>),
    /// The signature is not the issuer's.
    Signature,
    /// It is over.
    Expired,
    /// It has not begun.
    Early,
    /// It is for somebody else.
    Audience,
    /// A claim is missing or of another kind.
    Claim(Box<str>),
}

impl fmt::Display for JwtFault {
    /// Continues "the token is refused: ". Holds nothing of the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::Form => "it is not well formed",
            Self::Header => "its header asks for what is not done here",
            Self::Issuer => "its issuer is not known here",
            Self::Algorithm => "it is signed with another algorithm than its issuer's",
            Self::NoKeys(_) => "the keys of its issuer are not there yet",
            Self::UnknownKey(_) => "its key is not known",
            Self::Signature => "its signature is wrong",
            Self::Expired => "it has expired",
            Self::Early => "it is not valid yet",
            Self::Audience => "it is for another audience",
            Self::Claim(path) => return write!(f, "its claim `{path}` is missing or unusable"),
        };
        f.write_str(why)
    }
}

/// Whether a credential can only be meant as a token: three parts, the first a JSON object. A look
/// at its form, not at its truth.
#[must_use]
pub fn looks_like_token(credential: &str) -> bool {
    // `{"` in base64url.
    credential.starts_with("eyJ") && parts(credential).is_some()
}

/// Verifies a token and reads who calls.
///
/// `rings` gives the published keys of an issuer that has an [`Issuer::remote`]; it is not asked
/// about others. `now_s` is in seconds since 1970. The issuers have different names.
///
/// # Errors
/// The first reason not to believe it. On [`JwtFault::UnknownKey`] of an issuer with a remote, the
/// keys may be fetched again, not more often than the issuer can bear: anybody can cause it.
pub fn verify(
    token: &str,
    issuers: &[Arc<Issuer>],
    rings: &dyn Fn(&Issuer) -> Option<Arc<KeyRing>>,
    now_s: u64,
) -> Result<Claims, JwtFault> {
    let (header, payload, signature) = parts(token).ok_or(JwtFault::Form)?;
    let signed = &token[..header.len() + 1 + payload.len()];
    let header = object(header).ok_or(JwtFault::Form)?;
    let claims = object(payload).ok_or(JwtFault::Form)?;
    let (algorithm, key_id) = check_header(&header).ok_or(JwtFault::Header)?;
    // Not believed yet: it only says whose key would have to prove it.
    let named = claims.get("iss").and_then(Value::as_str).ok_or(JwtFault::Issuer)?;
    let issuer = issuers.iter().find(|issuer| *issuer.name == *named).ok_or(JwtFault::Issuer)?;
    // The library's names of the algorithms are those of the standard.
    if algorithm != format!("{:?}", issuer.algorithm) {
        return Err(JwtFault::Algorithm);
    }
    let unknown = || JwtFault::UnknownKey(Arc::clone(issuer));
    let fetched;
    let key = match &issuer.keys {
        Keys::One(key) => key,
        Keys::Set(ring) => ring.find(key_id).ok_or_else(unknown)?,
        Keys::Remote(_) => {
            fetched = rings(issuer).ok_or_else(|| JwtFault::NoKeys(Arc::clone(issuer)))?;
            fetched.find(key_id).ok_or_else(unknown)?
        }
    };
    match crypto::verify(signature, signed.as_bytes(), key, issuer.algorithm) {
        Ok(true) => believed(&claims, issuer, now_s),
        Ok(false) | Err(_) => Err(JwtFault::Signature),
    }
}

/// The three parts of a token.
fn parts(token: &str) -> Option<(&str, &str, &str)> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut parts = token.split('.');
    let three = (parts.next()?, parts.next()?, parts.next()?);
    let filled = !three.0.is_empty() && !three.1.is_empty() && !three.2.is_empty();
    (filled && parts.next().is_none()).then_some(three)
}

/// The algorithm and the key id that a header names, if there is nothing else in it to heed.
fn check_header(header: &Map<String, Value>) -> Option<(&str, Option<&str>)> {
    if FORBIDDEN.iter().any(|name| header.contains_key(*name)) {
        return None;
    }
    if let Some(kind) = header.get("typ") {
        let kind = kind.as_str()?.to_ascii_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        if !matches!(kind, "jwt" | "at+jwt") {
            return None;
        }
    }
    let key_id = match header.get("kid") {
        Some(id) => Some(id.as_str().filter(|id| id.len() <= MAX_NAME)?),
        None => None,
    };
    Some((header.get("alg")?.as_str()?, key_id))
}

/// What verified claims say, if they are for us and for now.
fn believed(
    claims: &Map<String, Value>,
    issuer: &Arc<Issuer>,
    now_s: u64,
) -> Result<Claims, JwtFault> {
    let expires_s = time(claims, "exp")?.ok_or_else(|| unusable("exp"))?;
    if now_s >= expires_s.saturating_add(issuer.leeway_s) {
        return Err(JwtFault::Expired);
    }
    let latest = now_s.saturating_add(issuer.leeway_s);
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|begin| begin > latest) {
            return Err(JwtFault::Early);
        }
    }
    if !is_for(claims.get("aud"), &issuer.audiences) {
        return Err(JwtFault::Audience);
    }
    let name_at = |path: &Option<String>| path.as_deref().map(|path| name(claims, path));
    let paths = &issuer.claims;
    Ok(Claims {
        issuer: Arc::clone(issuer),
        user: name(claims, &paths.user)?,
        team: name_at(&paths.team).transpose()?,
        org: name_at(&paths.org).transpose()?,
        models: paths.models.as_deref().map(|path| models(claims, path)).transpose()?,
        limits: paths.limits.as_deref().map(|path| limits(claims, path)).transpose()?,
        expires_s,
    })
}

fn unusable(claim: &str) -> JwtFault {
    JwtFault::Claim(claim.into())
}

/// A time in whole seconds; a claim of any other kind is not taken for a missing one.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, JwtFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let time = value.as_u64().filter(|time| *time <= MAX_TIME);
    time.map(Some).ok_or_else(|| unusable(name))
}

/// Whether `aud`, one text or a list of texts, names one of ours.
fn is_for(audience: Option<&Value>, ours: &[String]) -> bool {
    let is_ours = |named: &str| ours.iter().any(|known| known == named);
    match audience {
        Some(Value::String(one)) => is_ours(one),
        Some(Value::Array(list)) => {
            list.iter().all(Value::is_string) && list.iter().filter_map(Value::as_str).any(is_ours)
        }
        _ => false,
    }
}

/// The claim at a path: the whole of it as one name, as issuers use URLs for names, else what
/// stands before a dot and then the rest.
fn at<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    at(claims.get(first)?.as_object()?, rest)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

fn name(claims: &Map<String, Value>, path: &str) -> Result<Box<str>, JwtFault> {
    let text = at(claims, path).and_then(Value::as_str).filter(|text| is_name(text));
    text.map(Into::into).ok_or_else(|| unusable(path))
}

/// A list of patterns, or one.
fn models(claims: &Map<String, Value>, path: &str) -> Result<Vec<Glob>, JwtFault> {
    let listed = match at(claims, path) {
        Some(Value::Array(list)) if list.len() <= MAX_MODELS => &list[..],
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        _ => return Err(unusable(path)),
    };
    let globs = listed.iter().map(|text| text.as_str()?.parse().ok());
    globs.collect::<Option<_>>().ok_or_else(|| unusable(path))
}

fn limits(claims: &Map<String, Value>, path: &str) -> Result<Value, JwtFault> {
    let object = at(claims, path).filter(|value| value.is_object());
    object.cloned().ok_or_else(|| unusable(path))
}
