//! Sums are what adding up the records gives.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil::date};
use ledger::{
    Amount, Attempt, Bill, By, Closing, Filter, Ledger, Opening, Step, Tokens, Usage, Who,
};
use proptest::prelude::*;

use crate::world::{NOON, attempts, closing, folder, id_at, open, opening, options, usd};

const DAY: u64 = 86_400_000;
const KEYS: [&str; 3] = ["k1", "k2", "k3"];
const TEAMS: [&str; 2] = ["red", "blue"];
const MODELS: [&str; 3] = ["small", "large", "free"];
const CURRENCIES: [&str; 2] = ["USD", "CNY"];

/// One record, in small numbers.
#[derive(Debug, Clone)]
struct Small {
    ended: u64,
    key: usize,
    team: usize,
    model: usize,
    bill: u8,
    nanos: u64,
    tokens: [u64; 5],
    failed: bool,
    last: bool,
}

fn small() -> impl Strategy<Value = Small> {
    let days = prop_oneof![0..DAY, 0..40 * DAY];
    let names = (0..3_usize, 0..2_usize, 0..3_usize);
    let bill = (0..4_u8, 0..2_000_000_000_u64);
    let tokens = prop::array::uniform5(0..5_000_u64);
    (days, names, bill, tokens, any::<bool>(), prop::bool::weighted(0.9)).prop_map(
        |(ended, (key, team, model), (bill, nanos), tokens, failed, last)| Small {
            ended,
            key,
            team,
            model,
            bill,
            nanos,
            tokens,
            failed,
            last,
        },
    )
}

fn write(ledger: &Ledger, records: &[Small]) {
    let mut writer = ledger.writer().unwrap();
    for (number, it) in records.iter().enumerate() {
        let at_ms = NOON + it.ended - 1500;
        let id = id_at(at_ms, number as u64);
        let who = Who { key: Some(KEYS[it.key]), team: Some(TEAMS[it.team]), ..Who::default() };
        let opening = Opening { id, at_ms, who, model: MODELS[it.model], ..opening(0) };
        let [input, cached_read, cache_write, output, reasoning] = it.tokens;
        let charge = |currency| Bill::Charge(Amount { nanos: it.nanos, currency });
        let closing = Closing {
            id,
            at_ms: NOON + it.ended,
            last_of: it.last.then_some(1),
            fault: it.failed.then_some("cut"),
            bill: [Bill::Nothing, Bill::Unpriced, charge("USD"), charge("CNY")][it.bill as usize],
            tokens: Tokens { input, cached_read, cache_write, output, reasoning },
            ..closing(0)
        };
        writer.opening(&opening).unwrap();
        writer.closing(&closing).unwrap();
    }
    ledger.flush().unwrap();
}

