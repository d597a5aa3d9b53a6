//! Who calls, what there is, what things cost, and what the configuration file says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::endpoint::{Call, Endpoint, Nothing};
use crate::fault::{Code, Fault};
use crate::openapi::document;
use crate::routes::{Route, at};
use crate::table::{Role, Verdict, verdict};

/// Who calls.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Me {
    /// The id of the token; `env` for the one in the environment.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// The team of a manager.
    pub team: Option<String>,
    /// Every route, and whether the role may use it.
    pub may: Map<String, Value>,
}

impl Endpoint for at::Me {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = Me;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let caller = &call.desk.caller;
        let role = caller.role();
        let may = Route::ALL.iter().filter(|route| verdict(**route, role) != Verdict::Deny);
        Ok(Me {
            id: caller.actor().id.clone(),
            name: caller.name().to_owned(),
            role,
            team: caller.team().map(str::to_owned),
            may: may.map(|route| (route.name().into(), json!(verdict(*route, role)))).collect(),
        })
    }
}

impl Endpoint for at::Openapi {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = Value;

    fn run(_: Call<Self>) -> Result<Self::Answer, Fault> {
        Ok(document())
    }
}

/// Which model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Priced {
    /// The provider, by its name in the configuration.
    provider: String,
    /// What the provider calls the model.
    model: String,
}

/// What a model costs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PriceView {
    /// The provider.
    pub provider: String,
    /// What the provider calls the model.
    pub model: String,
    /// Its price; null if it is not known, which is not the same as free.
    pub price: Option<Value>,
}

impl Endpoint for at::GetPrice {
    type Query = Priced;
    type Body = Nothing;
    type Answer = PriceView;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let Priced { provider, model } = call.query;
        let price = call.desk.inner.live.price(&provider, &model);
        Ok(PriceView { provider, model, price })
    }
}

impl Endpoint for at::GetConfig {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = Value;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let mut config = call.desk.inner.live.config();
        mask(&mut config, false);
        Ok(config)
    }
}

/// Masks every text under a name that a secret could stand under: the last line of defence, should
/// what made this view have forgotten one.
fn mask(value: &mut Value, secret: bool) {
    const NAMES: [&str; 8] =
        ["key", "secret", "token", "password", "hash", "digest", "credential", "authorization"];
    // Names that hold such a word and are none: `keys` is a list of what has names of its own.
    const PLAIN: [&str; 6] =
        ["keys", "public_key", "tokens", "max_tokens", "max_output_tokens", "key_path"];
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let lower = name.to_ascii_lowercase();
                let named = NAMES.iter().any(|word| lower.contains(word));
                mask(value, secret || named && !PLAIN.contains(&&*lower));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, secret)),
        // A text of several lines could be a whole file, with names and secrets of its own.
        Value::String(text) if secret || text.contains('\n') => "***".clone_into(text),
        _ => {}
    }
}

/// What reading the file again led to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// Always true: a file with problems is answered with those.
    pub reloaded: bool,
}

impl Endpoint for at::ReloadConfig {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = Reloaded;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let desk = &*call.desk;
        let done = desk.inner.live.reload();
        let problems = done.as_ref().err().cloned().unwrap_or_default();
        let detail = json!({ "problems": problems.len() });
        desk.inner.store.change(&*desk.inner.live, desk.caller.actor(), |work| {
            work.record("config.reload", "config", &detail, None)
        })?;
        match done {
            Ok(()) => Ok(Reloaded { reloaded: true }),
            Err(problems) => {
                let problems = problems.join("; ");
                Err(Fault::new(Code::InvalidConfig, format!("The file has problems: {problems}.")))
            }
        }
    }
}
