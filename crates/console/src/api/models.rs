//! Models, and what their options have come to.

use schemars::JsonSchema;
use serde::Deserialize;

use super::plans::plans;
use crate::endpoint::{Call, Endpoint, List, Nothing, one_more, page_size};
use crate::explain::{ModelView, Now, models};
use crate::fault::Fault;
use crate::live::Plans;
use crate::routes::at;
use crate::store::now_ms;

/// A page of models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only those behind this id.
    after: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
}

impl Endpoint for at::ListModels {
    type Query = Page;
    type Body = Nothing;
    type Answer = List<ModelView>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let Page { after, limit } = call.query;
        let limit = page_size(limit)?;
        let Plans { snapshot, now_ms: ms } = plans(&call.desk)?;
        let now = Now { ms, unix_ms: now_ms() };
        let most = one_more(limit);
        let found = models(&snapshot.plans(), after.as_deref(), most, now);
        Ok(List::page(found, limit, |model| model.id.clone()))
    }
}
