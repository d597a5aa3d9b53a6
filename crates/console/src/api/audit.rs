//! The audit log.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::endpoint::{Call, Endpoint, List, Nothing, page_size};
use crate::fault::Fault;
use crate::routes::at;
use crate::store::audit::{self, Entry, Filter, Verification};

/// A page of the audit log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only entries before this number.
    after: Option<u64>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
    /// Only what was done to this id.
    target: Option<String>,
    /// Only what this token did.
    actor: Option<String>,
}

impl Endpoint for at::ListAudit {
    type Query = Page;
    type Body = Nothing;
    type Answer = List<Entry>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let Page { after, limit, target, actor } = call.query;
        let limit = page_size(limit)?;
        let filter = Filter { before: after, target, actor };
        let data =
            call.desk.inner.store.read(|connection| audit::list(connection, &filter, limit + 1))?;
        Ok(List::page(data, limit, |entry| entry.seq.to_string()))
    }
}

impl Endpoint for at::VerifyAudit {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = Verification;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        call.desk.inner.store.read(audit::verify)
    }
}
