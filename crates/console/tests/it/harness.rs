//! A console over a temporary store, with a relay and a ledger that remember what they are told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use console::experiment::{Counted, Counts, Setup};
use console::live::{Effect, Exposed, Live, Plans, Standing};
use console::reports::{By, Filter, Reports, RequestDetail, RequestRow, UsageRow};
use console::{Console, Options};
use http::{HeaderMap, Request, StatusCode, header};
use policy::Snapshot;
use policy::config::MetricsConfig;
use policy::directory::{Chain, Directory, GroupConfig, KeyRecord, Kind, Origin};
use policy::key::{Digest, Pepper};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// The token that the environment holds, in these tests.
pub(crate) const ENV: &str = "an-owner-token-from-the-environment";

/// What the relay would hold in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) keys: Mutex<HashMap<String, KeyRecord>>,
    pub(crate) groups: Mutex<HashMap<(Kind, String), GroupConfig>>,
    pub(crate) file: Mutex<HashMap<(Kind, String), GroupConfig>>,
    pub(crate) file_keys: Mutex<Vec<KeyRecord>>,
    pub(crate) config: Mutex<Value>,
    pub(crate) problems: Mutex<Vec<String>>,
    pub(crate) plans: Mutex<Option<Arc<Snapshot>>>,
    /// The monotonic clock.
    pub(crate) now_ms: AtomicU64,
}

impl Memory {
    /// The key that this text opens at a time, as the directory would find it.
    pub(crate) fn find(&self, digest: &Digest, now_ms: u64) -> Option<String> {
        let keys = self.keys.lock().unwrap();
        let works = |record: &&KeyRecord| {
            let mut digests = record.digests.iter();
            digests
                .any(|(known, until)| known == digest && until.is_none_or(|until| now_ms < until))
        };
        keys.values().find(works).map(|record| record.id.clone())
    }
}

impl Live for Memory {
    fn apply(&self, effect: Effect) {
        match effect {
            Effect::PutGroup(kind, id, config) => {
                self.groups.lock().unwrap().insert((kind, id), *config);
            }
            Effect::PutKey(record) => {
                self.keys.lock().unwrap().insert(record.id.clone(), *record);
            }
            Effect::Remove(Kind::Key, id) => drop(self.keys.lock().unwrap().remove(&id)),
            Effect::Remove(kind, id) => drop(self.groups.lock().unwrap().remove(&(kind, id))),
        }
    }

    fn file_group(&self, kind: Kind, id: &str) -> Option<GroupConfig> {
        self.file.lock().unwrap().get(&(kind, id.to_owned())).cloned()
    }

    fn file_groups(&self, kind: Kind) -> Vec<(String, GroupConfig)> {
        let file = self.file.lock().unwrap();
        let of_kind = file.iter().filter(|((of, _), _)| *of == kind);
        of_kind.map(|((_, id), group)| (id.clone(), group.clone())).collect()
    }

    fn file_keys(&self) -> Vec<KeyRecord> {
        self.file_keys.lock().unwrap().clone()
    }

    fn standing(&self, _: Kind, _: &str) -> Option<Standing> {
        Some(Standing::default())
    }

    /// The plans that a test gave; an empty configuration's otherwise.
    fn plans(&self) -> Option<Plans> {
        let mut plans = self.plans.lock().unwrap();
        let snapshot = plans.get_or_insert_with(|| Arc::new(snapshot("")));
        Some(Plans { snapshot: Arc::clone(snapshot), now_ms: self.now_ms.load(Relaxed) })
    }

    /// As a directory that was told all of this would find it.
    fn chain(&self, key: &str) -> Option<Chain> {
        let directory = Directory::default();
        for groups in [&self.groups, &self.file] {
            for ((kind, id), config) in &*groups.lock().unwrap() {
                directory.put_group(*kind, id, config, Origin::Store, 0).unwrap();
            }
        }
        let filed = self.file_keys.lock().unwrap().clone();
        let stored = self.keys.lock().unwrap().values().cloned().collect::<Vec<_>>();
        let record = stored.into_iter().chain(filed).find(|record| record.id == key)?;
        Some(Chain::from(&directory.put_key(&record, Origin::Store, 0).unwrap()))
    }

    /// Tells nothing but what was asked for.
    fn metrics(&self, accept: &str) -> Option<Exposed> {
        Some(Exposed { media: "text/plain; version=0.0.4", text: format!("# {accept}\n") })
    }

    fn price(&self, _: &str, model: &str) -> Option<Value> {
        (model == "priced").then(|| json!({ "input": "0.8", "currency": "CNY" }))
    }

