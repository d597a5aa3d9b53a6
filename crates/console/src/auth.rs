//! Who calls, and the proof that the policy table lets them in.

use std::marker::PhantomData;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use policy::config::MetricsConfig;
use policy::key::{Digest, Pepper, is_admin_token};

use crate::Inner;
use crate::fault::{Code, Fault};
use crate::routes::At;
use crate::store::{Actor, admins};
use crate::table::{Role, Verdict, verdict};

/// The id of the token that the environment holds.
pub const ENVIRONMENT: &str = "env";
/// The id of whoever reads the metrics without an admin token.
pub const METRICS: &str = "metrics";
/// The id of the command line on the same machine.
pub const COMMAND_LINE: &str = "cli";

/// Somebody whose token is known. Only this module makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    actor: Actor,
    name: String,
    team: Option<String>,
}

impl Caller {
    /// Finds out who calls, by the one `Authorization: Bearer` header.
    ///
    /// # Errors
    /// [`Code::NoToken`], the same for no token and an unknown one; [`Code::Store`].
    pub(crate) fn identify(inner: &Inner, headers: &HeaderMap) -> Result<Self, Fault> {
        let token = bearer(headers).ok_or_else(refused)?;
        let digest = inner.pepper.digest(token.as_bytes());
        if inner.token.as_ref().is_some_and(|known| *known == digest) {
            return Ok(Self::owner(ENVIRONMENT));
        }
        // What has not the form of a token never reaches the database.
        if !is_admin_token(token) {
            return Err(refused());
        }
        let admin = inner.store.read(|connection| admins::find(connection, &digest))?;
        let admin = admin.ok_or_else(refused)?;
        let actor = Actor { id: admin.id, role: admin.role };
        Ok(Self { actor, name: admin.name, team: admin.team })
    }

    /// The same for whoever wants to read the metrics, which may be open, or have a token of their
    /// own. To be asked for that route alone.
    ///
    /// # Errors
    /// As [`Caller::identify`].
    pub(crate) fn of_metrics(inner: &Inner, headers: &HeaderMap) -> Result<Self, Fault> {
        if !inner.metrics.lets_in(inner, headers) {
            return Self::identify(inner, headers);
        }
        let actor = Actor { id: METRICS.to_owned(), role: Role::Auditor };
        Ok(Self { actor, name: METRICS.to_owned(), team: None })
    }

    /// An owner without a token in the store.
    pub(crate) fn owner(id: &str) -> Self {
        let actor = Actor { id: id.to_owned(), role: Role::Owner };
        Self { actor, name: id.to_owned(), team: None }
    }

    /// For the audit log.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What they may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.actor.role
    }

    /// The team of a manager.
    #[must_use]
    pub fn team(&self) -> Option<&str> {
        self.team.as_deref()
    }
}

/// Who may read the metrics without an admin token.
pub(crate) struct Scraping {
    open: bool,
    token: Option<Digest>,
}

impl Scraping {
    pub(crate) fn new(config: &MetricsConfig, pepper: &Pepper) -> Self {
        let token = config.token.as_ref();
        let token = token.map(|token| pepper.digest(token.0.expose().as_bytes()));
        Self { open: config.open, token }
    }

    fn lets_in(&self, inner: &Inner, headers: &HeaderMap) -> bool {
        let is_it = |known: &Digest| {
            bearer(headers).is_some_and(|token| inner.pepper.digest(token.as_bytes()) == *known)
        };
        self.open || self.token.as_ref().is_some_and(is_it)
    }
}

fn refused() -> Fault {
    Fault::new(Code::NoToken, "There is no valid admin token in this request.")
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// How far somebody sees. Every query for what belongs to a team takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Everything.
    All,
    /// What belongs to this team.
    Team(String),
}

impl Reach {
    /// The team that everything has to belong to, if there is one.
    #[must_use]
    pub fn team(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Team(team) => Some(team),
        }
    }
}

/// What a handler works with: the console, who calls, and how far they see.
pub struct Desk {
    pub(crate) inner: Arc<Inner>,
    pub(crate) caller: Caller,
    pub(crate) reach: Reach,
}

/// The proof that a caller may use the route `R`. Nothing but `Authorized::check` makes one, and
/// a handler cannot be called without the one for its own route.
pub struct Authorized<R: At> {
    desk: Desk,
    route: PhantomData<fn() -> R>,
}

impl<R: At> Authorized<R> {
    /// Asks the policy table.
    ///
    /// # Errors
    /// [`Code::NotAllowed`].
    pub(crate) fn check(inner: Arc<Inner>, caller: Caller) -> Result<Self, Fault> {
        let role = caller.role();
        let reach = match (verdict(R::ROUTE, role), caller.team()) {
            (Verdict::Allow, _) => Reach::All,
            (Verdict::OwnTeam, Some(team)) => Reach::Team(team.to_owned()),
            (Verdict::OwnTeam, None) | (Verdict::Deny, _) => {
                let message = format!("The role {} does not include this.", role.as_str());
                return Err(Fault::new(Code::NotAllowed, message));
            }
        };
        Ok(Self { desk: Desk { inner, caller, reach }, route: PhantomData })
    }
}

impl<R: At> std::ops::Deref for Authorized<R> {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}
