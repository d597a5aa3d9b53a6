//! Makes the table of prices (`crates/policy/data/prices.tsv`) from two public ones and our own
//! `prices.yaml`, which comes before both. The same input makes the same bytes.

mod litellm;
mod models_dev;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use policy::money::Decimal;
use policy::price::PriceConfig;
use serde::Deserialize;
use serde_json::Value;

use crate::root;

/// The prices by `profile/model`, and where each was read.
type Rows = BTreeMap<String, Row>;

struct Row {
    origin: Origin,
    price: PriceConfig,
}

/// Where a price was read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    as_of: String,
    /// Who passed it on; `-` if it was read on the page itself.
    table: String,
    page: String,
}

/// Prices that were read on one page on one day.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    page: String,
    as_of: String,
    /// Who passed it on, if it was not read on the page itself.
    via: Option<String>,
    prices: BTreeMap<String, PriceConfig>,
}

const USAGE: &str = "usage: cargo xtask prices --litellm FILE --models-dev FILE

  FILE  model_prices_and_context_window_backup.json of LiteLLM; api.json of models.dev";

/// Reads the tables named by the arguments and writes ours.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let named = |name: &str| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).ok_or_else(|| USAGE.to_owned())
    };
    let (litellm, models_dev) = (named("--litellm")?, named("--models-dev")?);
    let data = root().join("crates/policy/data");
    let mut rows = own(&read(&data.join("prices.yaml"))?)?;
    litellm::add(&json(Path::new(litellm))?, &mut rows);
    models_dev::add(&json(Path::new(models_dev))?, &mut rows);
    check(&rows)?;
    let (path, text) = (data.join("prices.tsv"), table(&rows)?);
    fs::write(&path, &text).map_err(|fault| format!("{}: {fault}", path.display()))?;
    println!("{} prices, {} KB, in {}", rows.len(), text.len() / 1000, path.display());
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|fault| format!("{}: {fault}", path.display()))
}

fn json(path: &Path) -> Result<Value, String> {
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|fault| format!("{}: {fault}", path.display()))
}

fn own(text: &str) -> Result<Rows, String> {
    let pages: Vec<Page> =
        serde_saphyr::from_str(text).map_err(|fault| format!("prices.yaml: {fault}"))?;
    let mut rows = Rows::new();
    for Page { page, as_of, via, prices } in pages {
        let table = via.unwrap_or_else(|| "-".to_owned());
        let origin = Origin { as_of, table, page };
        for (key, price) in prices {
            if rows.contains_key(&key) {
                return Err(format!("prices.yaml: {key} stands there twice"));
            }
            rows.insert(key, Row { origin: origin.clone(), price });
        }
    }
    Ok(rows)
}

/// Providers that bill nothing for what they host, and models of which a page says that they are
/// free. Elsewhere a 0 mostly means that a model is billed by something else than tokens (songs,
/// credits, instances), or was free for a while: it makes no price.
const FREE: &[&str] = &[
    "glm/glm-4.5-flash",
    "glm/glm-4.7-flash",
    "modelscope/",
    "nvidia/",
    "openai/omni-moderation-",
    "zai/glm-4.5-flash",
    "zai/glm-4.7-flash",
];

/// Adds a row that no earlier table has; from one that is there, only missing limits are taken.
fn add(rows: &mut Rows, key: String, mut row: Row) {
    let free = FREE.iter().any(|start| key.starts_with(start)) || key.ends_with("free");
    let nothing = |rate: Option<Decimal>| rate.is_none_or(|rate| rate.nanos == 0);
    let PriceConfig { input, output, per_request, .. } = row.price;
    if !free && [input, output, per_request].into_iter().all(nothing) {
        let PriceConfig { max_input, max_output, .. } = row.price;
        row.price = PriceConfig { max_input, max_output, ..PriceConfig::default() };
        if max_input.is_none() && max_output.is_none() {
            return;
        }
    }
    match rows.get_mut(&key) {
        None => drop(rows.insert(key, row)),
        Some(told) => {
            told.price.max_input = told.price.max_input.or(row.price.max_input);
            told.price.max_output = told.price.max_output.or(row.price.max_output);
        }
    }
}

