//! Accounts: what is reserved, what is spent, and when it begins anew.

use std::time::Duration;

use jiff::tz::TimeZone;
use policy::budget::{Account, Budget, Exhausted, OnExhausted, Period, Standing};

use super::budget_periods::ms;

const DAY: u64 = 24 * HOUR;
const HOUR: u64 = 3_600_000;
/// Noon of a Wednesday.
const NOON: u64 = 19_752 * DAY + 12 * HOUR;
const MIDNIGHT: u64 = 19_753 * DAY;
const NONE: [u8; 0] = [];

pub(super) fn budget(nanos: u64, period: Period) -> Budget {
    let currency = policy::money::Currency::Cny;
    Budget {
        amount: policy::money::Money { nanos, currency },
        period,
        zone: TimeZone::UTC,
        on_exhausted: OnExhausted::Refuse,
        alerts: Vec::new(),
        webhook: None,
        unpriced: None,
        key_share: None,
    }
}

fn account(nanos: u64, period: Period) -> Account {
    Account::new(budget(nanos, period), NOON)
}

fn rolling(hours: u64) -> Period {
    Period::Rolling(Duration::from_millis(hours * HOUR))
}

fn spend(account: &Account, nanos: u64, now_ms: u64) -> Vec<u8> {
    account.reserve(nanos, now_ms).unwrap();
    account.settle(nanos, nanos, now_ms)
}

fn spent_and_reserved(account: &Account, now_ms: u64) -> (u64, u64) {
    let Standing { spent, reserved, .. } = account.standing(now_ms);
    (spent, reserved)
}

#[test]
fn a_request_reserves_and_settles() {
    let account = account(100, Period::Day);
    account.reserve(60, NOON).unwrap();
    assert_eq!(spent_and_reserved(&account, NOON), (0, 60));
    let refused = Exhausted { spent: 0, reserved: 60, limit: 100, resets_at_ms: None, key: None };
    assert_eq!(account.reserve(41, NOON), Err(refused), "60 stay reserved over any midnight");
    account.reserve(40, NOON).unwrap();
    assert_eq!(account.settle(60, 25, NOON), NONE);
    assert_eq!(account.settle(40, 0, NOON), NONE);
    let standing = account.standing(NOON);
    assert_eq!((standing.spent, standing.reserved, standing.limit), (25, 0, 100));
    assert_eq!((standing.period_start_ms, standing.resets_at_ms), (MIDNIGHT - DAY, Some(MIDNIGHT)));
    let resets_at_ms = Some(MIDNIGHT);
    let refused = Exhausted { spent: 25, reserved: 0, limit: 100, resets_at_ms, key: None };
    assert_eq!(account.reserve(76, NOON), Err(refused));
    account.reserve(75, NOON).unwrap();
}

#[test]
fn what_is_more_than_the_budget_never_fits() {
    for period in [Period::Day, Period::Total, rolling(5)] {
        let account = account(100, period);
        for nanos in [101, u64::MAX] {
            assert_eq!(account.reserve(nanos, NOON).unwrap_err().resets_at_ms, None);
        }
        account.reserve(100, NOON).unwrap();
    }
}

#[test]
fn a_provider_that_charges_more_is_recorded_as_it_is() {
    let account = account(100, Period::Total);
    account.reserve(10, NOON).unwrap();
    let _ = account.settle(10, 250, NOON);
    assert_eq!(spent_and_reserved(&account, NOON), (250, 0));
    assert!(account.reserve(1, NOON).is_err());
    assert!(account.reserve(0, NOON).is_ok(), "what is free goes on");
    let _ = account.settle(0, u64::MAX, NOON);
    assert_eq!(account.standing(NOON).spent, u64::MAX);
    let _ = account.settle(u64::MAX, 0, NOON);
    assert_eq!(account.standing(NOON).reserved, 0);
}

#[test]
fn only_alerting_refuses_nothing() {
    let alert = Budget { on_exhausted: OnExhausted::Alert, ..budget(100, Period::Day) };
    assert!(!alert.is_hard());
    let account = Account::new(alert, NOON);
    account.reserve(u64::MAX, NOON).unwrap();
    account.reserve(90, NOON).unwrap();
    let _ = account.settle(u64::MAX, 500, NOON);
    account.reserve(90, NOON).unwrap();
    let downgrade = OnExhausted::Downgrade("small".into());
    let account = Account::new(Budget { on_exhausted: downgrade, ..budget(9, Period::Day) }, NOON);
    assert!(account.budget().is_hard() && account.reserve(10, NOON).is_err());
}

