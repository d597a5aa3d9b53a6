//! What is left of limits and budgets.

use policy::directory::Kind;

use super::grants::sees as sees_group;
use super::keys::file_key;
use crate::auth::{Desk, Reach};
use crate::endpoint::{Call, Endpoint, Nothing};
use crate::fault::Fault;
use crate::live::Standing;
use crate::routes::at;
use crate::store::{groups, keys};

fn standing(desk: &Desk, kind: Kind, id: &str) -> Result<Standing, Fault> {
    if !sees(desk, kind, id)? {
        return Err(Fault::not_found());
    }
    desk.inner.live.standing(kind, id).ok_or_else(Fault::not_found)
}

/// Whether a holder is within reach. Those of the configuration file are in no store.
fn sees(desk: &Desk, kind: Kind, id: &str) -> Result<bool, Fault> {
    if desk.reach == Reach::All {
        return Ok(true);
    }
    let stored = desk.inner.store.read(|connection| match kind {
        Kind::Key => Ok(keys::get(connection, &desk.reach, id)?.is_some()
            || file_key(desk, connection, id)?.is_some()),
        _ => Ok(groups::get(connection, kind, &desk.reach, id)?.is_some()),
    })?;
    if stored {
        return Ok(true);
    }
    let group = desk.inner.live.file_group(kind, id);
    Ok(group.is_some_and(|group| sees_group(&desk.reach, kind, id, &group)))
}

macro_rules! endpoints {
    ($($route:ident: $kind:ident;)*) => {$(
        impl Endpoint for at::$route {
            type Query = Nothing;
            type Body = Nothing;
            type Answer = Standing;

            fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
                standing(&call.desk, Kind::$kind, &call.id)
            }
        }
    )*};
}

endpoints! {
    OrgStanding: Org;
    TeamStanding: Team;
    UserStanding: User;
    KeyStanding: Key;
}
