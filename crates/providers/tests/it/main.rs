//! The data files, as they are shipped: what every one of them has to keep to.

#![allow(clippy::unwrap_used, reason = "a data file that does not parse fails the test")]

use std::collections::{BTreeMap, BTreeSet};

use providers::{Cause, Profile, builtin};

/// Where requests may end up.
const REGIONS: [&str; 3] = ["cn", "intl", "local"];

/// Headers that carry a credential or steer the connection; a client's own never pass.
const NEVER_FORWARDED: [&str; 10] = [
    "api-key",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "proxy-authorization",
    "transfer-encoding",
    "x-api-key",
    "x-goog-api-key",
];

/// Asserts that every profile keeps a law, and names all that do not.
fn every_profile(law: impl Fn(&str, &Profile) -> Result<(), String>) {
    let broken: Vec<String> = builtin()
        .unwrap()
        .iter()
        .filter_map(|(id, profile)| Some(format!("{id}: {}", law(id, profile).err()?)))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn is_slug(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.split('-').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        })
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.split('_').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        })
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    let number =
        |text: &str, digits: usize| (text.len() == digits).then(|| text.parse::<u16>().ok())?;
    number(year, 4).is_some_and(|year| year >= 2025)
        && number(month, 2).is_some_and(|month| (1..=12).contains(&month))
        && number(day, 2).is_some_and(|day| (1..=31).contains(&day))
}

fn is_duration(text: &str) -> bool {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < text.len() && ["ms", "s", "m", "h"].contains(&digits)
}

fn first_repeated(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(name.as_str()))
}

/// Every variable named by `pick`, with the profiles that name it.
fn owners(pick: impl Fn(&str, &Profile) -> BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, profile) in builtin().unwrap() {
        for name in pick(&id, &profile) {
            owners.entry(name).or_default().insert(id.clone());
        }
    }
    owners.retain(|_, ids| ids.len() > 1);
    owners
}

#[test]
fn every_file_parses() {
    let profiles = builtin().unwrap();
    assert!(profiles.len() > 50, "only {} profiles", profiles.len());
    for id in ["xinghe", "echo", "openai-compatible"] {
        assert!(profiles.iter().any(|(known, _)| known == id), "no {id}");
    }
}

#[test]
fn ids_are_lower_case_slugs() {
    every_profile(|id, _| ensure(is_slug(id), || "not a slug".to_owned()));
}

#[test]
fn every_profile_says_what_it_is_and_when_that_was_read() {
    every_profile(|id, profile| {
        let name = &profile.name;
        ensure(!name.is_empty() && name.trim() == name, || format!("name {name:?}"))?;
        ensure(is_date(&profile.checked), || format!("checked {:?}", profile.checked))?;
        ensure(id == "echo" || !profile.docs.is_empty(), || "names no source".to_owned())?;
        let strange = profile.docs.iter().find(|url| !url.starts_with("https://"));
        ensure(strange.is_none(), || format!("docs {strange:?}"))?;
        let open = profile.notes.iter().find(|note| !note.ends_with('.'));
        ensure(open.is_none(), || format!("note without an end: {open:?}"))?;
        let region = profile.region.as_deref();
        ensure(region.is_none_or(|region| REGIONS.contains(&region)), || {
            format!("region {region:?}")
        })?;
        let currency = profile.currency.as_deref();
        ensure(matches!(currency, None | Some("CNY" | "USD")), || format!("currency {currency:?}"))
    });
}

#[test]
fn base_urls_are_safe_and_end_where_they_should() {
    every_profile(|_, profile| {
        let Some(url) = profile.base_url.as_deref() else {
            return Ok(());
        };
        let local = profile.region.as_deref() == Some("local");
        ensure(local || url.starts_with("https://"), || format!("{url} is not https"))?;
        let ends = ["/", "/chat/completions", "/chat", "/models"];
        ensure(!ends.iter().any(|end| url.ends_with(end)), || format!("{url} has the wrong end"))?;
        ensure(!url.contains(['?', '#', '@', ' ']), || {
            format!("{url} holds more than host and path")
        })
    });
}

#[test]
fn hosted_providers_are_found_by_a_key() {
    every_profile(|_, profile| {
        let hosted = matches!(profile.region.as_deref(), Some("cn" | "intl"));
        ensure(!hosted || !profile.env.key.is_empty(), || "no env.key".to_owned())
    });
}

#[test]
fn models_are_unique_and_the_default_is_one_of_them() {
    every_profile(|_, profile| {
        let repeated = first_repeated(&profile.models);
        ensure(repeated.is_none(), || format!("{repeated:?} stands twice"))?;
        let odd = profile
            .models
            .iter()
            .find(|model| model.is_empty() || model.contains(char::is_whitespace));
        ensure(odd.is_none(), || format!("model {odd:?}"))?;
        let default = profile.default_model.as_ref();
        ensure(default.is_none_or(|default| profile.models.contains(default)), || {
            format!("{default:?} is not in models")
        })?;
        ensure(default.is_some() || profile.models.is_empty(), || {
            "models, but no default_model".to_owned()
        })
    });
}

