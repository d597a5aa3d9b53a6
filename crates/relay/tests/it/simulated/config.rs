//! A configuration, drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::random::Random;
use crate::world::seconds;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) providers: BTreeMap<String, Duration>,
    pub(super) models: BTreeMap<String, Model>,
    pub(super) keys: Vec<Key>,
    /// Providers that begin what goes on with an answer with that answer.
    pub(super) repeaters: Vec<String>,
    /// Whether streams break off again and again.
    pub(super) breaks: bool,
    /// Whether providers bill more than they said they could.
    pub(super) overbills: bool,
    /// All of it, as JSON is YAML.
    pub(super) text: String,
}

/// What is to be expected of a model.
#[derive(Default, Clone)]
pub(super) struct Model {
    /// Where it may lead: `provider/model`.
    pub(super) targets: BTreeSet<String>,
    /// It asks several at once.
    pub(super) is_beside: bool,
    /// It is made of other models.
    pub(super) is_composed: bool,
    /// Answers that break off may be gone on with.
    pub(super) resumes: bool,
    /// Where copies of its requests go.
    pub(super) shadow: Option<String>,
    /// Identical requests share an answer.
    pub(super) shares: bool,
}

pub(super) struct Key {
    pub(super) name: String,
    pub(super) team: Option<String>,
    pub(super) text: String,
    /// All, if it is not said.
    pub(super) models: Option<Vec<String>>,
}

/// The model that budgets name when they are used up.
pub(super) const CHEAP: &str = "cheap";

impl Drawn {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut draw = Draw { drawn: Self::default(), random };
        draw.drawn.overbills = draw.random.percent(20);
        draw.drawn.breaks = draw.random.percent(35);
        let mut all = Map::new();
        all.insert("providers".into(), draw.providers());
        all.insert(
            "prices".into(),
            json!({ "*/*": { "input": "1", "output": "2", "max_output": 200 } }),
        );
        all.insert("models".into(), draw.models());
        all.insert("keys".into(), draw.keys());
        all.insert("teams".into(), json!({ "red": draw.terms(), "blue": draw.terms() }));
        if draw.random.percent(30) {
            let limits = json!({ "concurrency": draw.random.between(1, 6) });
            all.insert(
                "limit_rules".into(),
                json!([{ "per": ["key", "model"], "limits": limits }]),
            );
        }
        let mut drawn = draw.drawn;
        drawn.text = Value::Object(all).to_string();
        drawn
    }

    /// Where requests for a model may end up, whatever its budgets say.
    pub(super) fn targets(&self, model: &str) -> BTreeSet<String> {
        let cheap = &self.models[CHEAP].targets;
        match self.models.get(model) {
            Some(model) => model.targets.union(cheap).cloned().collect(),
            None => cheap.iter().cloned().chain([model.to_owned()]).collect(),
        }
    }

    /// How long a request for a model may take at the most.
    pub(super) fn longest(&self, model: &str) -> Duration {
        let of = |target: &String| self.providers.get(target.split_once('/')?.0).copied();
        self.targets(model).iter().filter_map(of).max().unwrap()
    }
}

struct Draw<'r> {
    drawn: Drawn,
    random: &'r mut Random,
}

