//! What requests did: counted as they end.

use super::{Family, Kind, Section, Words, section};
use crate::histogram::Scale;

/// From 10 ms to 11 min: whole requests.
pub const WHOLE: Scale = Scale { first_ns: 10_000_000, buckets: 17 };
/// From 10 ms to 2 min 44 s: first tokens.
pub const BEGIN: Scale = Scale { first_ns: 10_000_000, buckets: 15 };
/// From 1 ms to 4 s: tokens one after the other.
pub const STEP: Scale = Scale { first_ns: 1_000_000, buckets: 13 };
/// From 10 µs to 160 ms: the time that Magpie takes for itself.
pub const OWN: Scale = Scale { first_ns: 10_000, buckets: 15 };

section! {
    /// Requests.
    REQUESTS_SECTION, "Requests", "请求";

    REQUESTS Counter "magpie_requests_total"
        ["model", "provider", "operation", "team", "status", "outcome"]
        "Requests that are over, by the class of their status and how they ended.",
        "已结束的请求，按状态码类别和结局区分。";
    REQUESTS_IN_FLIGHT Gauge "magpie_requests_in_flight" []
        "Requests under way, from their head to the last byte of their answer.",
        "进行中的请求：从收到请求头到回答的最后一个字节。";
    REQUEST_DURATION Histogram(WHOLE) "magpie_request_duration_seconds"
        ["model", "provider", "operation", "team"]
        "Time from a request to the end of its answer, of requests that were sent to a provider; with all their attempts.",
        "从收到请求到回答结束的时间，含全部尝试；只计发往服务商的请求。";
    FIRST_TOKEN Histogram(BEGIN) "magpie_time_to_first_token_seconds"
        ["model", "provider", "operation", "team"]
        "Time from a request to the first event of its stream that carries something.",
        "从收到请求到流中首个有内容事件的时间。";
    OUTPUT_TOKEN Histogram(STEP) "magpie_time_per_output_token_seconds"
        ["model", "provider", "operation", "team"]
        "Mean time between two output tokens of a stream that ended normally.",
        "正常结束的流中，相邻两个输出 token 之间的平均时间。";
    STREAMS Counter "magpie_streams_total"
        ["model", "provider", "operation", "team", "outcome"]
        "Streams that are over, by how they ended.",
        "已结束的流，按结局区分。";
    ERRORS Counter "magpie_errors_total"
        ["model", "provider", "operation", "team", "error", "blame"]
        "Requests that ended with an error, by its code and by who is to blame: caller, provider or magpie.",
        "以错误结束的请求，按错误代码和责任方区分：caller（调用者）、provider（服务商）或 magpie（鹊桥）。";
    OVERHEAD Histogram(OWN) "magpie_overhead_seconds" []
        "Time that Magpie took for itself before a provider was asked.",
        "询问服务商之前，鹊桥自身所用的时间。";
}

section! {
    /// Attempts.
    ATTEMPTS_SECTION, "Attempts", "尝试";

    ATTEMPTS Counter "magpie_attempts_total"
        ["model", "provider", "operation", "team", "cause"]
        "Attempts that are over, by why they failed; none if they did not.",
        "已结束的尝试，按失败原因区分；未失败为 none。";
    RETRIES Counter "magpie_retries_total" ["model", "provider", "operation", "team"]
        "Attempts beyond the first of their request, those made beside it included.",
        "请求首次尝试之外的各次尝试，包括与之并行的。";
    OVERTAKEN Counter "magpie_overtaken_attempts_total" ["model", "provider", "operation", "team"]
        "Attempts that were given up because another one of their request was faster.",
        "因同一请求的另一次尝试更快而放弃的尝试。";
    OVERTAKEN_COST Counter "magpie_overtaken_cost_total"
        ["model", "provider", "operation", "team", "currency"]
        "What these attempts cost, as far as it is known; it is part of the cost of all attempts.",
        "这些尝试已知的费用，已包含在全部尝试的费用之中。";
    FALLBACKS Counter "magpie_fallbacks_total" ["model", "provider", "operation", "team"]
        "Requests that another target answered than the one asked first.",
        "最终由另一目标（而非首个目标）回答的请求。";
}

section! {
    /// Tokens and money.
    TOKENS_SECTION, "Tokens and money", "token 与费用";

    TOKENS Counter "magpie_tokens_total"
        ["model", "provider", "operation", "team", "bucket"]
        "Tokens, each in one bucket only: input, cached_read, cache_write, output, reasoning.",
        "token 数，每个只计入一类：input、cached_read、cache_write、output、reasoning。";
    COST Counter "magpie_cost_total"
        ["model", "provider", "operation", "team", "currency"]
        "What attempts cost, in units of the currency.",
        "各次尝试的费用，以该货币的单位计。";
    METERED Counter "magpie_metered_attempts_total"
        ["model", "provider", "operation", "team", "provenance"]
        "Attempts by where their token counts come from: reported, estimated, none.",
        "尝试次数，按 token 数的来源区分：reported（已报告）、estimated（估算）、none（无）。";
    UNPRICED Counter "magpie_unpriced_attempts_total"
        ["model", "provider", "operation", "team"]
        "Attempts that used tokens whose price is not known.",
        "用了 token 但价格未知的尝试。";
}

section! {
    /// Limits and budgets.
    LIMITS_SECTION, "Limits and budgets", "限制与预算";

    REJECTIONS Counter "magpie_rejections_total" ["holder", "limit"]
        "Requests that a limit or a budget refused, by what holds it and its name.",
        "被限制或预算拒绝的请求，按持有者类别和限制名称区分。";
    LIMIT_USED Gauge "magpie_limit_used_ratio" ["holder", "name", "limit"]
        "How much of a limit is in use, from 0 to 1: of teams, organisations, models and providers.",
        "限制的已用比例，0 到 1：团队、组织、模型和服务商的。";
    BUDGET_USED Gauge "magpie_budget_used_ratio" ["holder", "name", "period"]
        "How much of a budget is spent or reserved, 1 being all of it: of teams, organisations, models and providers.",
        "预算中已花费和已预留的比例，1 为全部：团队、组织、模型和服务商的。";
    BUDGET_ALERTS Counter "magpie_budget_alerts_total" ["holder"]
        "Thresholds of budgets that were reached.",
        "达到的预算提醒阈值次数。";
}