/// What cannot be a price is a fault of the tables or of this code, and is said.
fn check(rows: &Rows) -> Result<(), String> {
    let profiles = providers::builtin().map_err(|fault| fault.to_string())?;
    for (key, Row { origin, price }) in rows {
        let profile = key.split_once('/').map_or("", |(profile, _)| profile);
        if !profiles.iter().any(|(id, _)| id == profile) {
            return Err(format!("{key}: there is no profile of that name"));
        }
        if key.contains(['\t', '\n']) || origin.page.contains(['\t', '\n']) {
            return Err(format!("{key}: it does not fit into a line"));
        }
        let limits_alone = price.input.is_none() && price.per_request.is_none();
        if !limits_alone {
            price.price("", "").map_err(|fault| format!("{key}: {fault}"))?;
        }
    }
    Ok(())
}

fn table(rows: &Rows) -> Result<String, String> {
    let mut numbers: BTreeMap<&Origin, usize> = rows.values().map(|row| (&row.origin, 0)).collect();
    let mut text = String::new();
    for (number, (Origin { as_of, table, page }, own)) in numbers.iter_mut().enumerate() {
        *own = number;
        let _ = writeln!(text, "{number}\t{as_of}\t{table}\t{page}");
    }
    text.push('\n');
    for (key, Row { origin, price }) in rows {
        let number = numbers.get(origin).copied().unwrap_or_default();
        let price = serde_json::to_string(price).map_err(|fault| fault.to_string())?;
        let _ = writeln!(text, "{key}\t{number}\t{price}");
    }
    Ok(text)
}

/// A number of a table, times ten to the `shift`, to the nearest billionth. Tables write floats:
/// the shortest decimal that means one is what was meant. None for what is no amount.
fn amount(value: &Value, shift: usize) -> Option<Decimal> {
    let text = value.as_f64().filter(|number| *number >= 0.0)?.to_string();
    let (whole, places) = text.split_once('.').unwrap_or((&text, ""));
    let digits = format!("{whole}{places:0<width$}", width = shift + 10);
    let cut = digits.get(..whole.len() + shift + 9)?;
    let round_up = digits.as_bytes().get(cut.len()).is_some_and(|digit| *digit >= b'5');
    let nanos = cut.parse::<u64>().ok()?.checked_add(u64::from(round_up))?;
    Some(Decimal { nanos })
}

/// A count of tokens; a table may write it as a float.
fn count(value: &Value) -> Option<u64> {
    let whole = value.as_u64().or_else(|| value.as_f64()?.to_string().parse().ok());
    whole.filter(|count| *count > 0)
}

/// Caches in which reading or writing is said to be free: the tables write 0 where a provider does
/// not bill the act itself, yet the tokens are input all the same.
fn positive(rate: Option<Decimal>) -> Option<Decimal> {
    rate.filter(|rate| rate.nanos > 0)
}

/// Takes away what only repeats a default.
fn tidied(mut price: PriceConfig) -> PriceConfig {
    for rate in [&mut price.cached_read, &mut price.cache_write, &mut price.audio_input] {
        *rate = rate.filter(|rate| Some(*rate) != price.input);
    }
    for rate in [&mut price.reasoning, &mut price.audio_output] {
        *rate = rate.filter(|rate| Some(*rate) != price.output);
    }
    price
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_of_a_table_become_what_was_meant() {
        for (value, shift, text) in [
            (json!(2.5e-7), 6, "0.25"),
            (json!(3e-9), 6, "0.003"),
            (json!(0.1), 0, "0.1"),
            (json!(5), 6, "5000000"),
            (json!(1.1428571428571428e-6), 6, "1.142857143"),
            (json!(0), 6, "0"),
        ] {
            assert_eq!(amount(&value, shift).unwrap().to_string(), text);
        }
        assert_eq!(amount(&json!(-1), 0), None);
        assert_eq!(amount(&json!("1"), 0), None);
    }
}