impl Draw<'_> {
    fn providers(&mut self) -> Value {
        let mut all = Map::new();
        for number in 0..self.random.between(1, 5) {
            let id = format!("p{number}");
            let credentials = 0..self.random.between(1, 3);
            let credentials: Vec<_> =
                credentials.map(|it| format!("sk-{id}-{it}-0123456789")).collect();
            let total = self.random.between(15, 60);
            let mut provider = json!({
                "profile": "openai-compatible",
                "base_url": format!("http://{id}.test/v1"),
                "api_keys": credentials,
                "timeouts": {
                    "connect": self.seconds(1, 5),
                    "first_event": self.seconds(2, 25),
                    "idle": self.seconds(1, 20),
                    "total": format!("{total}s"),
                },
            });
            if self.random.percent(35) {
                let from = self.random.between(1, 4);
                provider["concurrency"] = json!({ "from": from, "to": from + 12 });
            }
            self.add_prefill(&id, &mut provider);
            self.add_limits(&mut provider, 25);
            self.add_budget(&mut provider, 15);
            self.drawn.providers.insert(id.clone(), seconds(total));
            all.insert(id, provider);
        }
        Value::Object(all)
    }

    /// How it goes on with an answer, if it can.
    fn add_prefill(&mut self, id: &str, provider: &mut Value) {
        let prefills = [
            Value::Null,
            json!({ "message": { "partial": true } }),
            json!({ "request": { "continue_final_message": true } }),
            json!({ "message": { "prefix": true }, "repeats": true }),
        ];
        let least = usize::from(self.drawn.breaks);
        let prefill = self.random.of(&prefills[least..]);
        if prefill["repeats"] == true {
            self.drawn.repeaters.push(id.into());
        }
        if !prefill.is_null() {
            provider["prefill"] = prefill;
        }
    }

    fn models(&mut self) -> Value {
        let mut all = Map::new();
        let (mut cheap, target) = (Model::default(), self.target());
        cheap.targets.insert(target.clone());
        all.insert(CHEAP.into(), json!(target));
        self.drawn.models.insert(CHEAP.into(), cheap);
        let plain: Vec<String> =
            (0..self.random.between(2, 4)).map(|it| format!("m{it}")).collect();
        for name in &plain {
            let mut model = Model::default();
            all.insert(name.clone(), self.model(&mut model));
            self.drawn.models.insert(name.clone(), model);
        }
        for number in 0..self.random.between(0, 2) {
            let mut model = Model { is_composed: true, ..Model::default() };
            let name = format!("c{number}");
            all.insert(name.clone(), self.composed(&plain, &mut model));
            self.drawn.models.insert(name, model);
        }
        Value::Object(all)
    }

    fn model(&mut self, model: &mut Model) -> Value {
        let mut plan = match self.random.percent(15) {
            true => self.race(model),
            // A fallback is a level of its own.
            false => self.mapping(2, model),
        };
        if !model.is_beside && model.targets.len() > 1 && self.random.percent(25) {
            model.is_beside = true;
            let at_most = self.random.between(10, 100);
            plan["hedge"] = json!({ "after": self.seconds(1, 4), "at_most": at_most });
            if self.random.percent(20) {
                plan["hedge"]["after"] = json!("p95");
            }
        }
        if self.random.percent(40) {
            plan["retries"] = json!(self.random.between(1, 5));
        }
        if self.random.percent(50) {
            let most = self.random.between(1, 30);
            plan["queue"] = json!({ "wait": self.seconds(1, 20), "most": most });
        }
        self.add_more(&mut plan, model);
        self.add_limits(&mut plan, 20);
        self.add_budget(&mut plan, 15);
        plan
    }

    /// What becomes of its answers beside that they are given.
    fn add_more(&mut self, plan: &mut Value, model: &mut Model) {
        if self.random.percent(if self.drawn.breaks { 90 } else { 30 }) {
            model.resumes = true;
            plan["resume"] = json!(self.random.of(&["elsewhere", "anywhere"]));
        }
        if self.random.percent(25) {
            // No plan names such a model, so that it is known for a shadow.
            let shadow = format!("{}/s", self.target().split_once('/').unwrap().0);
            plan["mirror"] = json!({ "to": shadow, "share": self.random.between(10, 100) });
            model.shadow = Some(shadow);
        }
        if !plan.to_string().contains("\"split\"") && self.random.percent(25) {
            model.shares = true;
            plan["single_flight"] = json!(true);
        }
    }

    fn race(&mut self, model: &mut Model) -> Value {
        let width = self.random.between(2, 4);
        let targets: BTreeSet<_> = (0..width).map(|_| self.target_of(model)).collect();
        model.is_beside = targets.len() > 1;
        match model.is_beside {
            true => json!({ "race": targets }),
            false => json!({ "target": targets.first() }),
        }
    }

    fn composed(&mut self, plain: &[String], model: &mut Model) -> Value {
        let count = self.random.between(2, 3);
        let mut members: Vec<String> = (0..count).map(|_| self.random.of(plain)).collect();
        members.dedup();
        if members.len() < 2 {
            members = plain[..2].to_vec();
        }
        let judge = self.random.of(plain);
        let mut composed = match self.random.percent(50) {
            true => {
                let by = self.random.of(&["merge", "choose"]);
                json!({ "panel": members, "judge": { "model": judge, "by": by } })
            }
            false => json!({ "cascade": members, "escalate": { "contains": ["dunno"] } }),
        };
        if composed.get("cascade").is_some() && self.random.percent(50) {
            composed["judge"] = json!(judge);
        }
        for name in members.iter().chain([&judge]) {
            let member = &self.drawn.models[name];
            model.targets.extend(member.targets.clone());
            model.resumes |= member.resumes;
        }
        self.add_limits(&mut composed, 15);
        self.add_budget(&mut composed, 10);
        composed
    }

    /// A plan inside another one, of so many levels at the most.
    fn plan(&mut self, depth: u32, model: &mut Model) -> Value {
        match depth > 0 && self.random.percent(45) {
            true => self.mapping(depth, model),
            false => json!({ "target": self.target_of(model) }),
        }
    }

    fn mapping(&mut self, depth: u32, model: &mut Model) -> Value {
        let mut main = Model::default();
        let mut plan = match self.random.between(0, 4) {
            0 => {
                json!({ "target": self.target_of(&mut main), "spill_at": self.random.between(1, 8) })
            }
            1 => {
                let sticky = self.random.of(&[json!("key"), json!({ "header": "x-side" })]);
                json!({ "split": self.weighted(depth, &mut main), "sticky": sticky })
            }
            2 => self.balance(depth, &mut main),
            3 => self.cases(depth, &mut main),
            _ => json!({ "target": self.target_of(&mut main) }),
        };
        if self.random.percent(60) {
            let tiers = self.parts(1, depth, &mut main);
            if !tiers.is_empty() {
                plan["fallback"] = json!(tiers);
            }
        }
        model.targets.extend(main.targets);
        plan
    }

    fn cases(&mut self, depth: u32, model: &mut Model) -> Value {
        let parts = self.parts(2, depth, model);
        let last = parts.len() - 1;
        let conditions = [("x-tier", "gold"), ("x-side", "one"), ("x-tier", "lead*")];
        let cases = parts.into_iter().enumerate().map(|(index, plan)| match index == last {
            true => json!({ "use": plan }),
            false => {
                let (name, value) = conditions[index];
                json!({ "if": { "header": { name: value } }, "use": plan })
            }
        });
        json!({ "when": cases.collect::<Vec<_>>() })
    }

    fn balance(&mut self, depth: u32, model: &mut Model) -> Value {
        let by = self.random.of(&["latency", "round_robin", "in_flight", "fastest", "cheapest"]);
        let affinity = self.random.of(&["cache_key", "conversation", "off"]);
        let members = self.weighted(depth, model);
        let mut balance = json!({ "balance": members, "by": by, "affinity": affinity });
        if by == "cheapest" && self.random.percent(50) {
            balance["under"] = json!(self.seconds(1, 3));
        }
        balance
    }

    fn weighted(&mut self, depth: u32, model: &mut Model) -> Value {
        let parts = self.parts(2, depth, model).into_iter().map(|mut part| {
            part["weight"] = json!(self.random.between(1, 9));
            part
        });
        parts.collect()
    }

    /// Some plans beside each other, each with other targets than the one before them.
    fn parts(&mut self, least: u64, depth: u32, model: &mut Model) -> Vec<Value> {
        let mut known = vec![model.targets.clone()];
        let mut parts = Vec::new();
        for _ in 0..self.random.between(least, 4) {
            let mut part = Model::default();
            let plan = self.plan(depth - 1, &mut part);
            if !known.contains(&part.targets) {
                model.targets.extend(part.targets.clone());
                known.push(part.targets);
                parts.push(plan);
            }
        }
        parts
    }

    fn keys(&mut self) -> Value {
        let names: Vec<String> = self.drawn.models.keys().cloned().collect();
        let mut keys = Vec::new();
        for number in 0..self.random.between(2, 4) {
            let (name, text) = (format!("k{number}"), format!("mk-of-k{number}-0123456789"));
            let mut key = self.terms();
            key["name"] = json!(name);
            key["key"] = json!(text);
            key["priority"] = json!(self.random.of(&["high", "normal", "low"]));
            let team = self.random.percent(50).then(|| self.random.of(&["red", "blue"]).to_owned());
            if let Some(team) = &team {
                key["team"] = json!(team);
            }
            let models = self.random.percent(25).then(|| {
                names
                    .iter()
                    .filter(|_| self.random.percent(60))
                    .cloned()
                    .chain(["m0".into()])
                    .collect()
            });
            if let Some(models) = &models {
                key["models"] = json!(models);
            }
            self.drawn.keys.push(Key { name, team, text, models });
            keys.push(key);
        }
        Value::Array(keys)
    }

    fn terms(&mut self) -> Value {
        let mut terms = json!({});
        self.add_limits(&mut terms, 30);
        self.add_budget(&mut terms, 20);
        terms
    }

    fn add_limits(&mut self, to: &mut Value, percent: u64) {
        if !self.random.percent(percent) {
            return;
        }
        let (rpm, tpm) = (self.random.between(20, 400), self.random.between(10_000, 200_000));
        let concurrency = self.random.between(1, 20);
        to["limits"] = match self.random.between(0, 3) {
            0 => json!({ "rpm": rpm }),
            1 => json!({ "tpm": tpm }),
            2 => json!({ "concurrency": concurrency }),
            _ => json!({ "rpm": rpm, "tpm": tpm, "concurrency": concurrency }),
        };
    }

    fn add_budget(&mut self, to: &mut Value, percent: u64) {
        if !self.random.percent(percent) {
            return;
        }
        // A request reserves some $0.0007, and costs a tenth of that.
        let amount = format!("$0.{:04}", self.random.between(5, 500));
        let cheap = json!({ "downgrade": CHEAP });
        let exhausted = self.random.of(&[json!("refuse"), cheap, json!("alert")]);
        to["budget"] = json!({ "amount": amount, "period": "total", "on_exhausted": exhausted });
        if self.random.percent(20) {
            to["budget"]["key_share"] = json!(self.random.between(20, 90));
        }
    }

    fn seconds(&mut self, from: u64, to: u64) -> String {
        format!("{}s", self.random.between(from, to))
    }

    fn target(&mut self) -> String {
        let providers: Vec<_> = self.drawn.providers.keys().cloned().collect();
        format!("{}/{}", self.random.of(&providers), self.random.of(&["a", "b", "c"]))
    }

    fn target_of(&mut self, model: &mut Model) -> String {
        let target = self.target();
        model.targets.insert(target.clone());
        target
    }
}
