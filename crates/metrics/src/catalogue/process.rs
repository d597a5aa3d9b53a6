//! The process: what it is, and what it uses.

use super::{Family, Kind, Section, Words, section};

section! {
    /// Magpie itself.
    MAGPIE_SECTION, "Magpie itself", "鹊桥自身";

    BUILD Gauge "magpie_build_info" ["version"]
        "Always 1; its label says which version runs.",
        "恒为 1；标签是运行的版本。";
    RELOADS Counter "magpie_config_reloads_total" ["result"]
        "Times the configuration was read again: applied, or refused for its problems.",
        "重新读取配置的次数：applied（已生效）或 refused（因有问题被拒）。";
    RELOAD_SUCCEEDED Gauge "magpie_config_last_reload_successful" []
        "1 if the configuration that was read last is the one that runs.",
        "最近读取的配置即运行中的配置时为 1。";
    RELOAD_TIME Gauge "magpie_config_last_reload_success_timestamp_seconds" []
        "When the configuration that runs was read, in Unix time.",
        "运行中的配置的读取时间（Unix 时间）。";
    WORKER_BUSY Counter "magpie_worker_busy_seconds_total" ["worker"]
        "Time that a worker was not idle. At one second per second its core is used up.",
        "工作线程的忙碌时间。每秒增长一秒即该核心已用满。";
    WORKER_TASKS Gauge "magpie_worker_tasks" ["worker"]
        "Tasks of a worker: its connections, and what they wait for.",
        "工作线程的任务数：连接及其等待的事项。";
    COMBINATIONS Gauge "magpie_metrics_combinations" []
        "Combinations of model, provider, operation and team that are counted apart.",
        "分别计数的模型、服务商、操作、团队组合数。";
    MOST_COMBINATIONS Gauge "magpie_metrics_combinations_limit" []
        "The most of them; what is new beyond counts for the model and the team other.",
        "其上限；超出后新的组合计入 other。";
}

section! {
    /// The process.
    PROCESS_SECTION, "The process", "进程";

    CPU Counter "process_cpu_seconds_total" []
        "Processor time, of user and system.",
        "用户态和内核态的处理器时间。";
    RESIDENT Gauge "process_resident_memory_bytes" []
        "Resident memory.",
        "常驻内存。";
    VIRTUAL Gauge "process_virtual_memory_bytes" []
        "Virtual memory.",
        "虚拟内存。";
    OPEN_FILES Gauge "process_open_fds" []
        "Open file descriptors.",
        "打开的文件描述符。";
    MOST_FILES Gauge "process_max_fds" []
        "The most file descriptors that the process may open.",
        "文件描述符上限。";
    THREADS Gauge "process_threads" []
        "Threads.",
        "线程数。";
    STARTED Gauge "process_start_time_seconds" []
        "When the process started, in Unix time.",
        "进程启动时间（Unix 时间）。";
}
