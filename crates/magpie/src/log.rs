//! What goes to standard error: one line per request, and what the owner should know.
//!
//! Workers put records into a bounded queue and go on; a thread of its own writes them, many at a
//! time. A reader of the log that does not keep up costs lines, which are counted, and never a
//! request its time.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, SystemTime};

use policy::config::LogFormat;
use policy::directory::Kind;
use relay::{Comparison, Half, Outcome, Provenance, Record};
use wire::splice::quoted;

/// Records that wait to be written: a second of a busy machine. A record is some 300 bytes.
const QUEUE: usize = 20_000;
/// How long records gather before they are written together.
const BATCH: Duration = Duration::from_millis(20);

/// Writes a line for the owner at once.
pub(crate) fn note(message: &str) {
    // If standard error is gone, there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "magpie: {message}");
}

/// The log of requests.
pub(crate) struct RequestLog {
    queue: Arc<Queue>,
    writer: JoinHandle<()>,
}

struct Queue {
    entries: Mutex<Vec<Entry>>,
    /// Since the log said so last.
    lost: AtomicU64,
    /// Since the start.
    dropped: AtomicU64,
    /// The writer has nothing to do and must be woken.
    asleep: AtomicBool,
    over: AtomicBool,
}

/// What becomes a line.
enum Entry {
    Record(Record),
    /// The two answers to a request that was mirrored; there are few of them.
    Comparison(Comparison),
}

impl RequestLog {
    /// Starts the writer.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub(crate) fn start(format: LogFormat) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            entries: Mutex::new(Vec::new()),
            lost: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let json = match format {
            LogFormat::Auto => !std::io::stderr().is_terminal(),
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let writing = Arc::clone(&queue);
        let writer = thread::Builder::new()
            .name(String::from("magpie-log"))
            .spawn(move || write_until_over(&writing, json))?;
        Ok(Self { queue, writer })
    }

    /// A way in, for a worker.
    pub(crate) fn recorder(&self) -> LogRecorder {
        LogRecorder { queue: Arc::clone(&self.queue), writer: self.writer.thread().clone() }
    }

    /// What says how much waits.
    pub(crate) fn backlog(&self) -> Backlog {
        Backlog(Arc::clone(&self.queue))
    }

    /// Writes what is left, and ends.
    pub(crate) fn finish(self) {
        self.queue.over.store(true, Ordering::Release);
        self.writer.thread().unpark();
        let _ = self.writer.join();
    }
}

/// Says how the log keeps up.
pub(crate) struct Backlog(Arc<Queue>);

