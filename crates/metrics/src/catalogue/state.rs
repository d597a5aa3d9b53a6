//! How things stand: looked at when somebody asks.

use super::requests::WHOLE;
use super::{Family, Kind, Section, Words, section};

section! {
    /// Targets.
    TARGETS_SECTION, "Targets", "目标";

    BREAKER Gauge "magpie_target_breaker_state" ["provider", "upstream_model"]
        "How the breaker of a target stands: 0 closed, 1 half-open, 2 open.",
        "目标熔断器的状态：0 闭合，1 半开，2 断开。";
    SHARE Gauge "magpie_target_share_ratio" ["provider", "upstream_model"]
        "The part of its share of requests that a target is given: 0 while ejected, less than 1 after its return.",
        "目标所得请求份额的比例：被摘除时为 0，恢复初期小于 1。";
    TARGET_IN_FLIGHT Gauge "magpie_target_in_flight" ["provider", "upstream_model"]
        "Attempts under way at a target.",
        "目标上进行中的尝试。";
    TARGET_FIRST_TOKEN Gauge "magpie_target_first_token_seconds" ["provider", "upstream_model"]
        "Mean time to the first token, as balances see it; absent before the first.",
        "均衡所依据的平均首个 token 时间；尚无数据时不出现。";
    CREDENTIALS Gauge "magpie_target_credentials" ["provider", "upstream_model"]
        "Credentials that a target can be asked with.",
        "目标可用的凭据数。";
    BENCHED Gauge "magpie_target_credentials_benched" ["provider", "upstream_model"]
        "Those of them that are left alone for now.",
        "其中暂时停用（在冷却席上）的凭据数。";
    WINDOW Gauge "magpie_credential_window" ["provider", "upstream_model", "credential"]
        "Attempts that a credential may have under way at a target, where concurrency is adaptive; by its number, from 1.",
        "自适应并发时，一个凭据在一个目标上允许同时进行的尝试数；凭据按编号，从 1 起。";
    WINDOW_IN_FLIGHT Gauge "magpie_credential_in_flight" ["provider", "upstream_model", "credential"]
        "Attempts that it has under way there.",
        "该凭据在该目标上进行中的尝试。";
    PROVIDER_UP Gauge "magpie_provider_up" ["provider"]
        "1 if the last health check of a provider found it there and able to answer.",
        "最近一次健康检查中服务商可达且能应答时为 1。";
    CHECKS Counter "magpie_health_checks_total" ["provider", "result"]
        "Health checks of a provider by what they found: ok, refused, failing, no_answer, unreached.",
        "服务商的健康检查次数，按结果区分：ok（正常）、refused（凭据被拒）、failing（服务商报错）、no_answer（无应答）、unreached（无法连接）。";
    CHECK_DURATION Gauge "magpie_health_check_duration_seconds" ["provider"]
        "How long the last health check of a provider took.",
        "服务商最近一次健康检查的耗时。";
    TARGETS Gauge "magpie_targets" []
        "Targets of all plans. More than are told one by one means that the rest is left out.",
        "全部计划的目标数。多于逐个列出的数目时，其余未列出。";
    RETRIES_LEFT Gauge "magpie_retries_left" ["model"]
        "Retries that the retry budget of a model has now.",
        "模型的重试预算当前剩余的重试次数。";
}

