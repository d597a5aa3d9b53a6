//! What a caller may ask for, and from where.
//!
//! A [`Scope`] narrows and never widens: an empty one allows everything, and each part of it that
//! is written takes something away.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// What one holder may ask for, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Models, by the name they are asked for; `None` for all.
    pub models: Option<Vec<Glob>>,
    /// Operations; `None` for all.
    pub operations: Option<Operations>,
    /// Networks to call from; empty for all.
    pub allow: Vec<Network>,
    /// Networks that may not call, whatever `allow` says.
    pub deny: Vec<Network>,
}

impl Scope {
    /// Whether this model may be asked for.
    #[must_use]
    pub fn allows_model(&self, name: &str) -> bool {
        self.models.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(name)))
    }

    /// Whether this operation may be asked for.
    #[must_use]
    pub fn allows_operation(&self, operation: Operation) -> bool {
        self.operations.is_none_or(|operations| operations.contains(operation))
    }

    /// Whether a call may come from this address. An IPv4 address that is written as an IPv6 one
    /// (`::ffff:10.0.0.1`) counts as what it is.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let holds = |networks: &[Network]| networks.iter().any(|net| net.0.contains(&address));
        !holds(&self.deny) && (self.allow.is_empty() || holds(&self.allow))
    }

    /// Whether everything that this scope allows is allowed by `other`: what a new key's scope
    /// must be to its maker's. Exact for models and operations; for addresses a `yes` can be
    /// trusted, while a scope that is within the other by its `deny` list alone gets a `no`.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.models_within(other) && self.operations_within(other) && self.addresses_within(other)
    }

    fn models_within(&self, other: &Self) -> bool {
        let Some(wider) = &other.models else { return true };
        let covers = |glob: &Glob| wider.iter().any(|wide| wide.covers(glob));
        self.models.as_ref().is_some_and(|globs| globs.iter().all(covers))
    }

    fn operations_within(&self, other: &Self) -> bool {
        match (self.operations, other.operations) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(mine), Some(theirs)) => mine.0 & !theirs.0 == 0,
        }
    }

    /// Two networks are nested or apart, and [`IpNet::aggregate`] joins neighbours, so one that is
    /// within a union is within one part of it.
    fn addresses_within(&self, other: &Self) -> bool {
        let joined = |networks: &[Network]| {
            IpNet::aggregate(&networks.iter().map(|net| net.0).collect::<Vec<_>>())
        };
        let covered = |nets: &[IpNet], inner: &IpNet| nets.iter().any(|net| net.contains(inner));
        let (allowed, denied) = (joined(&other.allow), joined(&self.deny));
        let allow_fits = other.allow.is_empty()
            || (!self.allow.is_empty() && self.allow.iter().all(|net| covered(&allowed, &net.0)));
        // What the other denies, as far as this one would let it in.
        let everywhere =
            [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].map(Network);
        let mine = if self.allow.is_empty() { &everywhere[..] } else { &self.allow };
        let deny_fits = other.deny.iter().all(|theirs| {
            mine.iter().filter_map(|net| overlap(net.0, theirs.0)).all(|net| covered(&denied, &net))
        });
        allow_fits && deny_fits
    }
}

/// What two networks share: the smaller one, if it is in the larger.
fn overlap(a: IpNet, b: IpNet) -> Option<IpNet> {
    match (a.contains(&b), b.contains(&a)) {
        (true, _) => Some(b),
        (_, true) => Some(a),
        _ => None,
    }
}

/// The longest pattern, in bytes.
const MAX_GLOB: usize = 256;

/// A pattern for names: each `*` stands for any text, also none; all else for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(Box<str>);

impl Glob {
    /// Whether the pattern fits. The work grows with the lengths of both, whatever they hold.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return *self.0 == *name;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut name) = name.strip_prefix(first).and_then(|name| name.strip_suffix(last))
        else {
            return false;
        };
        // The earliest place for each piece leaves the most room for those behind it.
        for piece in middle.split('*') {
            let Some(at) = name.find(piece) else { return false };
            name = &name[at + piece.len()..];
        }
        true
    }

    /// Whether every name that fits `other` fits this. A star of `other` may stand for a text that
    /// nothing but a star of this one takes, and the star itself is such a text.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Glob {
    type Err = String;

    /// # Errors
    /// A sentence, for a text that is empty or longer than 256 bytes, or holds control characters.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err(String::from("a model pattern is empty; write `*` for every model")),
            _ if text.len() > MAX_GLOB => {
                Err(format!("a model pattern is longer than {MAX_GLOB} bytes"))
            }
            _ if text.chars().any(char::is_control) => {
                Err(String::from("a model pattern holds a control character"))
            }
            _ => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0.into()
    }
}

