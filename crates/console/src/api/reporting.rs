//! What was used, and what happened.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::Desk;
use crate::endpoint::{Call, Endpoint, List, Nothing, page_size};
use crate::experiment::{ALPHA, Asked, Counts, Experiment, Setup, told};
use crate::fault::{Code, Fault};
use crate::reports::{By, Filter, RequestDetail, RequestRow, UsageRow};
use crate::routes::at;
use crate::store::now_ms;

/// The longest time that is summed or searched, in milliseconds: ten years.
const MAX_SPAN_MS: u64 = 10 * 366 * 24 * 3_600_000;
/// What is looked at unless said otherwise: thirty days.
const SPAN_MS: u64 = 30 * 24 * 3_600_000;

/// Whose usage, and when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// What is summed up into one row; `day` if absent.
    by: Option<By>,
    /// From this time on, in Unix milliseconds; thirty days before `to` if absent.
    from: Option<u64>,
    /// Up to but without this time, in Unix milliseconds; now if absent.
    to: Option<u64>,
    /// Only this key's.
    key: Option<String>,
    /// Only this user's.
    user: Option<String>,
    /// Only this team's.
    team: Option<String>,
    /// Only this org's.
    org: Option<String>,
    /// Only this model's, by the name that was asked for.
    model: Option<String>,
    /// Only this provider's.
    provider: Option<String>,
}

/// Whose requests, and when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestsQuery {
    /// Only those behind this id, which are older.
    after: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
    /// From this time on, in Unix milliseconds; thirty days before `to` if absent.
    from: Option<u64>,
    /// Up to but without this time, in Unix milliseconds; now if absent.
    to: Option<u64>,
    /// Only this key's.
    key: Option<String>,
    /// Only this user's.
    user: Option<String>,
    /// Only this team's.
    team: Option<String>,
    /// Only this org's.
    org: Option<String>,
    /// Only this model's, by the name that was asked for.
    model: Option<String>,
    /// Only this provider's.
    provider: Option<String>,
}

impl Endpoint for at::GetUsage {
    type Query = UsageQuery;
    type Body = Nothing;
    type Answer = List<UsageRow>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let UsageQuery { by, from, to, key, user, team, org, model, provider } = call.query;
        let filter = Filter { key, user, team, org, model, provider, ..span(from, to)? };
        let data = match narrowed(&call.desk, filter) {
            Some(filter) => {
                call.desk.inner.reports.usage(&filter, by.unwrap_or(By::Day)).map_err(unreadable)?
            }
            None => Vec::new(),
        };
        Ok(List { object: "list", data, has_more: false, next: None })
    }
}

impl Endpoint for at::ListRequests {
    type Query = RequestsQuery;
    type Body = Nothing;
    type Answer = List<RequestRow>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let RequestsQuery { after, limit, from, to, key, user, team, org, model, provider } =
            call.query;
        let limit = page_size(limit)?;
        let filter = Filter { key, user, team, org, model, provider, ..span(from, to)? };
        let (desk, after) = (&call.desk, after.as_deref());
        let data = match narrowed(desk, filter) {
            Some(filter) => {
                desk.inner.reports.requests(&filter, after, limit + 1).map_err(unreadable)?
            }
            None => Vec::new(),
        };
        let mut page = List::page(data, limit, |request| request.id.clone());
        // The filter has seen to it; what is of another team leaves for no reason.
        page.data.retain(|request| sees(desk, request));
        Ok(page)
    }
}

impl Endpoint for at::GetRequest {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = RequestDetail;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let found = call.desk.inner.reports.request(&call.id).map_err(unreadable)?;
        found.filter(|detail| sees(&call.desk, &detail.request)).ok_or_else(Fault::not_found)
    }
}

/// Which experiment, and when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentQuery {
    /// The model, by the name that is asked for.
    model: String,
    /// From this time on, in Unix milliseconds; thirty days before `to` if absent.
    from: Option<u64>,
    /// Up to but without this time, in Unix milliseconds; now if absent.
    to: Option<u64>,
    /// The chance that an interval ever misses the truth, above 0 and up to 0.5; 0.05 if absent.
    alpha: Option<f64>,
}

impl Endpoint for at::GetExperiment {
    type Query = ExperimentQuery;
    type Body = Nothing;
    type Answer = Experiment;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let ExperimentQuery { model, from, to, alpha } = call.query;
        let alpha = alpha.unwrap_or(ALPHA);
        if !(alpha > 0.0 && alpha <= 0.5) {
            return Err(Fault::field("alpha", "`alpha` is above 0 and at most 0.5."));
        }
        let filter = Filter { model: Some(model.clone()), ..span(from, to)? };
        let asked = Asked { model, from_ms: filter.from_ms, to_ms: filter.to_ms, alpha };
        let inner = &call.desk.inner;
        let setup = match inner.live.plans() {
            Some(plans) => Setup::of(&plans.snapshot, &asked.model),
            None => Setup::default(),
        };
        let counts = match narrowed(&call.desk, filter) {
            Some(filter) => inner.reports.variants(&filter, &setup).map_err(unreadable)?,
            None => Counts::default(),
        };
        Ok(told(asked, &setup, counts))
    }
}

/// The times asked for.
fn span(from: Option<u64>, to: Option<u64>) -> Result<Filter, Fault> {
    let to_ms = to.unwrap_or_else(|| now_ms() + 1);
    let from_ms = from.unwrap_or(to_ms.saturating_sub(SPAN_MS));
    match to_ms.checked_sub(from_ms) {
        Some(..=MAX_SPAN_MS) => Ok(Filter { from_ms, to_ms, ..Filter::default() }),
        Some(_) => Err(Fault::field("from", "At most ten years can be looked at at once.")),
        None => Err(Fault::field("from", "`from` is behind `to`.")),
    }
}

/// The filter, narrowed to what is within reach; none if that leaves nothing.
fn narrowed(desk: &Desk, mut filter: Filter) -> Option<Filter> {
    let Some(own) = desk.reach.team() else { return Some(filter) };
    if filter.team.as_deref().is_some_and(|team| team != own) {
        return None;
    }
    filter.team = Some(own.to_owned());
    Some(filter)
}

fn sees(desk: &Desk, request: &RequestRow) -> bool {
    desk.reach.team().is_none_or(|own| request.team.as_deref() == Some(own))
}

fn unreadable(_: String) -> Fault {
    Fault::new(Code::Store, "The ledger cannot be read.")
}