#[test]
fn environment_variables_are_upper_snake() {
    every_profile(|_, profile| {
        let mut names = profile.env.key.iter().chain(&profile.env.base_url);
        let odd = names.find(|name| !is_variable(name));
        ensure(odd.is_none(), || format!("variable {odd:?}"))
    });
}

#[test]
fn no_variable_speaks_for_two_profiles() {
    let keys = owners(|_, profile| profile.env.key.iter().cloned().collect());
    assert!(keys.is_empty(), "keys: {keys:#?}");
    let base_urls = owners(|id, profile| {
        let own = format!("{}_BASE_URL", id.to_ascii_uppercase().replace('-', "_"));
        profile.env.base_url.iter().cloned().chain([own]).collect()
    });
    assert!(base_urls.is_empty(), "base URLs: {base_urls:#?}");
}

#[test]
fn error_rules_name_one_place_and_statuses_of_errors() {
    every_profile(|_, profile| {
        let mut fields = BTreeSet::new();
        let mut statuses = BTreeMap::new();
        for rule in &profile.errors {
            let segments: Vec<&str> = rule.path.split('.').collect();
            let well_formed = segments.len() <= 2 && segments.iter().all(|part| !part.is_empty());
            ensure(well_formed, || format!("path {:?}", rule.path))?;
            ensure(fields.insert(segments[0]), || {
                format!("two rules look into {:?}", segments[0])
            })?;
            for (code, status) in &rule.status {
                ensure((400..=599).contains(status), || format!("code {code} is status {status}"))?;
                let other = statuses.insert(code, status);
                ensure(other.is_none_or(|other| other == status), || {
                    format!("code {code} has two statuses")
                })?;
            }
        }
        Ok(())
    });
}

#[test]
fn causes_are_told_apart_by_their_codes_alone() {
    every_profile(|_, profile| {
        let mut seen = BTreeSet::new();
        for code in profile.causes.keys() {
            let plain = code.strip_suffix('*').unwrap_or(code);
            let well_formed = plain.len() > 1 && plain.bytes().all(|c| c.is_ascii_graphic());
            ensure(well_formed && !plain.contains('*'), || format!("code {code:?}"))?;
            ensure(seen.insert(code.to_ascii_lowercase()), || format!("{code} stands twice"))?;
        }
        Ok(())
    });
}

#[test]
fn a_code_of_no_known_cause_is_told() {
    let fault = providers::parse("x", "causes: { busy: tired }").unwrap_err();
    assert!(fault.problem.contains("tired"), "{}", fault.problem);
}

#[test]
fn the_large_ones_say_when_the_input_is_too_long_or_unwanted() {
    for (id, cause) in [
        ("xinghe", Cause::ContextTooLong),
        ("qianfan", Cause::ContextTooLong),
        ("glm", Cause::ContextTooLong),
        ("spark", Cause::ContextTooLong),
        ("qwen", Cause::ContentPolicy),
        ("ark", Cause::ContentPolicy),
        ("minimax", Cause::ContentPolicy),
    ] {
        let profiles = builtin().unwrap();
        let (_, profile) = profiles.iter().find(|(known, _)| known == id).unwrap();
        assert!(profile.causes.values().any(|known| *known == cause), "{id}: no {cause:?}");
    }
}

#[test]
fn no_profile_lets_credentials_of_clients_through() {
    every_profile(|_, profile| {
        let strange = profile.headers.forward.iter().find(|name| {
            let prefix = name.strip_suffix('*');
            let plain = prefix.unwrap_or(name);
            let caught = NEVER_FORWARDED.iter().any(|never| match prefix {
                Some(prefix) => never.starts_with(prefix),
                None => never == name,
            });
            let lower =
                plain.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            plain.len() < 4 || !lower || caught
        });
        ensure(strange.is_none(), || format!("forwards {strange:?}"))
    });
}

#[test]
fn only_xinghe_fills_in_what_a_client_left_out() {
    every_profile(|id, profile| {
        let edits = &profile.request;
        ensure(id == "xinghe" || edits.defaults.is_empty(), || {
            format!("defaults {:?}", edits.defaults)
        })?;
        ensure(edits.force.is_empty(), || format!("forces {:?}", edits.force))
    });
}

#[test]
fn clocks_are_durations() {
    every_profile(|_, profile| {
        let clocks = &profile.timeouts;
        let mut written = [&clocks.connect, &clocks.first_event, &clocks.idle, &clocks.total]
            .into_iter()
            .flatten();
        let odd = written.find(|text| !is_duration(text));
        ensure(odd.is_none(), || format!("clock {odd:?}"))
    });
}

#[test]
fn a_prefill_marks_something_or_has_a_path_that_is_one() {
    every_profile(|_, profile| {
        let Some(prefill) = &profile.prefill else { return Ok(()) };
        let taken = ["role", "content"].iter().find(|name| prefill.message.contains_key(**name));
        ensure(taken.is_none(), || format!("sets {taken:?}"))?;
        let taken = ["model", "messages", "stream", "max_tokens"];
        let taken = taken.iter().find(|name| prefill.request.contains_key(**name));
        ensure(taken.is_none(), || format!("sets {taken:?}"))?;
        let path = prefill.path.as_deref();
        ensure(path.is_none_or(|path| path.starts_with('/')), || format!("path {path:?}"))
    });
}