impl Backlog {
    /// Records that wait to be written.
    pub(crate) fn waiting(&self) -> u64 {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Records that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// Puts records into the queue.
pub(crate) struct LogRecorder {
    queue: Arc<Queue>,
    writer: Thread,
}

impl LogRecorder {
    /// Leaves a record to be written. Never waits.
    pub(crate) fn record(&self, record: Box<Record>) {
        self.push(|| Entry::Record(*record));
    }

    /// The same for a comparison.
    pub(crate) fn compared(&self, comparison: Box<Comparison>) {
        self.push(|| Entry::Comparison(*comparison));
    }

    fn push(&self, entry: impl FnOnce() -> Entry) {
        let mut entries = self.queue.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= QUEUE {
            self.queue.lost.fetch_add(1, Ordering::Relaxed);
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        entries.push(entry());
        drop(entries);
        if self.queue.asleep.swap(false, Ordering::AcqRel) {
            self.writer.unpark();
        }
    }
}

fn write_until_over(queue: &Queue, json: bool) {
    let mut text = String::new();
    loop {
        let over = queue.over.load(Ordering::Acquire);
        let entries =
            std::mem::take(&mut *queue.entries.lock().unwrap_or_else(PoisonError::into_inner));
        if !entries.is_empty() {
            text.clear();
            for entry in &entries {
                match (entry, json) {
                    (Entry::Record(record), true) => write_json(&mut text, record),
                    (Entry::Record(record), false) => write_text(&mut text, record),
                    (Entry::Comparison(comparison), true) => compared_json(&mut text, comparison),
                    (Entry::Comparison(comparison), false) => compared_text(&mut text, comparison),
                }
            }
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            let lost = queue.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                note(&format!("{lost} log lines were lost: standard error is too slow"));
            }
            if !over {
                thread::sleep(BATCH);
            }
            continue;
        }
        if over {
            return;
        }
        queue.asleep.store(true, Ordering::Release);
        // A record may have come in between: then its recorder sees `asleep` late, so look again
        // soon rather than never.
        thread::park_timeout(Duration::from_millis(250));
    }
}

fn write_json(text: &mut String, record: &Record) {
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"{{"time":"{}","message":"{}","request_id":"{}","operation":"{}","model":{},"status":{},"outcome":"{}","stream":{}"#,
        timestamp(record.at),
        if record.is_last { "request" } else { "attempt" },
        record.id,
        record.operation.word(),
        quoted(&record.model),
        record.status,
        record.outcome.word(),
        record.stream,
    );
    if let Some(route) = &record.route {
        let provider = quoted(&route.provider.id);
        let upstream = &route.upstream_json;
        let _ = write!(text, r#","provider":{provider},"upstream_model":{upstream}"#);
    }
    if let Some(id) = record.mirror_of {
        let _ = write!(text, r#","mirror_of":"{id}""#);
    }
    for kind in Kind::CALLERS {
        if let Some(level) = record.caller.chain().level(kind) {
            let _ = write!(text, r#","{}":{}"#, kind.word(), quoted(&level.holder.name));
        }
    }
    match record.is_last {
        false => {
            let _ = write!(text, r#","attempt":{}"#, record.attempt);
        }
        true if record.attempts > 1 => {
            let _ = write!(text, r#","attempts":{}"#, record.attempts);
        }
        true => {}
    }
    if record.shared {
        text.push_str(r#","shared":true"#);
    }
    if let Some(fault) = record.fault {
        let _ = write!(text, r#","error":"{fault}""#);
    }
    if let Some(cause) = record.cause {
        let _ = write!(text, r#","cause":"{}""#, cause.word());
    }
    if let Some(charge) = &record.charge {
        let _ = write!(text, r#","cost":"{}""#, charge.money);
    }
    if let Some(usage) = record.usage {
        let _ = write!(
            text,
            r#","usage":"{}","input_tokens":{},"cached_tokens":{},"output_tokens":{},"reasoning_tokens":{}"#,
            record.provenance.word(),
            usage.input_total(),
            usage.cached_read,
            usage.output_total(),
            usage.reasoning,
        );
    }
    if let Some(first) = record.first_event {
        let _ =
            write!(text, r#","events":{},"first_event_ms":{}"#, record.events, first.as_millis());
    }
    if !record.queued.is_zero() {
        let _ = write!(text, r#","queued_ms":{}"#, record.queued.as_millis());
    }
    let (total, overhead) = (record.total.as_millis(), record.overhead.as_micros());
    let _ = writeln!(text, r#","total_ms":{total},"overhead_us":{overhead}}}"#);
}

fn write_text(text: &mut String, record: &Record) {
    let time = timestamp(record.at);
    let clock = &time[11..23];
    let _ = write!(text, "{clock} {:>3} {:<10}", record.status, record.operation.word());
    match &record.route {
        Some(route) => {
            let _ = write!(text, " {}/{}", route.provider.id, route.upstream_model);
        }
        None => {
            let _ = write!(text, " {}", quoted(&record.model));
        }
    }
    let _ = write!(text, "  {} in {:?}", record.outcome.word(), rounded(record.total));
    if !record.queued.is_zero() {
        let _ = write!(text, ", queued {:?}", rounded(record.queued));
    }
    if let Some(first) = record.first_event.filter(|_| record.stream) {
        let _ = write!(text, ", first event {:?}", rounded(first));
    }
    if let Some(usage) = record.usage {
        let about = if record.provenance == Provenance::Estimated { "about " } else { "" };
        let (input, output) = (usage.input_total(), usage.output_total());
        let _ = write!(text, ", {about}{input} + {output} tokens");
    }
    if let Some(charge) = &record.charge {
        let _ = write!(text, ", {}", charge.money);
    }
    match (record.is_last, record.attempts) {
        (true, 0 | 1) => {}
        (true, attempts) => {
            let _ = write!(text, ", {attempts} attempts");
        }
        (false, _) if record.outcome == Outcome::Cancelled => {}
        (false, _) => text.push_str(", goes on"),
    }
    if record.shared {
        text.push_str(", shared");
    }
    if let Some(level) = record.caller.chain().level(Kind::Key) {
        let _ = write!(text, ", by {}", quoted(&level.holder.name));
    }
    if let Some(fault) = record.fault {
        let _ = write!(text, ", {fault}");
    }
    if let Some(id) = record.mirror_of {
        let _ = write!(text, ", a mirror of {id}");
    }
    let _ = writeln!(text, "  {}", record.id);
}

fn compared_json(text: &mut String, comparison: &Comparison) {
    let Comparison { at, id, mirror, model, main, shadow, similarity } = comparison;
    let (time, model) = (timestamp(*at), quoted(model));
    let _ = write!(
        text,
        r#"{{"time":"{time}","message":"mirror","request_id":"{id}","mirror_id":"{mirror}","model":{model}"#,
    );
    if let Some(similarity) = similarity {
        let _ = write!(text, r#","similarity":{similarity:.4}"#);
    }
    for (name, half) in [("main", main), ("shadow", shadow)] {
        half_json(text, name, half);
    }
    text.push_str("}\n");
}

fn half_json(text: &mut String, name: &str, half: &Half) {
    let (outcome, total) = (half.outcome.word(), half.total.as_millis());
    let _ = write!(
        text,
        r#","{name}":{{"status":{},"outcome":"{outcome}","total_ms":{total},"output_tokens":{}"#,
        half.status, half.output_tokens,
    );
    if let Some(route) = &half.route {
        let provider = quoted(&route.provider.id);
        let upstream = &route.upstream_json;
        let _ = write!(text, r#","provider":{provider},"upstream_model":{upstream}"#);
    }
    if let Some(first) = half.first_event {
        let _ = write!(text, r#","first_event_ms":{}"#, first.as_millis());
    }
    if let Some(cost) = half.cost {
        let _ = write!(text, r#","cost":"{cost}""#);
    }
    if let Some(characters) = half.characters {
        let _ = write!(text, r#","characters":{characters}"#);
    }
    if let Some(finish) = &half.finish {
        let _ = write!(text, r#","finish_reason":{}"#, quoted(finish));
    }
    text.push('}');
}

fn compared_text(text: &mut String, comparison: &Comparison) {
    let time = timestamp(comparison.at);
    let _ = write!(text, "{}     mirror    ", &time[11..23]);
    for (joint, half) in [("", &comparison.main), (" and", &comparison.shadow)] {
        if let Some(route) = &half.route {
            let _ = write!(text, "{joint} {}/{}", route.provider.id, route.upstream_model);
        }
        let _ = write!(text, "  {} in {:?}", half.outcome.word(), rounded(half.total));
    }
    if let Some(similarity) = comparison.similarity {
        let _ = write!(text, ", similarity {similarity:.2}");
    }
    let _ = writeln!(text, "  {}", comparison.id);
}

fn rounded(duration: Duration) -> Duration {
    match duration.as_millis() {
        0 => Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or_default()),
        millis => Duration::from_millis(u64::try_from(millis).unwrap_or_default()),
    }
}

/// A time as RFC 3339 writes it, in UTC with milliseconds.
fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day counted from 1970-01-01, by the Gregorian calendar: years are counted from
/// March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_the_calendar() {
        let at = |seconds: u64| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_795_363_199), "2026-11-22T15:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
    }
}
