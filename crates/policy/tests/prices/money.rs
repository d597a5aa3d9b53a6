//! Amounts as text, and exchange.

use policy::money::{Currency, Decimal, Exchange, Money};
use proptest::prelude::*;

fn money(nanos: u64, currency: Currency) -> Money {
    Money { nanos, currency }
}

fn exchange(pair: &str, rate: &str) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.set(pair, rate.parse().unwrap()).unwrap();
    exchange
}

fn any_currency() -> impl Strategy<Value = Currency> {
    prop_oneof![Just(Currency::Usd), Just(Currency::Cny)]
}

#[test]
fn amounts_are_read_as_people_write_them() {
    use Currency::{Cny, Usd};
    for (text, nanos, currency) in [
        ("¥50", 50_000_000_000, Cny),
        ("￥50", 50_000_000_000, Cny),
        ("$1.5", 1_500_000_000, Usd),
        ("$ .5", 500_000_000, Usd),
        ("50 CNY", 50_000_000_000, Cny),
        ("1.00 USD", 1_000_000_000, Usd),
        ("usd 0.000000001", 1, Usd),
        (" 7¥ ", 7_000_000_000, Cny),
        ("$18446744073.709551615", u64::MAX, Usd),
        ("$0.1000000000000", 100_000_000, Usd),
    ] {
        assert_eq!(text.parse(), Ok(money(nanos, currency)), "{text}");
    }
}

#[test]
fn what_is_no_amount_is_refused_in_a_sentence() {
    for text in [
        "",
        "50",
        "$",
        "CNY",
        "$-1",
        "-$1",
        "$1,000",
        "1 EUR",
        "$1e3",
        "$1.2.3",
        "$$1",
        "$1 USD",
        "$.",
        "$0.0000000001",
        "$18446744073.709551616",
        "$99999999999999999999999",
        "$１",
        "1 2 CNY",
    ] {
        let fault = text.parse::<Money>().expect_err(text);
        assert!(fault.contains(char::is_whitespace), "{text}: {fault}");
    }
}

#[test]
fn amounts_are_written_without_needless_digits() {
    for (nanos, text) in [
        (0, "$0"),
        (1, "$0.000000001"),
        (1_500_000, "$0.0015"),
        (50_000_000_000, "$50"),
        (1_000_000_010, "$1.00000001"),
        (u64::MAX, "$18446744073.709551615"),
    ] {
        assert_eq!(money(nanos, Currency::Usd).to_string(), text);
    }
}

#[test]
fn numbers_of_a_file_are_read_exactly() {
    for (json, text) in
        [("0.1", "0.1"), ("7", "7"), ("\"0.8\"", "0.8"), ("1e-3", "0.001"), ("2.5", "2.5")]
    {
        assert_eq!(serde_json::from_str::<Decimal>(json).unwrap().to_string(), text);
    }
    for json in ["-1", "-0.5", "\"x\"", "null", "1e300", "1e-10"] {
        assert!(serde_json::from_str::<Decimal>(json).is_err(), "{json}");
    }
    let yaml: Vec<Decimal> = serde_saphyr::from_str("[0.8, \"0.8\", 7.12, 12]").unwrap();
    assert_eq!(
        yaml.iter().map(Decimal::to_string).collect::<Vec<_>>(),
        ["0.8", "0.8", "7.12", "12"]
    );
}

#[test]
fn a_rate_serves_both_directions_and_there_is_none_built_in() {
    let one_dollar = money(1_000_000_000, Currency::Usd);
    assert_eq!(Exchange::default().convert(one_dollar, Currency::Cny), None);
    assert_eq!(Exchange::default().convert(one_dollar, Currency::Usd), Some(one_dollar));
    let exchange = exchange("USD/CNY", "7.12");
    let yuan = money(7_120_000_000, Currency::Cny);
    assert_eq!(exchange.convert(one_dollar, Currency::Cny), Some(yuan));
    assert_eq!(exchange.convert(yuan, Currency::Usd), Some(one_dollar));
}

#[test]
fn a_pair_is_two_currencies_with_one_rate() {
    let mut exchange = exchange("USD/CNY", "7.12");
    let rate: Decimal = "0.14".parse().unwrap();
    for pair in ["USD/CNY", "CNY/USD", "USD/USD", "USD", "USD/EUR", "/"] {
        assert!(exchange.set(pair, rate).is_err(), "{pair}");
    }
    assert!(Exchange::default().set("USD/CNY", Decimal::default()).is_err());
    assert!(serde_json::from_str::<Exchange>(r#"{"USD/CNY": 0}"#).is_err());
    assert!(serde_json::from_str::<Exchange>(r#"{"USD/CNY": 7.12, "CNY/USD": 0.14}"#).is_err());
}

proptest! {
    #[test]
    fn an_amount_survives_being_written_and_read(nanos: u64, currency in any_currency()) {
        let amount = money(nanos, currency);
        prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        let coded = amount.to_string().replace(currency.symbol(), "") + " " + currency.code();
        prop_assert_eq!(coded.parse(), Ok(amount));
        let json = serde_json::to_string(&amount).unwrap();
        prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), amount);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text: String) {
        let _ = text.parse::<Money>();
        let _ = text.parse::<Decimal>();
    }

    /// Up, and by less than one billionth: held against whole-number arithmetic.
    #[test]
    fn exchange_rounds_up_and_stays_at_the_largest_amount(
        nanos in prop_oneof![0..1_u64 << 34, any::<u64>()],
        rate in prop_oneof![1..1_u64 << 34, 1_u64..],
    ) {
        let mut exchange = Exchange::default();
        exchange.set("USD/CNY", Decimal { nanos: rate }).unwrap();
        let got = exchange.convert(money(nanos, Currency::Usd), Currency::Cny).unwrap().nanos;
        let (exact, unit) = (u128::from(nanos) * u128::from(rate), 1_000_000_000_u128);
        let expected = exact / unit + u128::from(exact % unit > 0);
        prop_assert_eq!(u128::from(got), expected.min(u128::from(u64::MAX)));
        let back = exchange.convert(money(nanos, Currency::Cny), Currency::Usd).unwrap().nanos;
        let exact = u128::from(nanos) * unit;
        let expected = exact / u128::from(rate) + u128::from(exact % u128::from(rate) > 0);
        prop_assert_eq!(u128::from(back), expected.min(u128::from(u64::MAX)));
    }

    #[test]
    fn there_and_back_never_loses(nanos in 0_u64..1 << 50, rate in 1_000_000_u64..1_000_000_000_000) {
        let mut exchange = Exchange::default();
        exchange.set("USD/CNY", Decimal { nanos: rate }).unwrap();
        let there = exchange.convert(money(nanos, Currency::Usd), Currency::Cny).unwrap();
        let back = exchange.convert(there, Currency::Usd).unwrap();
        prop_assert!(back.nanos >= nanos);
    }
}
