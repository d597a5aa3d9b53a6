//! Mirrors: how the answers of models and of their shadows compare.

use policy::health::mirrored::MirrorSummary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plans::plans;
use crate::endpoint::{Call, Endpoint, List, Nothing, page_size};
use crate::fault::Fault;
use crate::routes::at;

/// A page of mirrors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only those behind this id.
    after: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
    /// Only those of this model, by its name in the configuration.
    model: Option<String>,
}

/// A model and its shadow, since the process began.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Mirror {
    /// Model and shadow: `chat>glm/glm-5`.
    pub id: String,
    /// The model, by its name in the configuration.
    pub model: String,
    /// Where the copies go.
    pub to: String,
    /// What became of them.
    #[serde(flatten)]
    pub sums: MirrorSummary,
}

impl Endpoint for at::ListMirrors {
    type Query = Page;
    type Body = Nothing;
    type Answer = List<Mirror>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let Page { after, limit, model } = call.query;
        let limit = page_size(limit)?;
        let all = plans(&call.desk)?.snapshot.health().all_mirrored();
        let named = all.into_iter().filter(|(name, ..)| model.as_ref().is_none_or(|it| it == name));
        let mut mirrors: Vec<Mirror> = named
            .map(|(model, to, mirrored)| Mirror {
                id: format!("{model}>{to}"),
                model,
                to,
                sums: mirrored.summary(),
            })
            .filter(|mirror| after.as_ref().is_none_or(|after| mirror.id > *after))
            .collect();
        mirrors.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(List::page(mirrors, limit, |mirror| mirror.id.clone()))
    }
}
