//! A configuration with 300 kinds of damage: it is read or refused, and never more than that.

use policy::{Environment, Problem};

use crate::given::{environment, resolved};

/// Every option, in block and in flow style.
const EXAMPLE: &str = r#"# An example.
listen: 127.0.0.1:8000
open: false
hosts: [magpie.example.com, "b.example.com"]
cors:
  origins:
    - https://app.example.com
    - "*"
  methods: [GET, POST]
  headers: [authorization, content-type]
providers:
  xinghe:
    api_key: ${XINGHE_API_KEY}
  lab:
    profile: openai-compatible   # any server
    base_url: "http://10.0.0.5:8000/v1"
    api_key: "${LAB_KEY:-sk-fallback}"
    auth: { header: x-api-key }
    http: http1
    headers:
      set: { x-team: red }
      forward: [x-trace-*]
    models: [small, 'large']
    request:
      defaults: { temperature: 0.6, stop: ["\n"] }
      force: { user: lab }
      drop:
      - logit_bias
    stream_usage: never_ask
    errors:
      - path: base_resp.status_code
        ok: "0"
        status: { "1002": 429 }
    causes: { "1039": context_too_long, Busy.*: transient }
    timeouts: { first_event: 5m }
models:
  default: xinghe/ernie-4.5-turbo-128k
  chat: { target: lab/small, defaults: { top_p: 1 }, timeouts: { idle: 30s } }
  "gpt-*": lab/*
  canary: { split: { lab/small: 95, lab/large: 5 }, sticky: { header: x-user } }
  long:
    when:
    - if: { input_over: 32k, header: { x-tier: [gold, "plat*"] }, hours: "22:00-06:00" }
      use: { balance: [lab/large, { target: lab/small, weight: 2 }], by: cheapest, under: 2s }
    - use: lab/small
    fallback: [ { target: xinghe/a, spill_at: 4 }, xinghe/b ]
timeouts:
  connect: 5s
  total: 30m
limits: { body: 20MiB, upload: 200MiB, connections: 100 }
metering:
  stream_usage: true
log:
  requests: true
  format: json
shutdown_grace: 30s
workers: 2
"#;

const VARIABLES: [(&str, &str); 2] =
    [("XINGHE_API_KEY", "sk-very-secret-1"), ("LAB_KEY", "sk-very-secret-2")];

/// A generator of numbers, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

const BITS: [&str; 24] = [
    ":",
    " ",
    "\n",
    "\t",
    "-",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "#",
    "&a",
    "*a",
    "${",
    "}",
    "!!binary ",
    "|\n",
    "\u{0}",
    "🐦",
    "---\n",
    "<<: ",
    "999999999999999999999",
];

/// The text with one thing done to it.
fn damaged(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let line = dice.below(lines.len());
    match dice.below(8) {
        0 => {
            lines.remove(line);
        }
        1 => lines.insert(line, lines[line].clone()),
        2 => {
            let other = dice.below(lines.len());
            lines.swap(line, other);
        }
        3 => lines[line] = format!("{}{}", " ".repeat(dice.below(7)), lines[line].trim_start()),
        4 => {
            let (name, _) = lines[line].split_once(':').unwrap_or(("x", ""));
            lines[line] = format!("{name}: {}", BITS[dice.below(BITS.len())]);
        }
        5 => lines.truncate(line),
        _ => {
            let text = &mut lines[line];
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let at = if places.is_empty() { 0 } else { places[dice.below(places.len())] };
            match dice.below(3) {
                0 if !text.is_empty() => {
                    text.remove(at);
                }
                1 => text.truncate(at),
                _ => text.insert_str(at, BITS[dice.below(BITS.len())]),
            }
        }
    }
    lines.join("\n")
}

fn assert_told_well(problems: &[Problem], text: &str) {
    assert!(!problems.is_empty(), "refused without a word:\n{text}");
    assert!(problems.len() <= 60, "{} problems:\n{text}", problems.len());
    let lines = text.split('\n').count() as u64;
    for problem in problems {
        assert!(problem.place.line <= lines, "{problem:?} is not in\n{text}");
        let told = problem.to_string();
        assert!(!told.trim().is_empty() && !problem.message.contains('\n'), "{told:?}");
        assert!(!told.contains("very-secret"), "{told}\n{text}");
    }
}

#[test]
fn the_example_itself_is_right() {
    let snapshot = resolved(EXAMPLE, &VARIABLES).map_err(|problems| format!("{problems:?}"));
    assert_eq!(snapshot.map(|snapshot| snapshot.providers.len()), Ok(3));
}

#[test]
fn three_hundred_damaged_examples_are_read_or_refused() {
    let mut dice = Dice(0x5eed_1234_abcd_0001);
    let (mut right, mut wrong) = (0, 0);
    for round in 0..300 {
        let mut text = EXAMPLE.to_owned();
        for _ in 0..=round % 4 {
            text = damaged(&text, &mut dice);
        }
        match resolved(&text, &VARIABLES) {
            Ok(snapshot) => {
                assert!(snapshot.route("").is_ok());
                right += 1;
            }
            Err(problems) => {
                assert_told_well(&problems, &text);
                wrong += 1;
            }
        }
    }
    assert!(right > 20 && wrong > 100, "{right} read and {wrong} refused");
}

#[test]
fn an_example_cut_off_anywhere_is_read_or_refused() {
    let variables: Environment = environment(&VARIABLES);
    for end in (0..EXAMPLE.len()).step_by(3) {
        if let Err(problems) = policy::load(&EXAMPLE[..end], &variables) {
            assert_told_well(&problems, &EXAMPLE[..end]);
        }
    }
}
