//! What a plan may look at in a request.

use http::HeaderMap;

use super::hash::Hash64;
use crate::directory::{Chain, Kind};
use crate::scope::Operation;

/// Output tokens that a request without a bound of its own is taken for.
pub const LIKELY_OUTPUT: u64 = 512;

/// The metadata of a request: the caller's own, from the key up, and then what was sent, which
/// anyone can make up.
pub fn metadata<'r>(
    caller: &'r Chain,
    sent: impl IntoIterator<Item = (&'r str, &'r str)>,
) -> Vec<(&'r str, &'r str)> {
    let own = caller.levels().flat_map(|level| level.terms.metadata.entries());
    own.chain(sent).collect()
}

/// A request, as far as a plan looks at it. What a plan looks at is said by its
/// [`Needs`]; the rest may be left out.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'r> {
    /// What it asks for.
    pub operation: Operation,
    /// Its headers, as they came.
    pub headers: &'r HeaderMap,
    /// The name of the virtual key.
    pub key: Option<&'r str>,
    /// The user.
    pub user: Option<&'r str>,
    /// The team.
    pub team: Option<&'r str>,
    /// The organisation.
    pub org: Option<&'r str>,
    /// Names and values. The first of a name counts, so that those of the caller, which nobody can
    /// make up, stand before those of the request.
    pub metadata: &'r [(&'r str, &'r str)],
    /// Input tokens, estimated.
    pub input_tokens: u64,
    /// Output tokens that are likely.
    pub output_tokens: u64,
    /// Whether it offers tools.
    pub has_tools: bool,
    /// Whether there are images in it.
    pub has_images: bool,
    /// Its `prompt_cache_key`.
    pub cache_key: Option<&'r str>,
    /// What is the same in all requests of a conversation and different in others, hashed.
    pub conversation: Option<u64>,
    /// When it came, in milliseconds since 1970.
    pub unix_ms: u64,
}

impl<'r> Facts<'r> {
    /// A request with these headers, of which nothing else is known.
    #[must_use]
    pub fn new(operation: Operation, headers: &'r HeaderMap) -> Self {
        Self {
            operation,
            headers,
            key: None,
            user: None,
            team: None,
            org: None,
            metadata: &[],
            input_tokens: 0,
            output_tokens: 0,
            has_tools: false,
            has_images: false,
            cache_key: None,
            conversation: None,
            unix_ms: 0,
        }
    }

    /// The same, asked by a caller: key, user, team and organisation.
    #[must_use]
    pub fn by(self, caller: &'r Chain) -> Self {
        let name = |kind| caller.level(kind).map(|level| &*level.holder.name);
        Self {
            key: name(Kind::Key),
            user: name(Kind::User),
            team: name(Kind::Team),
            org: name(Kind::Org),
            ..self
        }
    }

    pub(super) fn note(&self, name: &str) -> Option<&'r str> {
        self.metadata.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The key, or the user; hashed.
    pub(super) fn key_hash(&self) -> Option<u64> {
        let key = self.key.map(|key| Hash64::of("key", key));
        key.or_else(|| self.user.map(|user| Hash64::of("user", user)))
    }

    /// The user, or the key; hashed.
    pub(super) fn user_hash(&self) -> Option<u64> {
        let user = self.user.map(|user| Hash64::of("user", user));
        user.or_else(|| self.key_hash())
    }

    /// A header, or the key, or the user; hashed.
    pub(super) fn header_hash(&self, name: &http::HeaderName) -> Option<u64> {
        let value =
            self.headers.get(name).map(|value| Hash64::of_bytes("header", value.as_bytes()));
        value.or_else(|| self.key_hash())
    }
}

/// What a plan looks at that has to be worked out first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// [`Facts::metadata`].
    pub metadata: bool,
    /// [`Facts::input_tokens`] and [`Facts::output_tokens`].
    pub tokens: bool,
    /// [`Facts::has_tools`] and [`Facts::has_images`].
    pub content: bool,
    /// [`Facts::cache_key`].
    pub cache_key: bool,
    /// [`Facts::conversation`].
    pub conversation: bool,
}
