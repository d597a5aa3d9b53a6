//! `magpie keys`: virtual keys of the store, without a server and beside one. A running Magpie takes
//! a change up within a second.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand};
use console::endpoint::Endpoint;
use console::live::{Effect, Live, Standing};
use console::routes::at;
use console::{Console, Options};
use policy::Snapshot;
use policy::directory::{GroupConfig, KeyRecord, Kind};
use policy::key::hex;
use serde_json::{Map, Value, json};

use super::{Outcome, load, say};
use crate::callers::file_key;
use crate::configuration::Source;
use crate::data;
use crate::reports::LedgerReports;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key. It is shown this once; what is kept is a digest of it.
    New(Box<NewKey>),
    /// List the keys: those of the store, and those of the configuration file.
    List {
        /// Also those that are revoked.
        #[arg(long)]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a key with its terms, by its id or name.
    Show {
        /// Its id or name.
        key: String,
    },
    /// Make a new text for a key. The old one works on for a while.
    Rotate {
        /// Its id or name.
        key: String,
        /// How long the old text works on: `24h` if nothing is said, `0s` ends it at once.
        #[arg(long, value_name = "TIME")]
        overlap: Option<String>,
    },
    /// Revoke a key. It stops working within a second.
    Revoke {
        /// Its id or name.
        key: String,
    },
}

/// A key to be made.
#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// What it is called.
    name: String,
    /// The user it belongs to.
    #[arg(long)]
    user: Option<String>,
    /// The team it belongs to.
    #[arg(long)]
    team: Option<String>,
    /// The organisation it belongs to.
    #[arg(long)]
    org: Option<String>,
    /// Models it may ask for, such as `chat,gpt-*`. Default: all.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Operations it may ask for, such as `chat,embedding,models`. Default: all.
    #[arg(long, value_delimiter = ',')]
    operations: Vec<String>,
    /// Networks it may be used from, such as `10.0.0.0/8`. Default: anywhere.
    #[arg(long, value_delimiter = ',')]
    allow: Vec<String>,
    /// Networks it may not be used from.
    #[arg(long, value_delimiter = ',')]
    deny: Vec<String>,
    /// Until when, such as `2027-12-31`.
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// A limit, such as `rpm=600`, `tpm=200k` or `concurrency=20`; may be said several times.
    #[arg(long = "limit", value_name = "NAME=AMOUNT")]
    limits: Vec<String>,
    /// A budget, such as `¥50/day` or `$100/month`.
    #[arg(long)]
    budget: Option<String>,
}

impl NewKey {
    fn body(self) -> Result<Value, String> {
        let mut body = json!({ "name": self.name });
        let Some(fields) = body.as_object_mut() else { return Ok(body) };
        let texts = [
            ("user", self.user),
            ("team", self.team),
            ("org", self.org),
            ("expires", self.expires),
            ("budget", self.budget),
        ];
        for (name, text) in texts {
            fields.extend(text.map(|text| (name.to_owned(), Value::from(text))));
        }
        let lists = [
            ("models", self.models),
            ("operations", self.operations),
            ("allow", self.allow),
            ("deny", self.deny),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            fields.insert(name.to_owned(), Value::from(list));
        }
        let mut limits = Map::new();
        for limit in &self.limits {
            let (name, amount) = limit
                .split_once('=')
                .ok_or_else(|| format!("`{limit}` is no limit; write for example rpm=600"))?;
            let number =
                amount.parse::<u64>().map_or_else(|_| json!(amount), |number| json!(number));
            limits.insert(name.to_owned(), number);
        }
        if !limits.is_empty() {
            fields.insert(String::from("limits"), Value::from(limits));
        }
        Ok(body)
    }
}

/// `magpie keys …`
pub(crate) fn keys(source: &Source, command: KeysCommand) -> Outcome {
    let desk = Desk::open(source)?;
    match command {
        KeysCommand::New(key) => {
            let made = desk.act::<at::CreateKey>("", "", key.body()?)?;
            say(&told_once(&made))
        }
        KeysCommand::List { all, json } => {
            let keys = desk.list(all)?;
            match json {
                true => say(&format!("{}\n", pretty(&Value::from(keys)))),
                false => say(&table(&keys)),
            }
        }
        KeysCommand::Show { key } => {
            let id = desk.id(&key)?;
            say(&format!("{}\n", pretty(&desk.act::<at::GetKey>(&id, "", json!({}))?)))
        }
        KeysCommand::Rotate { key, overlap } => {
            let id = desk.id(&key)?;
            let body = overlap.map_or_else(|| json!({}), |overlap| json!({ "overlap": overlap }));
            say(&told_once(&desk.act::<at::RotateKey>(&id, "", body)?))
        }
        KeysCommand::Revoke { key } => {
            let id = desk.id(&key)?;
            let revoked = desk.act::<at::RevokeKey>(&id, "", json!({}))?;
            say(&format!("revoked: {} ({id})\n", text(&revoked, "name")))
        }
    }
}

/// The store, as the owner at the terminal has it.
struct Desk(Console);

