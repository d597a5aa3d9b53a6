//! LiteLLM's table: prices for one token, in dollars.

use policy::money::Decimal;
use policy::price::{Day, OffPeakConfig, PriceConfig, TierConfig, WindowConfig};
use serde_json::Value;

use super::{Origin, Row, Rows, add as add_row, amount, count, positive, tidied};

const NAME: &str = "LiteLLM 1.109.1";
const AS_OF: &str = "2026-11";
const PAGE: &str =
    "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json";

/// Profile, the name of its provider in the table, and what stands before its models.
const PROVIDERS: &[(&str, &str, &str)] = &[
    ("ark", "volcengine", "volcengine/"),
    ("ark", "volcengine", ""),
    ("azure", "azure", "azure/"),
    ("azure", "azure_text", "azure/"),
    ("cerebras", "cerebras", "cerebras/"),
    ("cohere", "cohere", "cohere/"),
    ("cohere", "cohere", ""),
    ("cohere", "cohere_chat", ""),
    ("deepinfra", "deepinfra", "deepinfra/"),
    ("deepseek", "deepseek", "deepseek/"),
    ("fireworks", "fireworks_ai", "fireworks_ai/"),
    ("fireworks", "fireworks_ai-embedding-models", "fireworks_ai/"),
    ("gemini", "gemini", "gemini/"),
    ("glm", "bigmodel", "bigmodel/"),
    ("groq", "groq", "groq/"),
    ("mimo", "xiaomi_mimo", "xiaomi_mimo/"),
    ("minimax-intl", "minimax", "minimax/"),
    ("mistral", "mistral", "mistral/"),
    ("moonshot-intl", "moonshot", "moonshot/"),
    ("nebius", "nebius", "nebius/"),
    ("novita", "novita", "novita/"),
    ("openai", "openai", ""),
    ("openai", "text-completion-openai", ""),
    ("perplexity", "perplexity", "perplexity/"),
    ("qwen-intl", "dashscope", "dashscope/"),
    ("qwen-intl", "qwen_ai_platform", "qwen_ai_platform/"),
    ("sambanova", "sambanova", "sambanova/"),
    ("together", "together_ai", "together_ai/"),
    ("tokenhub-intl", "tencent", "tencent/"),
    ("xai", "xai", "xai/"),
    ("zai", "zai", "zai/"),
];

/// Only what is billed by tokens or requests, and not for instance by seconds.
const MODES: &[&str] = &["chat", "completion", "responses", "embedding", "rerank", "moderation"];

pub(super) fn add(table: &Value, rows: &mut Rows) {
    for (profile, provider, prefix) in PROVIDERS {
        for (key, entry) in table.as_object().into_iter().flatten() {
            let Some(model) = key.strip_prefix(prefix).filter(|model| !model.is_empty()) else {
                continue;
            };
            // Without a prefix, a slash marks a size or a region and a colon a fine-tuned model.
            let odd = prefix.is_empty() && model.contains(['/', ':']);
            let mode = entry["mode"].as_str().unwrap_or_default();
            if odd || entry["litellm_provider"] != *provider || !MODES.contains(&mode) {
                continue;
            }
            if let Some(price) = price(entry, mode, *profile == "perplexity") {
                let page = entry["source"].as_str().filter(|url| url.starts_with("http"));
                let page = page.unwrap_or(PAGE).trim().to_owned();
                let origin = Origin { as_of: AS_OF.to_owned(), table: NAME.to_owned(), page };
                add_row(rows, format!("{profile}/{model}"), Row { origin, price });
            }
        }
    }
}

