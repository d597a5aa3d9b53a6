//! Who calls: from a credential to a [`Caller`].
//!
//! Every form in which SDKs send a key is read here and nowhere else, for every path alike. A key is
//! looked up by its keyed digest, so that neither the map nor its timing tells anything about keys.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use policy::directory::{Bar, Chain, Directory, Holder, Kind};
use policy::key::{Digest, KeyText, Pepper};
use policy::{Keyless, Snapshot};

use tokio::time::Instant;

use crate::fault::{Code, Fault};
use crate::intake::Operation;

/// Bytes of a key; a token of an issuer has a bound of its own.
const MAX_KEY: usize = 512;
/// The headers that carry a key as it is, beside `Authorization: Bearer`.
static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// What callers are known by. One for the process, shared by its workers.
pub struct Gate {
    /// When the process began: what limits count their nanoseconds from.
    pub epoch: Instant,
    /// Keys, users, teams, organisations.
    pub directory: Arc<Directory>,
    /// What digests of keys are keyed with.
    pub pepper: Pepper,
    /// Tokens of other issuers, if any are trusted.
    pub tokens: Option<Arc<dyn Tokens>>,
}

/// The callers of one worker: the gate, and the digests of keys that it knew when they were last
/// seen, by their text. One digest costs more than all else that is done to know a caller; whether
/// the key still counts is asked of the directory every time.
pub(crate) struct Callers {
    pub(crate) gate: Arc<Gate>,
    digests: RefCell<HashMap<Box<str>, Digest>>,
}

impl Callers {
    /// Digests that are remembered. One more, and it begins anew.
    const MOST: usize = 1024;

    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, digests: RefCell::default() }
    }

    /// Who has this key.
    fn holder(&self, text: &str, now_ms: u64) -> Option<Arc<Holder>> {
        let digest = self.digests.borrow().get(text).copied();
        if let Some(digest) = digest {
            return self.gate.directory.find(&digest, now_ms);
        }
        let digest = self.gate.pepper.digest(text.as_bytes());
        // Strangers leave nothing here.
        let holder = self.gate.directory.find(&digest, now_ms)?;
        let mut digests = self.digests.borrow_mut();
        if digests.len() >= Self::MOST {
            digests.clear();
        }
        digests.insert(text.into(), digest);
        Some(holder)
    }
}

/// Tokens of other issuers.
pub trait Tokens: Send + Sync {
    /// The chain of a token's bearer; `None` if it is no such token.
    ///
    /// # Errors
    /// Why it is refused.
    fn verify(&self, token: &str, now_ms: u64) -> Option<Result<Chain, TokenRefusal>>;
}

/// Why a token is refused: a sentence that tells nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRefusal {
    /// It does not hold.
    Invalid(String),
    /// Whether it holds cannot be told for now: its issuer's keys are not there.
    NotYet(String),
}

/// Whoever calls, known or not. Only [`identify`] makes one.
#[derive(Clone, Default)]
pub struct Caller {
    chain: Chain,
    address: Option<IpAddr>,
}

impl Caller {
    /// Everyone the call counts for.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Where the call comes from.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether everyone the call counts for lets it through: this operation, from there, now.
    ///
    /// # Errors
    /// A [`Fault`]: expired, disabled, or an address or an operation that their terms rule out.
    pub(crate) fn check(&self, operation: Operation, now_ms: u64) -> Result<(), Fault> {
        // Without an address, as over a socket of another kind, a list of addresses allows nobody.
        let from = self.address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let Some(bar) = self.chain.bar(operation, Some(from), now_ms) else { return Ok(()) };
        let code = match bar {
            Bar::Disabled(_) => Code::Disabled,
            Bar::Expired(_) => Code::Expired,
            Bar::Address(..) => Code::AddressNotAllowed,
            Bar::Operation(..) => Code::OperationNotAllowed,
        };
        let fault = Fault::new(code, format!("{bar}."));
        Err(if bar == Bar::Expired(Kind::Key) { fault.challenge() } else { fault })
    }

