//! Which name of the configuration a model's name comes from. Callers may write any name; whoever
//! counts by name must not let them make as many as they like.

use crate::provider::Provider;
use crate::snapshot::Snapshot;

impl Snapshot {
    /// The name that a model is configured under: its own, the wildcard that fits it, `default`.
    /// A name that a provider lists is its own too. `None` for what a caller alone has named: what
    /// passes through to a provider, and what nobody serves.
    #[must_use]
    pub fn configured_name<'n>(&'n self, asked: &'n str) -> Option<&'n str> {
        if asked.is_empty() || asked == "default" {
            return Some("default");
        }
        if self.exact.contains_key(asked) {
            return Some(asked);
        }
        let fits = |model: &&crate::snapshot::Wildcard| model.pattern.matched(asked).is_some();
        if let Some(wildcard) = self.wildcards.iter().find(fits) {
            return Some(&wildcard.model.name);
        }
        let lists =
            |provider: &Provider, model: &str| provider.models.iter().any(|listed| listed == model);
        let qualified = asked.split_once('/').and_then(|(id, model)| {
            let provider = self.provider(id)?;
            Some(lists(provider, model))
        });
        let is_listed = qualified
            .unwrap_or_else(|| self.providers.iter().any(|provider| lists(provider, asked)));
        is_listed.then_some(asked)
    }
}