#[test]
fn a_request_is_spent_in_the_period_in_which_it_ends() {
    let account = account(100, Period::Day);
    spend(&account, 70, NOON);
    account.reserve(30, MIDNIGHT - 1).unwrap();
    assert_eq!(spent_and_reserved(&account, MIDNIGHT), (0, 30));
    assert!(account.reserve(71, MIDNIGHT).is_err());
    let _ = account.settle(30, 20, MIDNIGHT + 5);
    assert_eq!(spent_and_reserved(&account, MIDNIGHT + 5), (20, 0));
}

#[test]
fn a_clock_that_goes_back_opens_no_period() {
    let account = account(100, Period::Day);
    spend(&account, 100, MIDNIGHT - 1);
    spend(&account, 60, MIDNIGHT);
    // Back over midnight, and over it again: the same day.
    for now_ms in [MIDNIGHT - 5 * 60_000, 0, MIDNIGHT, MIDNIGHT + DAY - 1] {
        assert_eq!(account.standing(now_ms).spent, 60);
        assert!(account.reserve(41, now_ms).is_err());
    }
    let _ = account.settle(0, 5, MIDNIGHT - 1);
    assert_eq!(account.standing(0).spent, 65);
    assert_eq!(account.standing(MIDNIGHT + DAY).spent, 0);
}

#[test]
fn a_total_is_for_all_time() {
    let account = account(100, Period::Total);
    spend(&account, 100, NOON);
    let refused = account.reserve(1, NOON + 9_999 * DAY).unwrap_err();
    assert_eq!((refused.spent, refused.resets_at_ms), (100, None));
    assert_eq!(account.standing(u64::MAX).spent, 100);
}

#[test]
fn a_rolling_period_looks_back_from_any_instant() {
    let account = account(100, rolling(119));
    spend(&account, 60, NOON);
    spend(&account, 40, NOON + 50 * HOUR);
    let refused = account.reserve(50, NOON + 51 * HOUR).unwrap_err();
    // Steps are an hour: noon's is wholly out of the last 119 hours at the 120th.
    assert_eq!((refused.spent, refused.resets_at_ms), (100, Some(NOON + 120 * HOUR)));
    let refused = account.reserve(61, NOON + 51 * HOUR).unwrap_err();
    assert_eq!(refused.resets_at_ms, Some(NOON + 170 * HOUR), "the forty have to leave too");
    assert_eq!(account.standing(NOON + 120 * HOUR - 1).spent, 100);
    let standing = account.standing(NOON + 120 * HOUR);
    assert_eq!((standing.spent, standing.period_start_ms), (40, NOON + HOUR));
    assert_eq!(standing.resets_at_ms, Some(NOON + 170 * HOUR));
    account.reserve(60, NOON + 120 * HOUR).unwrap();
    let _ = account.settle(60, 0, NOON + 120 * HOUR);
    let standing = account.standing(NOON + 170 * HOUR);
    assert_eq!((standing.spent, standing.resets_at_ms), (0, None));
    spend(&account, 7, NOON);
    assert_eq!(account.standing(0).spent, 7, "a clock that goes back spends now");
    assert_eq!(account.standing(u64::MAX).spent, 0);
}

#[test]
fn each_alert_is_told_once_a_period() {
    let account =
        Account::new(Budget { alerts: vec![50, 80, 100], ..budget(100, Period::Day) }, NOON);
    assert_eq!(spend(&account, 49, NOON), NONE);
    assert_eq!(spend(&account, 1, NOON), [50]);
    assert_eq!(spend(&account, 1, NOON), NONE);
    assert_eq!(spend(&account, 49, NOON), [80, 100]);
    assert_eq!(account.settle(0, 30, NOON), NONE);
    assert_eq!(account.settle(0, 90, MIDNIGHT), [50, 80]);
    assert_eq!(account.settle(0, 0, MIDNIGHT), NONE);
    assert_eq!(account.settle(0, 1, MIDNIGHT - 1), NONE, "the clock went back");
    account.reserve(9, MIDNIGHT).unwrap();
    assert_eq!(account.settle(9, 0, MIDNIGHT), NONE, "what is only reserved is not spent");
}