section! {
    /// What the options of models come to.
    OPTIONS_SECTION, "Options of models", "模型的选项";

    WAITING Gauge "magpie_queue_waiting_requests" ["model"]
        "Requests that wait for room at the targets of their model.",
        "正在等待其模型的目标空出位置的请求。";
    QUEUED Counter "magpie_queue_requests_total" ["model", "end"]
        "Requests that the queue of their model was for, by how that ended: admitted, refused after waiting, left by their client while they waited, full if too many waited.",
        "进入模型队列的请求，按结果区分：admitted（等到位置）、refused（等待后被拒）、left（等待时客户端离开）、full（等待者过多，未能入队）。";
    QUEUE_WAIT Histogram(WHOLE) "magpie_queue_wait_seconds"
        ["model", "provider", "operation", "team"]
        "Time that requests waited in the queue of their model, of those that were admitted or refused.",
        "请求在其模型队列中等待的时间，只计等到位置的和被拒的。";
    BESIDE Counter "magpie_side_by_side_attempts_total" ["model"]
        "Attempts of a race or a hedge that were begun beside another one of their request.",
        "竞速或对冲中，与同一请求的另一次尝试并行开始的尝试。";
    BESIDE_WON Counter "magpie_side_by_side_won_total" ["model"]
        "Those of them whose answer was the request's.",
        "其中被采用为回答的尝试。";
    WITHHELD Counter "magpie_hedges_withheld_total" ["model"]
        "Hedges that were due and not made, because the share of the requests for them was used up.",
        "到时未发的对冲：允许对冲的请求比例已用完。";
    SHARED Counter "magpie_shared_answers_total" ["model", "how"]
        "Requests that had the answer of another one: joined an identical one under way, or replayed by their idempotency key.",
        "得到另一请求的回答的请求：joined（合并到进行中的相同请求）或 replayed（按幂等键重放）。";
    RESUMES Counter "magpie_broken_answers_total" ["model", "end"]
        "Answers that broke off in the middle, of models that want them gone on with: resumed, or given_up if no other attempt could go on.",
        "启用接续的模型中途断开的回答：resumed（已接续）或 given_up（没有尝试能接续）。";
    MIRRORED Counter "magpie_mirrored_requests_total" ["model", "shadow", "end"]
        "Requests drawn for a shadow: compared, incomplete if one of the two answers is not whole, dropped for want of room, skipped because the shadow was not to be asked.",
        "抽中镜像的请求：compared（已比较）、incomplete（两个回答中有不完整的）、dropped（并发过多而放弃）、skipped（影子不可用而跳过）。";
    MIRROR_ERRORS Counter "magpie_mirror_errors_total" ["model", "shadow", "side"]
        "Answers to mirrored requests that failed, of the model itself (main) and of its shadow.",
        "镜像请求中失败的回答：模型本身的（main）和影子的（shadow）。";
    SIMILARITY Gauge "magpie_mirror_similarity_ratio" ["model", "shadow"]
        "Mean similarity of the texts that were compared, from 0 to 1, since the start.",
        "启动以来所比较文本的平均相似度，0 到 1。";
}

section! {
    /// Queues.
    QUEUES_SECTION, "Queues and the ledger", "队列与账本";

    LOG_WAITING Gauge "magpie_log_queue_records" []
        "Records of the request log that wait to be written.",
        "等待写出的请求日志记录。";
    LOG_DROPPED Counter "magpie_log_dropped_records_total" []
        "Records of the request log that were dropped, because its reader is too slow.",
        "因读取方过慢而丢弃的请求日志记录。";
    ALERTS_WAITING Gauge "magpie_alert_queue_alerts" []
        "Alerts of budgets that wait to be posted or are being posted.",
        "等待投递或正在投递的预算提醒。";
    ALERTS_DROPPED Counter "magpie_alerts_dropped_total" []
        "Alerts that were not posted: too many waited, or the webhook did not take them.",
        "未能投递的提醒：等待过多，或 webhook 未接收。";
    UNSHIPPED Gauge "magpie_ledger_unshipped_bytes" []
        "Bytes of the journal that are not in the database yet.",
        "尚未写入数据库的流水字节数。";
    SHIP_LAG Gauge "magpie_ledger_ship_lag_seconds" []
        "Time since the journal was last brought to the database whole.",
        "距流水上次全部写入数据库的时间。";
    SHIPPED Counter "magpie_ledger_shipped_attempts_total" []
        "Attempts brought to the database.",
        "已写入数据库的尝试。";
    KEPT Gauge "magpie_ledger_kept_bytes" []
        "Bytes that could not be written to the journal yet and are kept in memory.",
        "暂时无法写入流水、留在内存中的字节数。";
    DROPPED Counter "magpie_ledger_dropped_records_total" []
        "Records that could be neither written nor kept.",
        "既无法写入也无法保留的记录。";
    DAMAGED Counter "magpie_ledger_damaged_bytes_total" []
        "Bytes of the journal that could not be read.",
        "流水中无法读取的字节数。";
    WRITABLE Gauge "magpie_ledger_writable" []
        "1 while every worker can write its journal; 0 means that requests are refused.",
        "每个工作线程都能写流水时为 1；为 0 时请求会被拒绝。";
}

section! {
    /// Connections.
    CONNECTIONS_SECTION, "Connections", "连接";

    CONNECTIONS Gauge "magpie_connections" []
        "Connections of clients.",
        "客户端连接数。";
    MOST_CONNECTIONS Gauge "magpie_connections_limit" []
        "The most connections of clients that are taken.",
        "客户端连接数的上限。";
    CONNECTIONS_REFUSED Counter "magpie_connections_refused_total" []
        "Connections of clients that were turned away, because there were too many.",
        "因连接过多而拒绝的客户端连接。";
    UPSTREAM_CONNECTIONS Gauge "magpie_upstream_connections" ["state"]
        "Connections to providers, idle or active.",
        "到服务商的连接，idle（空闲）或 active（使用中）。";
    UPSTREAM_OPENED Counter "magpie_upstream_connections_opened_total" []
        "Connections to providers that were made.",
        "已建立的到服务商的连接。";
}
