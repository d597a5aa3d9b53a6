//! The table of models.dev: prices for a million tokens, in dollars.

use policy::money::Decimal;
use policy::price::{PriceConfig, TierConfig};
use serde_json::Value;

use super::{Origin, Row, Rows, add as add_row, amount, count, positive, tidied};

const NAME: &str = "models.dev";
const AS_OF: &str = "2026-07";

/// Profile, and the name of its provider in the table.
const PROVIDERS: &[(&str, &str)] = &[
    ("azure", "azure"),
    ("cerebras", "cerebras"),
    ("cohere", "cohere"),
    ("deepinfra", "deepinfra"),
    ("deepseek", "deepseek"),
    ("fireworks", "fireworks-ai"),
    ("gemini", "google"),
    ("glm", "zhipuai"),
    ("groq", "groq"),
    ("huggingface", "huggingface"),
    ("mimo", "xiaomi"),
    ("minimax", "minimax-cn"),
    ("minimax-intl", "minimax"),
    ("mistral", "mistral"),
    ("modelscope", "modelscope"),
    ("moonshot", "moonshotai-cn"),
    ("moonshot-intl", "moonshotai"),
    ("nebius", "nebius"),
    ("novita", "novita-ai"),
    ("nvidia", "nvidia"),
    ("openai", "openai"),
    ("openrouter", "openrouter"),
    ("perplexity", "perplexity"),
    ("qwen", "alibaba-cn"),
    ("qwen-intl", "alibaba"),
    ("siliconflow", "siliconflow-cn"),
    ("siliconflow-intl", "siliconflow"),
    ("stepfun", "stepfun"),
    ("stepfun-intl", "stepfun-ai"),
    ("together", "togetherai"),
    ("tokenhub", "tencent-tokenhub"),
    ("xai", "xai"),
    ("zai", "zai"),
];

pub(super) fn add(table: &Value, rows: &mut Rows) {
    for (profile, provider) in PROVIDERS {
        let provider = &table[provider];
        let page = provider["provider"]["doc"].as_str().unwrap_or("https://models.dev").to_owned();
        let origin = Origin { as_of: AS_OF.to_owned(), table: NAME.to_owned(), page };
        for (model, entry) in provider["models"].as_object().into_iter().flatten() {
            if let Some(price) = price(entry) {
                let row = Row { origin: origin.clone(), price };
                add_row(rows, format!("{profile}/{model}"), row);
            }
        }
    }
}

fn price(entry: &Value) -> Option<PriceConfig> {
    let (cost, limit) = (&entry["cost"], &entry["limit"]);
    let rate = |name: &str| amount(&cost[name], 0);
    let both = rate("input").zip(rate("output"));
    let (input, output) = both.unzip();
    let max_input = count(&limit["input"]).or_else(|| count(&limit["context"]));
    let max_output = count(&limit["output"]);
    if input.is_none() && max_input.is_none() && max_output.is_none() {
        return None;
    }
    let priced = |rate: Option<Decimal>| positive(rate).filter(|_| both.is_some());
    Some(tidied(PriceConfig {
        input,
        output,
        // Some rows of the table spell it otherwise.
        cached_read: priced(rate("cache_read").or(rate("cached_input")).or(rate("cache_input"))),
        cache_write: priced(rate("cache_write").or(rate("cached_write"))),
        reasoning: priced(rate("reasoning")),
        audio_input: priced(rate("input_audio")),
        audio_output: priced(rate("output_audio")),
        per_request: positive(rate("request")),
        tiers: tiers(&cost["tiers"]),
        max_input,
        max_output,
        ..PriceConfig::default()
    }))
}

fn tiers(tiers: &Value) -> Vec<TierConfig> {
    let tiers = tiers.as_array().into_iter().flatten().filter_map(|tier| {
        let rate = |name: &str| amount(&tier[name], 0);
        Some(TierConfig {
            above: count(&tier["tier"]["size"])?,
            input: rate("input")?,
            output: rate("output")?,
            cached_read: positive(rate("cache_read")),
            cache_write: positive(rate("cache_write")),
            reasoning: None,
        })
    });
    let mut tiers: Vec<TierConfig> = tiers.collect();
    tiers.sort_by_key(|tier| tier.above);
    tiers
}
