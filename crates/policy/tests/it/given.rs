//! What tests are given: environments, snapshots, problems.

use std::sync::OnceLock;

use ::providers::Profile;
use policy::{Config, Environment, Problem, Provider, Route, Snapshot};

/// An environment of these variables.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The configuration in a text that reads.
pub(crate) fn config(text: &str) -> Config {
    match policy::load(text, &Environment::new()) {
        Ok(config) => config,
        Err(problems) => panic!("{text}\n{}", told(&problems).join("\n")),
    }
}

/// Reads and builds.
pub(crate) fn resolved(text: &str, variables: &[(&str, &str)]) -> Result<Snapshot, Vec<Problem>> {
    static PROFILES: OnceLock<Vec<(String, Profile)>> = OnceLock::new();
    let profiles = PROFILES.get_or_init(|| ::providers::builtin().unwrap());
    policy::resolve(text, profiles, &environment(variables), &|_| false)
}

/// The snapshot of a text that is right.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    snapshot_in(text, &[])
}

/// The snapshot of a text in an environment.
pub(crate) fn snapshot_in(text: &str, variables: &[(&str, &str)]) -> Snapshot {
    match resolved(text, variables) {
        Ok(snapshot) => snapshot,
        Err(problems) => panic!("{text}\n{}", told(&problems).join("\n")),
    }
}

/// The problems of a text that is wrong, as lines of `line:column message | hint`.
pub(crate) fn problems(text: &str) -> Vec<String> {
    problems_in(text, &[])
}

/// The problems of a text in an environment.
pub(crate) fn problems_in(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match resolved(text, variables) {
        Ok(_) => panic!("no problem in\n{text}"),
        Err(problems) => {
            assert!(problems.is_sorted(), "in the order of the file");
            told(&problems)
        }
    }
}

/// Problems as text.
pub(crate) fn told(problems: &[Problem]) -> Vec<String> {
    let told = problems.iter().map(|problem| {
        let place = problem.place;
        let hint = problem.hint.as_deref().unwrap_or("-");
        format!("{}:{} {} | {hint}", place.line, place.column, problem.message)
    });
    told.collect()
}

/// The ids of the providers of a snapshot.
pub(crate) fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.providers.iter().map(|provider| &*provider.id).collect()
}

/// A provider that is there.
pub(crate) fn provider<'s>(snapshot: &'s Snapshot, id: &str) -> &'s Provider {
    snapshot.provider(id).unwrap()
}

/// Where a model goes, as `provider/upstream-model`; the nearest names if nowhere.
pub(crate) fn goes(snapshot: &Snapshot, model: &str) -> Result<String, Vec<String>> {
    let route = snapshot.route(model).map_err(|unknown| unknown.nearest)?;
    Ok(target(&route))
}

/// `provider/upstream-model` of a route.
pub(crate) fn target(route: &Route) -> String {
    format!("{}/{}", route.provider.id, route.upstream_model)
}

/// The base URL of a provider, put together again.
pub(crate) fn base_url(provider: &Provider) -> String {
    let origin = &provider.origin;
    let scheme = format!("{:?}", origin.scheme).to_lowercase();
    format!("{scheme}://{}:{}{}", origin.host, origin.port, provider.base_path)
}
