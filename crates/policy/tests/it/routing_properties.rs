//! Routing against a model of it: exact names, then wildcards by weight, then `provider/model`,
//! then bare names.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use crate::given::{goes, snapshot};

/// A configuration that routes can be read from in a second way.
#[derive(Debug, Clone)]
struct Plan {
    /// What the providers `a` and `b` list.
    lists: [Vec<String>; 2],
    /// Names and targets, in the order of the file.
    models: Vec<(String, String)>,
}

/// A few letters, so that names meet.
const NAME: &str = "[ab/-]{1,4}";

fn plans() -> impl Strategy<Value = Plan> {
    let target = ("[ab]", NAME).prop_map(|(id, model)| format!("{id}/{model}"));
    let exact = (NAME, target);
    let part = "[ab/-]{0,2}";
    let wildcard = ((part, part), ("[ab]", part, part)).prop_map(|(name, target)| {
        let name = format!("{}*{}", name.0, name.1);
        (name, format!("{}/{}*{}", target.0, target.1, target.2))
    });
    let default = Just(("default".to_owned(), "b/usual".to_owned()));
    let models = vec(prop_oneof![4 => exact, 4 => wildcard, 1 => default], 0..8);
    (vec(NAME, 0..4), vec(NAME, 0..4), models).prop_map(|(first, second, models)| {
        let mut unique: Vec<(String, String)> = Vec::new();
        for (name, target) in models {
            if unique.iter().all(|(known, _)| *known != name) {
                unique.push((name, target));
            }
        }
        Plan { lists: [first, second], models: unique }
    })
}

impl Plan {
    fn text(&self) -> String {
        let models: serde_json::Map<_, _> =
            self.models.iter().map(|(name, target)| (name.clone(), json!(target))).collect();
        let [first, second] = &self.lists;
        let provider = |models: &[String]| json!({ "profile": "sglang", "models": models });
        let file = json!({
            "providers": { "a": provider(first), "b": provider(second) },
            "models": models,
        });
        file.to_string()
    }

    /// Where a model has to go.
    fn expected(&self, model: &str) -> Option<String> {
        if let Some((_, target)) =
            self.models.iter().find(|(name, _)| name == model && !name.contains('*'))
        {
            return Some(target.clone());
        }
        if model.is_empty() || model == "default" {
            let default = self.models.iter().find(|(name, _)| name == "default");
            return Some(default.map_or("echo/echo", |(_, target)| target).to_owned());
        }
        let mut best: Option<(usize, String)> = None;
        for (name, target) in &self.models {
            let Some((front, back)) = name.split_once('*') else { continue };
            let weight = front.len() + back.len();
            let fits = model.len() >= weight && model.starts_with(front) && model.ends_with(back);
            if fits && best.as_ref().is_none_or(|(known, _)| weight > *known) {
                let star = &model[front.len()..model.len() - back.len()];
                best = Some((weight, target.replacen('*', star, 1)));
            }
        }
        if let Some((_, target)) = best {
            return Some(target);
        }
        let qualified = ["a/", "b/", "echo/"]
            .iter()
            .any(|front| model.strip_prefix(front).is_some_and(|rest| !rest.is_empty()));
        if qualified {
            return Some(model.to_owned());
        }
        let ids = ["a", "b"];
        let lists = self.lists.iter().position(|list| list.iter().any(|known| known == model));
        lists.map(|index| format!("{}/{model}", ids[index]))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_name_goes_where_the_rules_say(
        plan in plans(),
        names in vec("[ab/*-]{0,5}", 1..12),
    ) {
        let snapshot = snapshot(&plan.text());
        let written = plan.models.iter().map(|(name, _)| name.replace('*', "ab"));
        let listed = plan.lists.iter().flatten().cloned();
        let more = [String::new(), "default".to_owned()];
        for name in names.iter().cloned().chain(written).chain(listed).chain(more) {
            let found = goes(&snapshot, &name).ok();
            prop_assert_eq!(found, plan.expected(&name), "{} in {:?}", name, plan);
        }
    }

    #[test]
    fn every_name_that_is_listed_goes_somewhere(plan in plans()) {
        let snapshot = snapshot(&plan.text());
        for (name, owner) in snapshot.models() {
            let target = goes(&snapshot, name);
            prop_assert!(target.is_ok(), "{} of {}", name, owner);
        }
    }

    #[test]
    fn near_names_are_listed_names_and_few(
        lists in btree_map("[a-e]{2,6}", Just(()), 0..8),
        wanted in "[a-e]{1,7}",
    ) {
        let models: Vec<&String> = lists.keys().collect();
        let file = json!({ "providers": { "lab": { "profile": "sglang", "models": models } } });
        let snapshot = snapshot(&file.to_string());
        match goes(&snapshot, &wanted) {
            Ok(target) => prop_assert_eq!(target, format!("lab/{wanted}")),
            Err(nearest) => {
                prop_assert!(nearest.len() <= 3);
                for name in &nearest {
                    prop_assert!(snapshot.models().iter().any(|(known, _)| known == name));
                }
            }
        }
    }
}
