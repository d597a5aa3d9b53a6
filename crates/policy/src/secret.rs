//! A secret: a text that cannot be printed by accident.

/// A provider's credential. It has no `Debug`, `Display` or `Serialize`; [`Secret::expose`] is the
/// one way to its text, so that every use can be found by searching for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself: for the header of the provider's own origin, and to take it out of what a
    /// provider echoes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
