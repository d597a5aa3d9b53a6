//! What the admin API sees of the process that runs, and does to it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use console::live::{BudgetStanding, Effect, Exposed, LimitStanding, Live, Plans, Standing};
use console::store::now_ms;
use metrics::Form;
use policy::Snapshot;
use policy::directory::{Chain, Directory, GroupConfig, Holder, KeyRecord, Kind};
use policy::money::Money;
use policy::price::{Bucket, Price};
use policy::units::milliseconds;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::callers;
use crate::configuration::Source;
use crate::measure::Measure;
use crate::past::Past;

/// The answer to a wish for the configuration to be read again: what was wrong with it.
pub(crate) type Reloaded = Result<(), Vec<String>>;

/// See the [module](self).
pub(crate) struct Running {
    pub(crate) directory: Arc<Directory>,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) source: Source,
    pub(crate) past: Arc<Past>,
    /// Monotonic nanoseconds, as limits count them.
    pub(crate) epoch: tokio::time::Instant,
    /// The numbers of what happens.
    pub(crate) measure: Arc<Measure>,
    /// Wishes for the configuration to be read again.
    pub(crate) reload: mpsc::Sender<oneshot::Sender<Reloaded>>,
}

impl Live for Running {
    fn apply(&self, effect: Effect) {
        callers::apply(&self.directory, &self.past, effect);
    }

    fn file_group(&self, kind: Kind, id: &str) -> Option<GroupConfig> {
        let snapshot = self.snapshot.load();
        let named = |(known, name, _): &&(Kind, String, GroupConfig)| *known == kind && name == id;
        snapshot.callers.groups.iter().find(named).map(|(.., config)| config.clone())
    }

    fn file_groups(&self, kind: Kind) -> Vec<(String, GroupConfig)> {
        let snapshot = self.snapshot.load();
        let of_kind = snapshot.callers.groups.iter().filter(|(known, ..)| *known == kind);
        of_kind.map(|(_, name, config)| (name.clone(), config.clone())).collect()
    }

    fn file_keys(&self) -> Vec<KeyRecord> {
        self.snapshot.load().callers.keys.iter().map(callers::file_key).collect()
    }

    fn standing(&self, kind: Kind, id: &str) -> Option<Standing> {
        let of_model = || {
            let snapshot = self.snapshot.load();
            let is_it = |holder: &&Arc<Holder>| holder.kind == kind && &*holder.id == id;
            snapshot.holders().iter().find(is_it).cloned()
        };
        let holder = self.directory.holder(kind, id).or_else(of_model)?;
        let now_ns = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Some(standing(&holder, now_ns, now_ms()))
    }

    fn plans(&self) -> Option<Plans> {
        // The relay counts health from the same moment on.
        let now_ms = milliseconds(self.epoch.elapsed());
        Some(Plans { snapshot: self.snapshot.load_full(), now_ms })
    }

    fn chain(&self, key: &str) -> Option<Chain> {
        self.directory.holder(Kind::Key, key).map(|holder| Chain::from(&holder))
    }

    fn metrics(&self, accept: &str) -> Option<Exposed> {
        let form = Form::wanted(accept);
        Some(Exposed { media: form.media_type(), text: self.measure.expose(form) })
    }

    fn price(&self, provider: &str, model: &str) -> Option<Value> {
        let snapshot = self.snapshot.load();
        let provider = snapshot.provider(provider)?;
        let price = provider.price(model)?;
        let limits = provider.model_limits(model);
        Some(json!({
            "provider": &*provider.id,
            "model": model,
            "currency": price.currency().code(),
            "per_million": per_million(&price),
            "per_request": price.charge_counts(&[(Bucket::Request, 1)], now_ms()).money,
            "source": price.source(),
            "as_of": price.as_of(),
            "max_input_tokens": limits.max_input,
            "max_output_tokens": limits.max_output,
        }))
    }

    fn config(&self) -> Value {
        let file = self.source.path.as_ref().map(|path| path.display().to_string());
        let text = self.source.text().unwrap_or_default();
        let tree = serde_saphyr::from_str::<Value>(&text).unwrap_or_default();
        json!({ "file": file, "config": tree })
    }

    fn reload(&self) -> Reloaded {
        let gone = || vec![String::from("Magpie is stopping.")];
        let (answer, answered) = oneshot::channel();
        self.reload.blocking_send(answer).map_err(|_| gone())?;
        answered.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}

/// What a million tokens of each kind cost now, if they are all that is asked for.
fn per_million(price: &Price) -> Value {
    let buckets =
        [Bucket::Input, Bucket::CachedRead, Bucket::CacheWrite, Bucket::Output, Bucket::Reasoning];
    let rates = buckets.map(|bucket| {
        let charge = price.charge_counts(&[(bucket, 1_000_000)], now_ms());
        let rate = charge.lines.iter().find(|line| line.bucket == bucket);
        let nanos = rate.map_or(0, |line| line.nanos_per_million);
        let money = Money { nanos, currency: price.currency() };
        (bucket.word().to_owned(), json!(money))
    });
    Value::Object(rates.into_iter().collect())
}

fn standing(holder: &Holder, now_ns: u64, now_ms: u64) -> Standing {
    let terms = holder.terms();
    let limits = terms.counters.iter().map(|counter| {
        let standing = counter.standing(now_ns);
        LimitStanding {
            limit: counter.limit().name().to_owned(),
            amount: standing.limit,
            remaining: standing.remaining,
            reset_ms: standing.reset_after / 1_000_000,
        }
    });
    let budgets = terms.accounts.iter().map(|account| {
        let (budget, standing) = (account.budget(), account.standing(now_ms));
        let money = |nanos| Money { nanos, currency: budget.amount.currency }.to_string();
        BudgetStanding {
            period: budget.period.to_string(),
            amount: money(standing.limit),
            spent: money(standing.spent),
            reserved: money(standing.reserved),
            started_ms: standing.period_start_ms,
            resets_ms: standing.resets_at_ms,
        }
    });
    Standing { limits: limits.collect(), budgets: budgets.collect() }
}
