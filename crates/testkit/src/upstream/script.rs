//! The grammar of the scripts: `name[:arg[:arg[:arg]]]`, carried in the request's `model`.

use std::time::Duration;

/// Whose way of reporting an error is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Baidu,
    MiniMax,
}

/// What the upstream does with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Ok,
    Events { count: usize, delay: Duration, bytes: usize, timed: bool },
    Cut(usize),
    Reset(usize),
    Eof(usize),
    NoDone,
    Hang,
    HangHeaders,
    Stall(usize),
    Drip(Duration),
    Split(usize),
    Malformed(usize),
    NotSse,
    Html(u16),
    Status { code: u16, retry_after: Option<String> },
    Error200(Dialect),
    ErrorEvent { count: usize, dialect: Dialect },
    JsonForStream,
    Comments,
    Crlf,
    NoSpace,
    UsageEvery,
    Big(usize),
    Flood(u64),
    TruncatedBody,
    CloseAfter,
    Redirect(String),
    Tools,
    Json,
    Reasoning,
    Digest,
    Slow(Duration),
    Headers,
    EchoHeaders,
}

/// The arguments of a script, taken one after the other.
struct Args<'a>(std::str::Split<'a, char>);

impl<'a> Args<'a> {
    fn text(&mut self) -> Option<&'a str> {
        self.0.next().filter(|text| !text.is_empty())
    }

    fn number<T: std::str::FromStr>(&mut self, default: T) -> T {
        self.text().and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    fn millis(&mut self, default: u64) -> Duration {
        Duration::from_millis(self.number(default))
    }

    fn dialect(&mut self) -> Dialect {
        match self.text() {
            Some("baidu") => Dialect::Baidu,
            Some("minimax") => Dialect::MiniMax,
            _ => Dialect::OpenAi,
        }
    }

    fn events(&mut self, timed: bool) -> Script {
        Script::Events {
            count: self.number(8),
            delay: self.millis(0),
            bytes: self.number(0),
            timed,
        }
    }
}

/// Reads the script out of a model name. An unknown name is [`Script::Ok`].
pub(crate) fn parse(model: &str) -> Script {
    let mut parts = model.split(':');
    let name = parts.next().unwrap_or_default();
    let rest = model.get(name.len() + 1..).unwrap_or_default();
    let mut args = Args(parts);
    match name {
        "events" => args.events(false),
        "timed" => args.events(true),
        "cut" => Script::Cut(args.number(1)),
        "reset" => Script::Reset(args.number(1)),
        "eof" => Script::Eof(args.number(1)),
        "no-done" => Script::NoDone,
        "hang" => Script::Hang,
        "hang-headers" => Script::HangHeaders,
        "stall" => Script::Stall(args.number(1)),
        "drip" => Script::Drip(args.millis(1)),
        "split" => Script::Split(args.number(1).max(1)),
        "malformed" => Script::Malformed(args.number(1)),
        "not-sse" => Script::NotSse,
        "html" => Script::Html(args.number(502)),
        "status" => {
            Script::Status { code: args.number(500), retry_after: args.text().map(str::to_owned) }
        }
        "error200" => Script::Error200(args.dialect()),
        "error-event" => Script::ErrorEvent { count: args.number(1), dialect: args.dialect() },
        "big" => Script::Big(args.number(1 << 20)),
        "flood" => Script::Flood(args.number(64 << 20)),
        "redirect" if !rest.is_empty() => Script::Redirect(rest.to_owned()),
        "redirect" => Script::Redirect("redirected.invalid".to_owned()),
        "slow" => Script::Slow(args.millis(1000)),
        other => plain(other),
    }
}

/// The scripts without arguments.
fn plain(name: &str) -> Script {
    match name {
        "json-for-stream" => Script::JsonForStream,
        "comments" => Script::Comments,
        "crlf" => Script::Crlf,
        "no-space" => Script::NoSpace,
        "usage-every" => Script::UsageEvery,
        "truncated-body" => Script::TruncatedBody,
        "close-after" => Script::CloseAfter,
        "tools" => Script::Tools,
        "json" => Script::Json,
        "reasoning" => Script::Reasoning,
        "digest" => Script::Digest,
        "headers" => Script::Headers,
        "echo-headers" => Script::EchoHeaders,
        _ => Script::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arguments_are_read() {
        assert_eq!(parse("cut:3"), Script::Cut(3));
        assert_eq!(parse("gpt-4o"), Script::Ok);
        assert_eq!(parse("ft:gpt-4o:acme"), Script::Ok);
        assert_eq!(
            parse("timed:5:100:64"),
            Script::Events { count: 5, delay: Duration::from_millis(100), bytes: 64, timed: true }
        );
        assert_eq!(
            parse("status:429:7"),
            Script::Status { code: 429, retry_after: Some("7".to_owned()) }
        );
        assert_eq!(
            parse("error-event:0:baidu"),
            Script::ErrorEvent { count: 0, dialect: Dialect::Baidu }
        );
        assert_eq!(parse("redirect:127.0.0.1:9"), Script::Redirect("127.0.0.1:9".to_owned()));
    }
}