    fn config(&self) -> Value {
        self.config.lock().unwrap().clone()
    }

    fn reload(&self) -> Result<(), Vec<String>> {
        let problems = self.problems.lock().unwrap().clone();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// A ledger with one request of each team.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) asked: Mutex<Vec<Filter>>,
}

pub(crate) fn request_of(team: &str) -> RequestRow {
    RequestRow { id: format!("req_{team}"), team: Some(team.to_owned()), ..RequestRow::default() }
}

impl Reports for Books {
    fn usage(&self, filter: &Filter, _: By) -> Result<Vec<UsageRow>, String> {
        self.asked.lock().unwrap().push(filter.clone());
        Ok(vec![UsageRow { group: "2026-11-22".into(), requests: 1, ..UsageRow::default() }])
    }

    /// Forgets to filter, to see whether somebody else looks too.
    fn requests(
        &self,
        filter: &Filter,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<RequestRow>, String> {
        self.asked.lock().unwrap().push(filter.clone());
        Ok(vec![request_of("red"), request_of("blue")])
    }

    /// One request on each side.
    fn variants(&self, filter: &Filter, setup: &Setup) -> Result<Counts, String> {
        self.asked.lock().unwrap().push(filter.clone());
        let side = |(_, targets): &(u32, Vec<(String, String)>)| Counted {
            targets: targets
                .iter()
                .map(|(provider, model)| format!("{provider}/{model}"))
                .collect(),
            requests: 1,
            ..Counted::default()
        };
        let variants = setup.variants.iter().map(side).collect();
        Ok(Counts { variants, elsewhere: 3, left_out: 0 })
    }

    fn request(&self, id: &str) -> Result<Option<RequestDetail>, String> {
        let of = |team| RequestDetail { request: request_of(team), ..RequestDetail::default() };
        Ok(["red", "blue"].into_iter().map(of).find(|detail| detail.request.id == id))
    }
}

/// A console and what it stands on.
pub(crate) struct Rig {
    pub(crate) router: Router,
    pub(crate) console: Console,
    pub(crate) memory: Arc<Memory>,
    pub(crate) books: Arc<Books>,
    pub(crate) dir: TempDir,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(crate) fn field(&self, name: &str) -> String {
        let json = self.json();
        json[name].as_str().unwrap_or_else(|| panic!("no {name} in {self:?}")).to_owned()
    }

    /// The `error.code`.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The `error.param`.
    pub(crate) fn param(&self) -> String {
        self.json()["error"]["param"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status.as_u16(), &*self.code()), (status, code), "{self:?}");
        self
    }
}

/// The snapshot of a configuration that is right.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    let environment = policy::Environment::new();
    let profiles = providers::builtin().unwrap();
    let config = policy::load(text, &environment).unwrap();
    match policy::build(&config, &profiles, &environment) {
        Ok(snapshot) => snapshot,
        Err(problems) => panic!("{text}\n{problems:?}"),
    }
}

pub(crate) fn pepper() -> Pepper {
    Pepper::new([7; 32])
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (memory, books) = (Arc::new(Memory::default()), Arc::new(Books::default()));
        let mut options = Options {
            path: dir.path().join("settings.db"),
            pepper: pepper(),
            token: Some(ENV.to_owned()),
            hosts: Some(Vec::new()),
            metrics: MetricsConfig::default(),
            live: memory.clone(),
            reports: books.clone(),
        };
        change(&mut options);
        let (console, _) = Console::open(options).unwrap();
        Self { router: console.router(), console, memory, books, dir }
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        Reply { status: parts.status, headers: parts.headers, text }
    }

    /// Sends JSON with a token; null sends no body.
    pub(crate) async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Reply {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:8001")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(text)).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(ENV, "GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(ENV, "POST", path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(ENV, "PATCH", path, body).await
    }

    /// Makes a team, if it is not there.
    pub(crate) async fn team(&self, id: &str) {
        self.post("/admin/v1/teams", json!({ "id": id, "name": id })).await;
    }

    /// A new token of a role; a manager's is of the team `red`.
    pub(crate) async fn token(&self, role: &str) -> String {
        let mut body = json!({ "name": role, "role": role });
        if role == "manager" {
            self.team("red").await;
            body["team"] = json!("red");
        }
        self.post("/admin/v1/admins", body).await.ok().field("token")
    }

    /// The settings store, opened by somebody else.
    pub(crate) fn intruder(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join("settings.db")).unwrap()
    }
}
