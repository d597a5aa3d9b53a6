//! What bars a caller from asking: said once, for whoever serves a call and whoever explains one.

use std::fmt;
use std::net::IpAddr;

use super::holder::{Chain, Kind};
use crate::scope::Operation;

/// Why a call is not let through, and whose terms say so. Its `Display` is a sentence without its
/// end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// Every call is refused.
    Disabled(Kind),
    /// Its time is over.
    Expired(Kind),
    /// The address is ruled out.
    Address(Kind, IpAddr),
    /// The operation is ruled out.
    Operation(Kind, Operation),
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled(kind) => write!(f, "The {} is disabled", kind.word()),
            Self::Expired(kind) => write!(f, "The {} has expired", kind.word()),
            Self::Address(kind, from) => {
                write!(f, "The {} may not be used from {from}", kind.word())
            }
            Self::Operation(kind, operation) => {
                write!(f, "The {} may not be used for `{}`", kind.word(), operation.word())
            }
        }
    }
}

impl Chain {
    /// What bars a call: of this operation, from there, at this time (Unix, in milliseconds).
    /// Everyone in the chain has to let it through. Without `from`, addresses are not looked at.
    #[must_use]
    pub fn bar(&self, operation: Operation, from: Option<IpAddr>, now_ms: u64) -> Option<Bar> {
        self.levels().find_map(|level| {
            let (terms, kind) = (&level.terms, level.holder.kind);
            if terms.disabled {
                return Some(Bar::Disabled(kind));
            }
            if terms.not_after_ms.is_some_and(|end| now_ms >= end) {
                return Some(Bar::Expired(kind));
            }
            if let Some(from) = from
                && !terms.scope.allows_address(from)
            {
                return Some(Bar::Address(kind, from));
            }
            let allowed = terms.scope.allows_operation(operation);
            (!allowed).then_some(Bar::Operation(kind, operation))
        })
    }

    /// Whose terms rule out a model, by its public name; `None` if it may be asked for.
    #[must_use]
    pub fn bars_model(&self, model: &str) -> Option<Kind> {
        let ruling = self.levels().find(|level| !level.terms.scope.allows_model(model));
        ruling.map(|level| level.holder.kind)
    }
}