#[test]
fn a_rolling_alert_is_told_once_in_its_length() {
    let budget =
        Budget { alerts: vec![50], on_exhausted: OnExhausted::Alert, ..budget(100, rolling(119)) };
    let account = Account::new(budget, NOON);
    let mut told = Vec::new();
    for hour in 0..500 {
        // About half all the time, sometimes more, sometimes less.
        let used = if hour % 7 == 0 { 3 } else { u64::from(hour % 60 == 0) * 8 };
        if !account.settle(0, used, NOON + hour * HOUR).is_empty() {
            told.push(hour);
        }
    }
    assert!(told.len() >= 2 && told.windows(2).all(|two| two[1] - two[0] >= 119), "{told:?}");
}

#[test]
fn the_ledger_restores_what_was_spent() {
    let alerts = Budget { alerts: vec![50, 80], ..budget(100, Period::Day) };
    let account = Account::new(alerts, NOON);
    let before = MIDNIGHT - DAY;
    account.restore([(NOON, 20), (before - 1, 900), (before, 30), (NOON + 1, 5), (0, 900)], NOON);
    assert_eq!(spent_and_reserved(&account, NOON), (55, 0));
    assert_eq!(spend(&account, 1, NOON), NONE, "half of it was told before the start");
    assert_eq!(spend(&account, 24, NOON), [80]);
}

#[test]
fn the_ledger_restores_a_rolling_period_and_a_total() {
    let of_all = [(NOON - 118 * HOUR, 20), (NOON - 125 * HOUR, 900), (NOON, 30), (NOON + DAY, 5)];
    let account = account(100, rolling(119));
    account.restore(of_all, NOON);
    assert_eq!(account.standing(NOON).spent, 55);
    assert_eq!(account.standing(NOON + 10 * HOUR).spent, 35);
    let account = Account::new(budget(100, Period::Total), 0);
    account.restore(of_all, NOON);
    assert_eq!(account.standing(NOON).spent, 955);
}

#[test]
fn an_account_made_before_the_time_is_known_is_restored_all_the_same() {
    for period in [Period::Day, rolling(119)] {
        let account = Account::new(budget(100, period), 0);
        account.restore([(NOON - 60_000, 40)], NOON);
        assert_eq!(account.standing(NOON).spent, 40);
        assert!(account.reserve(61, NOON).is_err());
    }
}

#[test]
fn a_start_with_a_clock_gone_back_stays_in_the_period_of_the_ledger() {
    let account = account(100, Period::Day);
    account.restore([(NOON, 90), (MIDNIGHT + HOUR, 70), (MIDNIGHT - 1, 90)], NOON);
    for now_ms in [NOON, MIDNIGHT, MIDNIGHT + DAY - 1] {
        assert_eq!(account.standing(now_ms).spent, 70);
    }
    // A clock that was far ahead once does not shut the account for years.
    let account = Account::new(budget(100, Period::Day), NOON);
    account.restore([(ms("2090-01-01T00:00:00Z"), 100)], NOON);
    assert!(account.reserve(1, MIDNIGHT).is_err());
    assert!(account.reserve(1, MIDNIGHT + DAY).is_ok());
}

#[test]
fn a_changed_budget_goes_on_with_what_is_spent_and_reserved() {
    let account = Account::new(Budget { alerts: vec![50], ..budget(100, Period::Day) }, NOON);
    assert_eq!(spend(&account, 50, NOON), [50]);
    account.reserve(30, NOON).unwrap();
    let more = Budget { alerts: vec![50], ..budget(200, Period::Day) };
    let changed = account.changed(more).unwrap();
    assert_eq!(spent_and_reserved(&changed, NOON), (50, 30));
    assert!(changed.reserve(121, NOON).is_err());
    changed.reserve(120, NOON).unwrap();
    // What runs settles where it was reserved, and counts in both.
    assert_eq!(account.settle(30, 10, NOON), NONE);
    assert_eq!(spent_and_reserved(&changed, NOON), (60, 120));
    assert_eq!(changed.settle(120, 40, NOON), [50], "half of the new amount");
    let less = changed.changed(budget(10, Period::Day)).unwrap();
    assert!(less.reserve(1, NOON).is_err());
    assert!(less.reserve(1, MIDNIGHT).is_ok());

    assert!(account.changed(budget(100, Period::Month)).is_none());
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    assert!(account.changed(Budget { zone, ..budget(100, Period::Day) }).is_none());
}
