//! What can be asked for by name: `GET /v1/models` and one of them.

use policy::Snapshot;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::identify::Caller;
use crate::prepare::unknown_model;

/// The day this API began to list models, in seconds since 1970: clients want a number, and names
/// have no date of their own.
const CREATED: u64 = 1_750_000_000;

/// The JSON answer for `/models` or `/models/NAME`.
pub(crate) fn answer(rest: &str, snapshot: &Snapshot, caller: &Caller) -> Result<String, Fault> {
    let Some(name) = name(rest) else {
        let data: Vec<Value> = snapshot
            .models()
            .iter()
            .filter(|(name, _)| caller.may_use(name))
            .map(|(name, provider)| model(name, provider))
            .collect();
        return Ok(json!({ "object": "list", "data": data }).to_string());
    };
    caller.check_model(name)?;
    match snapshot.route(name) {
        Ok(route) => Ok(model(name, &route.provider.id).to_string()),
        Err(unknown) => Err(unknown_model(name, &unknown)),
    }
}

/// The name in `/models/NAME`.
pub(crate) fn name(rest: &str) -> Option<&str> {
    rest.strip_prefix("/models/").filter(|name| !name.is_empty())
}

fn model(name: &str, provider: &str) -> Value {
    json!({ "id": name, "object": "model", "created": CREATED, "owned_by": provider })
}