impl Desk {
    fn open(source: &Source) -> Result<Self, String> {
        let snapshot = load(source)?;
        let folder =
            snapshot.settings.data.clone().ok_or("no folder to keep keys in: set `data`")?;
        data::make(&folder)?;
        let pepper = data::pepper(Some(Path::new(&folder)))?;
        // Nobody calls by this token. It is there so that the owner's is made, and told, by the
        // first start of the server.
        let token = Some(hex(&data::random().map_err(|fault| fault.to_string())?));
        let options = Options {
            path: folder.join("settings.db"),
            pepper,
            token,
            hosts: None,
            metrics: snapshot.settings.metrics.clone(),
            live: Arc::new(Elsewhere(snapshot)),
            reports: Arc::new(LedgerReports::new(None)),
        };
        let (console, _) = Console::open(options).map_err(|fault| fault.to_string())?;
        Ok(Self(console))
    }

    fn act<E: Endpoint>(&self, id: &str, query: &str, body: Value) -> Result<Value, String> {
        let answer = self.0.act::<E>(id, query, body).map_err(|fault| fault.message)?;
        serde_json::to_value(answer).map_err(|fault| fault.to_string())
    }

    fn list(&self, all: bool) -> Result<Vec<Value>, String> {
        let mut keys: Vec<Value> = Vec::new();
        loop {
            let after = keys.last().map_or_else(String::new, |last| {
                // The id of a key of the file is its name, which may be any text.
                let id: String = text(last, "id").bytes().map(|b| format!("%{b:02X}")).collect();
                format!("&after={id}")
            });
            let revoked = if all { "" } else { "&revoked=false" };
            let query = format!("limit=200{after}{revoked}");
            let page = self.act::<at::ListKeys>("", &query, json!({}))?;
            let data = page["data"].as_array().cloned().unwrap_or_default();
            if data.is_empty() {
                return Ok(keys);
            }
            keys.extend(data);
        }
    }

    /// The id of the key that an id or a name means. One of the store comes before one of the file,
    /// which cannot be changed here.
    fn id(&self, wanted: &str) -> Result<String, String> {
        let keys = self.list(true)?;
        let (of_file, stored): (Vec<_>, Vec<_>) = keys.iter().partition(|key| is_of_file(key));
        let is_it = |key: &&&Value| text(key, "id") == wanted;
        let is_called = |key: &&&Value| text(key, "name") == wanted && key["revoked_ms"].is_null();
        let by_id = stored.iter().find(is_it);
        let mut by_name = stored.iter().filter(is_called);
        match (by_id, by_name.next(), by_name.next()) {
            (Some(key), ..) | (None, Some(key), None) => Ok(text(key, "id").to_owned()),
            (None, Some(_), Some(_)) => {
                Err(format!("several keys are called `{wanted}`; name the id"))
            }
            (None, None, _) => match of_file.iter().find(is_it) {
                Some(_) => Ok(wanted.to_owned()),
                None => Err(format!("there is no key `{wanted}`: `magpie keys list` lists them")),
            },
        }
    }
}

/// Whether a key stands in the configuration file.
fn is_of_file(key: &Value) -> bool {
    text(key, "origin") == "file"
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A key that is shown once. On a terminal and in a script alike, its text is the last line.
fn told_once(made: &Value) -> String {
    format!(
        "{} ({}), shown this once:\n{}\n",
        text(made, "name"),
        text(made, "id"),
        text(made, "key")
    )
}

fn table(keys: &[Value]) -> String {
    let mut out =
        format!("{:<30} {:<24} {:<6} {:<20} {}\n", "ID", "NAME", "ENDS", "COUNTS FOR", "STATE");
    for key in keys {
        let above = ["user", "team", "org"].iter().find_map(|kind| {
            let name = text(key, kind);
            (!name.is_empty()).then(|| format!("{kind} {name}"))
        });
        let state = match (key["revoked_ms"].is_null(), &key["enabled"], is_of_file(key)) {
            (false, ..) => "revoked",
            (true, Value::Bool(false), false) => "disabled",
            (true, Value::Bool(false), true) => "in the file, disabled",
            (true, _, true) => "in the file",
            _ => "",
        };
        let ends = match text(key, "last_four") {
            "" => String::new(),
            last_four => format!("…{last_four}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:<30} {:<24} {ends:<6} {:<20} {state}",
            text(key, "id"),
            text(key, "name"),
            above.unwrap_or_default(),
        );
    }
    out
}

/// What runs is another process, which follows the store by itself.
struct Elsewhere(Snapshot);

impl Live for Elsewhere {
    fn apply(&self, _: Effect) {}

    fn file_group(&self, kind: Kind, id: &str) -> Option<GroupConfig> {
        let named = |(known, name, _): &&(Kind, String, GroupConfig)| *known == kind && name == id;
        self.0.callers.groups.iter().find(named).map(|(.., config)| config.clone())
    }

    fn file_keys(&self) -> Vec<KeyRecord> {
        self.0.callers.keys.iter().map(file_key).collect()
    }

    fn standing(&self, _: Kind, _: &str) -> Option<Standing> {
        None
    }

    fn price(&self, _: &str, _: &str) -> Option<Value> {
        None
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn reload(&self) -> Result<(), Vec<String>> {
        Ok(())
    }
}