impl JsonSchema for Glob {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ModelPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_GLOB })
    }
}

/// What a call asks for, as scopes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Chat completions.
    Chat,
    /// Text completions.
    Completion,
    /// Embeddings.
    Embedding,
    /// Images.
    Image,
    /// Speech from text.
    Speech,
    /// Text from speech.
    Transcription,
    /// Reranking.
    Rerank,
    /// Moderation.
    Moderation,
    /// Files.
    File,
    /// Batches.
    Batch,
    /// Realtime sessions.
    Realtime,
    /// Responses.
    Responses,
    /// The list of models.
    Models,
    /// What callers think of answers.
    Feedback,
    /// Any other path.
    Other,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 15] = [
        Self::Chat,
        Self::Completion,
        Self::Embedding,
        Self::Image,
        Self::Speech,
        Self::Transcription,
        Self::Rerank,
        Self::Moderation,
        Self::File,
        Self::Batch,
        Self::Realtime,
        Self::Responses,
        Self::Models,
        Self::Feedback,
        Self::Other,
    ];

    /// Whether its stream is one of choices that end with a `finish_reason`.
    #[must_use]
    pub fn has_choices(self) -> bool {
        matches!(self, Self::Chat | Self::Completion)
    }

    /// Whether it is billed by tokens.
    #[must_use]
    pub fn has_tokens(self) -> bool {
        matches!(self, Self::Chat | Self::Completion | Self::Embedding | Self::Responses)
    }

    /// Whether a provider may bill it.
    #[must_use]
    pub fn may_cost(self) -> bool {
        !matches!(self, Self::Models | Self::Feedback | Self::File | Self::Moderation)
    }

    /// Whether it is passed on as it is, without being understood.
    #[must_use]
    pub fn is_forwarded(self) -> bool {
        use Operation::{Chat, Completion, Embedding, Feedback, Models};
        !matches!(self, Chat | Completion | Embedding | Models | Feedback)
    }

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Image => "image",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Rerank => "rerank",
            Self::Moderation => "moderation",
            Self::File => "file",
            Self::Batch => "batch",
            Self::Realtime => "realtime",
            Self::Responses => "responses",
            Self::Models => "models",
            Self::Feedback => "feedback",
            Self::Other => "other",
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    /// # Errors
    /// A sentence with the words there are.
    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|operation| operation.word() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            format!("`{word}` is no operation; there are {words}")
        })
    }
}

/// A set of operations.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Operation>", into = "Vec<Operation>")]
pub struct Operations(u16);

impl Operations {
    /// Whether the set has it.
    #[must_use]
    pub fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u16) != 0
    }
}

impl FromIterator<Operation> for Operations {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        Self(operations.into_iter().fold(0, |set, operation| set | 1 << operation as u16))
    }
}

impl From<Vec<Operation>> for Operations {
    fn from(operations: Vec<Operation>) -> Self {
        operations.into_iter().collect()
    }
}

impl From<Operations> for Vec<Operation> {
    fn from(set: Operations) -> Self {
        Operation::ALL.into_iter().filter(|operation| set.contains(*operation)).collect()
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Vec::from(*self)).finish()
    }
}

impl JsonSchema for Operations {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Operations".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Operation>::json_schema(generator)
    }
}

/// A network, `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    /// # Errors
    /// A sentence, for a text that is neither, and for a network that is written by an address in
    /// the middle of it: whoever wrote `10.0.0.5/8` may have meant much less than `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address)),
            Err(_) => text.parse::<IpNet>(),
        };
        let net = net.map_err(|_| {
            format!("`{text}` is no network; write for example 10.0.0.0/8, 192.0.2.7, fd00::/8")
        })?;
        if net.trunc() != net {
            let (whole, address) = (net.trunc(), net.addr());
            return Err(format!("`{text}` is not exact: write {whole}, or {address} for that one"));
        }
        Ok(Self(canonical(net)))
    }
}

/// IPv4 networks that are written as IPv6 ones become what they are.
fn canonical(net: IpNet) -> IpNet {
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if matches!(net, IpNet::V6(_)) => {
            Ipv4Net::new(address, length).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string" })
    }
}