/// Adds records up the slow way.
fn add_up(
    attempts: &[Attempt],
    key: impl Fn(&Attempt) -> Option<(Option<u64>, Vec<String>)>,
) -> Vec<Usage> {
    let mut groups: BTreeMap<(Option<u64>, Vec<String>), Usage> = BTreeMap::new();
    for it in attempts {
        let Some((at_ms, names)) = key(it) else { continue };
        let sum = groups.entry((at_ms, names.clone())).or_default();
        (sum.at_ms, sum.names) = (at_ms, names);
        sum.attempts += 1;
        sum.tokens = sum.tokens.plus(&it.tokens);
        sum.unpriced += u64::from(it.unpriced);
        if it.last_of.is_some() {
            sum.requests += 1;
            sum.errors += u64::from(!it.fault.is_empty());
            sum.first_events += 1;
            sum.first_event_us += it.first_event_us.unwrap();
            sum.total_us += it.total_us;
            sum.overhead_us += it.overhead_us;
        }
        if let Some(cost) = &it.cost {
            match sum.costs.iter_mut().find(|sum| sum.currency == cost.currency) {
                Some(sum) => sum.nanos += cost.nanos,
                None => sum.costs.push(cost.clone()),
            }
            sum.costs.sort_by(|one, other| one.currency.cmp(&other.currency));
        }
    }
    groups.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn sums_are_what_adding_up_the_records_gives(
        records in prop::collection::vec(small(), 1..120),
        cuts in (0..60_000_u64, 0..60_000_u64),
        batches in 1..5_usize,
    ) {
        let folder = folder();
        let (ledger, _) = open(&options(folder.path()));
        // Several batches, so that sums are added to.
        for (number, records) in records.chunks(records.len().div_ceil(batches)).enumerate() {
            let offset = number as u64 * 7;
            let moved: Vec<_> = records
                .iter()
                .map(|it| Small { ended: it.ended + offset, ..it.clone() })
                .collect();
            write(&ledger, &moved);
        }
        let reader = ledger.reader().unwrap();
        let all = attempts(&reader);
        let utc = TimeZone::UTC;
        let (from, to) = (NOON + cuts.0.min(cuts.1) * 60_000, NOON + cuts.0.max(cuts.1) * 60_000);
        let from = from / 60_000 * 60_000;
        let to = to / 60_000 * 60_000;
        let cut = Filter { from_ms: Some(from), to_ms: Some(to), ..Filter::default() };
        let inside = |it: &Attempt| (from..to).contains(&it.ended_ms);

        let whole = reader.usage(&Filter::default(), &[], &utc).unwrap();
        prop_assert_eq!(whole, add_up(&all, |_| Some((None, vec![]))));
        let by = [By::Key, By::Model];
        prop_assert_eq!(
            reader.usage(&cut, &by, &utc).unwrap(),
            add_up(&all, |it| inside(it).then(|| (None, vec![it.key.clone(), it.model.clone()])))
        );
        for (by, length) in [(By::Minute, 60_000), (By::Hour, 3_600_000), (By::Day, DAY)] {
            prop_assert_eq!(
                reader.usage(&cut, &[by, By::Team], &utc).unwrap(),
                add_up(&all, |it| {
                    let at = it.ended_ms / length * length;
                    inside(it).then(|| (Some(at), vec![it.team.clone()]))
                })
            );
        }
        let red = Filter { model: Some("large".into()), ..Filter::only(By::Team, "red") };
        prop_assert_eq!(
            reader.usage(&red, &[By::Key], &utc).unwrap(),
            add_up(&all, |it| {
                let wanted = it.team == "red" && it.model == "large";
                wanted.then(|| (None, vec![it.key.clone()]))
            })
        );
        // A zone whose days begin at half past an hour, and where a clock was changed.
        for zone in ["Asia/Kolkata", "America/New_York", "Asia/Shanghai"] {
            let zone = TimeZone::get(zone).unwrap();
            let midnight = |ms: u64| {
                let time = Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
                let day = time.to_zoned(zone.clone()).start_of_day().unwrap();
                u64::try_from(day.timestamp().as_millisecond()).unwrap()
            };
            prop_assert_eq!(
                reader.usage(&Filter::default(), &[By::Day], &zone).unwrap(),
                add_up(&all, |it| Some((Some(midnight(it.ended_ms)), vec![])))
            );
        }
        // What a budget has spent, however finely it is asked for.
        for (by, name) in [(By::Key, "k2"), (By::Team, "blue"), (By::Model, "small")] {
            for currency in CURRENCIES {
                let mut expected = 0;
                for it in all.iter().filter(|it| inside(it)) {
                    let is_it = match by {
                        By::Key => it.key == name,
                        By::Team => it.team == name,
                        _ => it.model == name,
                    };
                    let cost = it.cost.as_ref().filter(|cost| is_it && cost.currency == currency);
                    expected += cost.map_or(0, |cost| cost.nanos);
                }
                for step in [Step::Minute, Step::Hour, Step::Day] {
                    let spent = reader.spent(by, name, from..to, step).unwrap();
                    prop_assert!(spent.iter().all(|it| (from..to).contains(&it.at_ms)));
                    let found: u64 = spent
                        .iter()
                        .filter(|it| it.cost.currency == currency)
                        .map(|it| it.cost.nanos)
                        .sum();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}

/// A budget of a month in Shanghai, of a day in Kolkata, of the last thirty days: each is restored
/// to the nano.
#[test]
fn what_was_spent_in_a_budgets_period_is_exact() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    let zone = TimeZone::get("Asia/Kolkata").unwrap();
    let start = date(2026, 11, 1).to_zoned(zone).unwrap().timestamp().as_millisecond();
    let start = u64::try_from(start).unwrap();
    assert_eq!(start % 3_600_000, 1_800_000, "midnight there is half past an hour here");
    for (number, at_ms) in
        [start - 1, start, start + 5 * DAY, start + 20 * DAY].into_iter().enumerate()
    {
        let id = id_at(at_ms - 100, number as u64);
        writer.opening(&Opening { id, at_ms: at_ms - 100, ..opening(0) }).unwrap();
        let nanos = 10_u64.pow(u32::try_from(number).unwrap());
        let bill = Bill::Charge(Amount { nanos, currency: "USD" });
        writer.closing(&Closing { id, at_ms, bill, ..closing(0) }).unwrap();
    }
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    let spent = |from, to| -> u64 {
        let spent = reader.spent(By::User, "ann", from..to, Step::Day).unwrap();
        spent.iter().map(|it| it.cost.nanos).sum()
    };
    assert_eq!(spent(start, u64::MAX), 1110);
    assert_eq!(spent(0, u64::MAX), 1111);
    assert_eq!(spent(start, start + DAY), 10);
    assert_eq!(spent(start - 60_000, start + DAY), 11);
    assert_eq!(spent(start + DAY, start + 20 * DAY), 100);
    let fine = reader.spent(By::User, "ann", start..start + DAY, Step::Minute).unwrap();
    assert_eq!((fine[0].at_ms, &fine[0].cost), (start, &usd(10)));
    assert_eq!(reader.spent(By::User, "nobody", 0..u64::MAX, Step::Day).unwrap(), []);
}

#[test]
fn a_provider_that_reports_absurd_counts_does_not_break_sums() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for number in 0..50 {
        writer.opening(&opening(number)).unwrap();
        let tokens = Tokens { input: u64::MAX, output: u64::MAX - 1, ..Tokens::default() };
        let bill = Bill::Charge(Amount { nanos: u64::MAX, currency: "USD" });
        writer.closing(&Closing { tokens, bill, total_us: u64::MAX, ..closing(number) }).unwrap();
    }
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    let usage = reader.usage(&Filter::default(), &[By::Key], &TimeZone::UTC).unwrap();
    assert_eq!(usage[0].tokens.input, 50 << 40);
    assert_eq!(usage[0].costs, [usd(50 << 50)]);
}