    /// Whether the model may be asked for, by its public name.
    pub(crate) fn may_use(&self, model: &str) -> bool {
        self.chain.bars_model(model).is_none()
    }

    /// Refuses a model that this caller may not use.
    pub(crate) fn check_model(&self, model: &str) -> Result<(), Fault> {
        if self.may_use(model) {
            return Ok(());
        }
        let shown: String = model.chars().take(100).collect();
        let message = match model {
            "" => String::from("This key may not use the default model."),
            _ => format!("This key may not use the model `{shown}`."),
        };
        Err(Fault::new(Code::ModelNotAllowed, message).param("model"))
    }
}

/// Finds out who calls. Whether they may is another question: see [`Caller::check`].
///
/// # Errors
/// A [`Fault`]: no credential where one is needed, or one that is not known.
pub(crate) fn identify(
    headers: &HeaderMap,
    address: Option<IpAddr>,
    snapshot: &Snapshot,
    callers: &Callers,
    now_ms: u64,
) -> Result<Caller, Fault> {
    let gate = &callers.gate;
    let needed = match snapshot.keyless {
        Keyless::Everyone => false,
        Keyless::UntilKeys => gate.directory.is_guarded(),
        Keyless::Nobody => true,
    };
    if !needed && !gate.directory.is_guarded() && snapshot.issuers.is_empty() {
        return Ok(Caller { chain: Chain::default(), address });
    }
    let chain = match credential(headers)? {
        None if needed => return Err(Fault::new(Code::NoKey, "No key was sent.").challenge()),
        None => Chain::default(),
        Some(text) => match known(text, callers, now_ms)? {
            Some(chain) => chain,
            // Tools insist on a key where none is needed: any text will do.
            None if !needed => Chain::default(),
            None => return Err(unknown(text)),
        },
    };
    Ok(Caller { chain, address })
}

/// The one credential of a request.
fn credential(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(bearer);
    let plain = KEY_HEADERS.iter().flat_map(|name| headers.get_all(name)).map(text);
    let mut found: Option<&str> = None;
    for credential in bearer.chain(plain) {
        let credential = credential?;
        if found.is_some_and(|found| found != credential) {
            let message = "Two different keys were sent, in two headers.";
            return Err(Fault::new(Code::InvalidKey, message).challenge());
        }
        found = Some(credential);
    }
    Ok(found.filter(|text| !text.is_empty()))
}

fn bearer(value: &HeaderValue) -> Result<&str, Fault> {
    let text = text(value)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(token.trim()),
        false => {
            let message = "The header Authorization has to be `Bearer` and the key.";
            Err(Fault::new(Code::InvalidKey, message).challenge())
        }
    }
}

fn text(value: &HeaderValue) -> Result<&str, Fault> {
    let unreadable = || Fault::new(Code::InvalidKey, "The key holds odd characters.").challenge();
    value.to_str().map(str::trim).map_err(|_| unreadable())
}

/// The chain of a key or a token; `None` if it is neither.
fn known(text: &str, callers: &Callers, now_ms: u64) -> Result<Option<Chain>, Fault> {
    if let Some(tokens) = &callers.gate.tokens
        && let Some(verified) = tokens.verify(text, now_ms)
    {
        return verified.map(Some).map_err(|refusal| match refusal {
            TokenRefusal::Invalid(why) => Fault::new(Code::InvalidToken, why).challenge(),
            TokenRefusal::NotYet(why) => Fault::new(Code::IssuerUnavailable, why)
                .header(header::RETRY_AFTER, HeaderValue::from_static("2")),
        });
    }
    if text.len() > MAX_KEY {
        return Ok(None);
    }
    Ok(callers.holder(text, now_ms).map(|holder| Chain::from(&holder)))
}

fn unknown(text: &str) -> Fault {
    let looks_own = text.starts_with("mk-");
    let message = match looks_own && KeyText::parse(text).is_none() {
        true => "The key is misspelt or cut short: its checksum does not fit.",
        false => "The key is not known.",
    };
    Fault::new(Code::InvalidKey, message).challenge()
}

#[cfg(test)]
mod tests;
