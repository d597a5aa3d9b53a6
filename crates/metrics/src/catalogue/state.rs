//! How things stand: looked at when somebody asks.

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
    TARGETS Gauge "magpie_targets" []
        "Targets of all plans. More than are told one by one means that the rest is left out.",
        "全部计划的目标数。多于逐个列出的数目时，其余未列出。";
    RETRIES_LEFT Gauge "magpie_retries_left" ["model"]
        "Retries that the retry budget of a model has now.",
        "模型的重试预算当前剩余的重试次数。";
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
