//! Health checks of the snapshot.

use std::time::Duration;

use http::uri::PathAndQuery;
use providers::Profile;

use super::Builder;
use crate::config::{At, HealthCheckConfig};
use crate::health::HealthCheck;
use crate::units;

/// How often, if nothing is said.
const EVERY: Duration = Duration::from_secs(10);
/// More often is a load, and less often finds nothing in time.
const EVERY_BOUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3_600)];
/// How long it may take, if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// What is free to ask for at providers of OpenAI's dialect.
const PATH: &str = "/models";

impl Builder<'_> {
    /// The check of a provider, if it has one.
    pub(super) fn health_check(
        &mut self,
        written: Option<&At<HealthCheckConfig>>,
        profile: &Profile,
        base_path: &str,
    ) -> Option<HealthCheck> {
        let At { value: config, place } = written.filter(|at| at.value.is_on)?;
        let mut time = |text: &Option<String>, else_: Duration| match text {
            Some(text) => self.or(*place, units::duration(text), else_),
            None => else_,
        };
        let (every, timeout) = (time(&config.every, EVERY), time(&config.timeout, TIMEOUT));
        if every < EVERY_BOUNDS[0] || every > EVERY_BOUNDS[1] {
            self.problem(*place, "a health check comes every 1s to 1h", "write for example 10s");
        }
        if timeout > LONGEST_TIMEOUT {
            self.problem(*place, "a health check waits at most 60s", "write for example 2s");
        }
        let path = config.path.as_deref().or(profile.health_path.as_deref()).unwrap_or(PATH);
        let target = PathAndQuery::try_from(format!("{base_path}{path}")).ok();
        let Some(target) = target.filter(|_| path.starts_with('/')) else {
            let message = format!("`{path}` is no path to check");
            self.problem(*place, message, "write for example /models");
            return None;
        };
        Some(HealthCheck { target, every, timeout })
    }
}