fn price(entry: &Value, mode: &str, search: bool) -> Option<PriceConfig> {
    let rate = |name: &str| amount(&entry[name], 6);
    let tiers = tiers(entry);
    let outputless = matches!(mode, "embedding" | "rerank" | "moderation");
    let first = tiers.first().filter(|tier| tier.above == 0);
    let input = rate("input_cost_per_token").or(first.map(|tier| tier.input));
    let output = rate("output_cost_per_token").or(first.map(|tier| tier.output));
    let output = output.or_else(|| (outputless && input.is_some()).then(Decimal::default));
    // Each answer of Perplexity searches; what it costs depends on a field of the request, and the
    // dearest keeps a budget.
    let searches = entry["search_context_cost_per_query"].as_object().into_iter().flatten();
    let dearest = searches.filter_map(|(_, fee)| amount(fee, 0)).max();
    let query = amount(&entry["input_cost_per_query"], 0)
        .or(amount(&entry["input_cost_per_request"], 0))
        .filter(|_| input.is_none_or(|input| input.nanos == 0));
    let per_request = positive(query.or(dearest.filter(|_| search)));
    let both = input.is_some() && output.is_some();
    let unpriced = !both && per_request.is_none();
    let limits_known = count(&entry["max_output_tokens"]).is_some();
    if unpriced && !limits_known {
        return None;
    }
    Some(tidied(PriceConfig {
        input: input.filter(|_| both),
        output: output.filter(|_| both),
        cached_read: positive(
            rate("cache_read_input_token_cost").or(first.and_then(|tier| tier.cached_read)),
        )
        .filter(|_| both),
        cache_write: positive(
            rate("cache_creation_input_token_cost").or(first.and_then(|tier| tier.cache_write)),
        )
        .filter(|_| both),
        reasoning: positive(
            rate("output_cost_per_reasoning_token").or(first.and_then(|tier| tier.reasoning)),
        )
        .filter(|_| both),
        audio_input: positive(rate("input_cost_per_audio_token")).filter(|_| both),
        audio_output: positive(rate("output_cost_per_audio_token")).filter(|_| both),
        per_request,
        tiers: tiers.into_iter().filter(|tier| tier.above > 0 && both).collect(),
        off_peak: off_peak(&entry["off_peak_pricing"]),
        max_input: count(&entry["max_input_tokens"]),
        max_output: count(&entry["max_output_tokens"]),
        ..PriceConfig::default()
    }))
}

/// Tiers by the length of the input, in either of the two ways that the table writes them.
fn tiers(entry: &Value) -> Vec<TierConfig> {
    let listed = entry["tiered_pricing"].as_array().into_iter().flatten().filter_map(|tier| {
        let rate = |name: &str| amount(&tier[name], 6);
        Some(TierConfig {
            above: count(&tier["range"][0]).unwrap_or_default(),
            input: rate("input_cost_per_token")?,
            output: rate("output_cost_per_token")?,
            cached_read: positive(rate("cache_read_input_token_cost")),
            cache_write: positive(rate("cache_creation_input_token_cost")),
            reasoning: positive(rate("output_cost_per_reasoning_token")),
        })
    });
    let listed: Vec<TierConfig> = listed.collect();
    if !listed.is_empty() {
        return listed;
    }
    let above = |name: &String| {
        let thousands = name.strip_prefix("input_cost_per_token_above_")?;
        thousands.strip_suffix("k_tokens")?.parse::<u64>().ok()
    };
    let fields = entry.as_object().into_iter().flatten();
    let mut thresholds: Vec<u64> = fields.filter_map(|(name, _)| above(name)).collect();
    thresholds.sort_unstable();
    let tier = |thousands: &u64| {
        let rate = |name: &str| {
            let long = amount(&entry[format!("{name}_above_{thousands}k_tokens")], 6);
            long.or_else(|| amount(&entry[name], 6))
        };
        Some(TierConfig {
            above: thousands * 1000,
            input: rate("input_cost_per_token")?,
            output: rate("output_cost_per_token")?,
            cached_read: positive(rate("cache_read_input_token_cost")),
            cache_write: positive(rate("cache_creation_input_token_cost")),
            reasoning: None,
        })
    };
    thresholds.iter().filter_map(tier).collect()
}

/// Windows in UTC. A weekday may be that of another zone, which makes no difference as long as the
/// hours in which the two disagree are off-peak on every day; the rows there are hold to it.
fn off_peak(entry: &Value) -> Option<OffPeakConfig> {
    let mut windows = Vec::new();
    for window in entry["windows"].as_array()? {
        let days = window["weekdays"].as_array().into_iter().flatten();
        let day = |day: &Value| Day::ALL.get(usize::try_from(day.as_u64()?).ok()?.checked_sub(1)?);
        let days: Vec<Day> = days.filter_map(day).copied().collect();
        let hours = match &window["hours_utc"] {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.as_str()),
        };
        windows.extend(
            hours
                .into_iter()
                .map(|hours| WindowConfig { days: days.clone(), hours: hours.to_owned() }),
        );
    }
    let rate = |name: &str| amount(&entry[name], 6);
    Some(OffPeakConfig {
        windows,
        input: rate("input_cost_per_token")?,
        output: rate("output_cost_per_token")?,
        cached_read: positive(rate("cache_read_input_token_cost")),
        ..OffPeakConfig::default()
    })
}
