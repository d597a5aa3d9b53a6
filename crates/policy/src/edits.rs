//! Edits to request bodies, compiled once: names and JSON text.

use std::collections::BTreeMap;

use providers::Edits;

/// The declared edits of one route, ready to be spliced in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EditPlan {
    /// Filled in where the client left them out: name and JSON text.
    pub defaults: Vec<(Box<str>, Box<str>)>,
    /// Set whatever the client sent: name and JSON text.
    pub force: Vec<(Box<str>, Box<str>)>,
    /// Removed.
    pub drop: Vec<Box<str>>,
}

/// What a provider gets for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent<'p> {
    /// What the client sent.
    Client,
    /// Nothing.
    Nothing,
    /// This JSON text.
    Always(&'p str),
    /// This JSON text where the client sent nothing.
    Otherwise(&'p str),
}

/// Members that edits may not touch: Magpie itself decides them, or there is no request without.
pub(crate) const RESERVED: [&str; 4] = ["model", "stream", "stream_options", "messages"];

impl EditPlan {
    /// Compiles edits as written.
    #[must_use]
    pub(crate) fn compile(edits: &Edits) -> Self {
        Self {
            defaults: Self::pairs(&edits.defaults),
            force: Self::pairs(&edits.force),
            drop: edits.drop.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    /// Members as they are spliced in: name and JSON text.
    pub(crate) fn pairs(
        members: &BTreeMap<String, serde_json::Value>,
    ) -> Vec<(Box<str>, Box<str>)> {
        let pair = |(name, value): (&String, &serde_json::Value)| {
            (name.as_str().into(), value.to_string().into())
        };
        members.iter().map(pair).collect()
    }

    /// These edits, and those of `other` for members that these do not mention.
    #[must_use]
    pub(crate) fn over(mut self, other: &Self) -> Self {
        let own = self.clone();
        let free = |name: &str| !own.mentions(name);
        self.defaults.extend(other.defaults.iter().filter(|(name, _)| free(name)).cloned());
        self.force.extend(other.force.iter().filter(|(name, _)| free(name)).cloned());
        self.drop.extend(other.drop.iter().filter(|name| free(name)).cloned());
        self
    }

    /// What stands for `name` in what is sent, where that is not what the client sent.
    #[must_use]
    pub fn sent(&self, name: &str) -> Sent<'_> {
        if self.drop.iter().any(|known| &**known == name) {
            return Sent::Nothing;
        }
        if let Some((_, text)) = self.force.iter().find(|(known, _)| &**known == name) {
            return Sent::Always(text);
        }
        match self.defaults.iter().find(|(known, _)| &**known == name) {
            Some((_, text)) => Sent::Otherwise(text),
            None => Sent::Client,
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.defaults.is_empty() && self.force.is_empty() && self.drop.is_empty()
    }

    fn mentions(&self, name: &str) -> bool {
        let pairs = self.defaults.iter().chain(&self.force).map(|(known, _)| known);
        pairs.chain(&self.drop).any(|known| &**known == name)
    }
}

/// What is wrong with edits as written, if anything.
pub(crate) fn fault(edits: &Edits) -> Option<String> {
    let names = edits.drop.iter().chain(edits.force.keys()).chain(edits.defaults.keys());
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if RESERVED.contains(&name.as_str()) {
            return Some(format!("`{name}` cannot be edited"));
        }
        if !seen.insert(name) {
            return Some(format!("`{name}` stands in more than one of defaults, force and drop"));
        }
    }
    None
}
