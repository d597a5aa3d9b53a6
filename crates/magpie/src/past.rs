//! What budgets have to know of the time before they were there.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use console::store::now_ms;
use jiff::tz::TimeZone;
use ledger::{By, Cost, Filter, Reader, Step};
use policy::Snapshot;
use policy::budget::Account;
use policy::directory::{Holder, Kind};
use policy::money::Money;
use policy::scope::Glob;

use crate::log::note;

/// Asks the ledger. Without one, every budget begins at nothing.
pub(crate) struct Past {
    database: Option<PathBuf>,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Past {
    /// The past as a ledger's database has it.
    pub(crate) fn new(database: Option<PathBuf>, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { database, snapshot }
    }

    /// Begins the budgets of these holders that are new with what was spent of them in their
    /// periods.
    ///
    /// # Errors
    /// If the ledger cannot be read: budgets that begin at nothing may not hold.
    pub(crate) fn restore<'h>(
        &self,
        holders: impl IntoIterator<Item = &'h Arc<Holder>>,
    ) -> Result<(), String> {
        let Some(database) = &self.database else { return Ok(()) };
        let mut reader = None;
        for holder in holders {
            for account in &holder.terms().accounts {
                if !account.wants_restoring() {
                    continue;
                }
                // Most changes bring no new budget: the database is opened when one does.
                let reader = match &reader {
                    Some(reader) => reader,
                    None => reader.insert(Reader::open(database).map_err(|it| it.to_string())?),
                };
                let spent = spent(reader, holder, account).map_err(|fault| fault.to_string())?;
                account.restore(self.in_its_currency(spent, account), now_ms());
            }
        }
        Ok(())
    }

    /// The same while requests are served: what cannot be read now is told to the owner.
    pub(crate) fn catch_up(&self, holder: &Arc<Holder>) {
        if let Err(why) = self.restore([holder]) {
            let (kind, name) = (holder.kind.word(), &holder.name);
            note(&format!("the budget of {kind} `{name}` begins at nothing: {why}"));
        }
    }

    fn in_its_currency(&self, spent: Vec<(u64, Cost)>, account: &Account) -> Vec<(u64, u64)> {
        let exchange = Arc::clone(&self.snapshot.load().exchange);
        let wanted = account.budget().amount.currency;
        let converted = spent.into_iter().filter_map(|(at_ms, cost)| {
            let money = Money { nanos: cost.nanos, currency: cost.currency.parse().ok()? };
            Some((at_ms, exchange.convert(money, wanted)?.nanos))
        });
        converted.collect()
    }
}

fn spent(reader: &Reader, holder: &Holder, account: &Account) -> ledger::Result<Vec<(u64, Cost)>> {
    let now_ms = now_ms();
    // A minute more: what has ended in this one counts as well.
    let time_ms = account.standing(now_ms).period_start_ms..now_ms + 60_000;
    let by = match holder.kind {
        Kind::Key => By::Key,
        Kind::User => By::User,
        Kind::Team => By::Team,
        Kind::Org => By::Org,
        Kind::Provider => By::Provider,
        Kind::Model if holder.id.contains('*') => return spent_by_pattern(reader, holder, time_ms),
        Kind::Model => By::Model,
        // Rules have limits, and no budgets.
        Kind::Rule => return Ok(Vec::new()),
    };
    let spent = reader.spent(by, &holder.id, time_ms, Step::Hour)?;
    Ok(spent.into_iter().map(|sum| (sum.at_ms, sum.cost)).collect())
}

/// A model with a star in its name stands for all that fit it; the ledger has each by its own name.
fn spent_by_pattern(
    reader: &Reader,
    holder: &Holder,
    time_ms: std::ops::Range<u64>,
) -> ledger::Result<Vec<(u64, Cost)>> {
    let Ok(pattern) = holder.id.parse::<Glob>() else { return Ok(Vec::new()) };
    let filter =
        Filter { from_ms: Some(time_ms.start), to_ms: Some(time_ms.end), ..Filter::default() };
    let rows = reader.usage(&filter, &[By::Model, By::Hour], &TimeZone::UTC)?;
    let fits = |names: &[String]| names.first().is_some_and(|name| pattern.matches(name));
    let spent = rows.into_iter().filter(|row| fits(&row.names)).flat_map(|row| {
        let at_ms = row.at_ms.unwrap_or(time_ms.start);
        row.costs.into_iter().map(move |cost| (at_ms, cost))
    });
    Ok(spent.collect())
}
