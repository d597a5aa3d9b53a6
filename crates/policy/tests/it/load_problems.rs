//! Problems of form: all of them at once, each with its place and what to do about it.

use policy::Environment;

use crate::given::{config, problems, told};

/// The problems of form alone.
fn of_form(text: &str) -> Vec<String> {
    told(&policy::load(text, &Environment::new()).unwrap_err())
}

#[test]
fn an_unknown_option_is_told_with_the_nearest_known_one() {
    for (text, expected) in [
        ("opne: true\n", "1:1 unknown option `opne` | did you mean `open`?"),
        (
            "open: true\n\n# why\nLimits: {}\n",
            "4:1 unknown option `Limits` | did you mean `limits`?",
        ),
        (
            "limits:\n  body: 1MiB\n  uplaod: 2MiB\n",
            "3:3 unknown option `uplaod` | did you mean `upload`?",
        ),
        (
            "providers:\n  lab:\n    profile: sglang\n    apikey: x\n",
            "4:5 unknown option `apikey` | did you mean `api_key`?",
        ),
        (
            "providers:\n  lab: { profile: sglang, base-url: x }\n",
            "2:27 unknown option `base-url` | did you mean `base_url`?",
        ),
        (
            "models:\n  chat: { target: lab/m, default: {} }\n",
            "2:26 unknown option `default` | did you mean `defaults`?",
        ),
        (
            "providers:\n  lab:\n    request: { dorp: [a] }\n",
            "3:16 unknown option `dorp` | did you mean `drop`?",
        ),
        ("log: { zzzzzz: 1 }\n", "1:8 unknown option `zzzzzz` | known here: requests, format"),
    ] {
        assert_eq!(of_form(text), [expected], "{text}");
    }
}

#[test]
fn a_value_of_a_wrong_type_is_told_in_plain_words() {
    for (text, expected) in [
        ("open: maybe\n", "1:7 this has to be true or false"),
        ("workers: many\n", "1:10 this has to be a whole number"),
        ("workers: -1\n", "1:10 this has to be a whole number"),
        ("workers: 1.5\n", "1:10 this has to be a whole number"),
        ("listen: [a]\n", "1:9 this has to be a text"),
        ("hosts: localhost\n", "1:8 this has to be a list"),
        ("hosts: { a: b }\n", "1:8 this has to be a list"),
        ("metering: yes\n", "1:11 this has to be a mapping"),
        ("providers: [openai]\n", "1:12 this has to be a mapping"),
        ("cors:\n  origins: \"*\"\n", "2:12 this has to be a list"),
        ("- open\n", "1:1 this has to be a mapping"),
        ("open\n", "1:1 this has to be a mapping"),
    ] {
        let found = of_form(text);
        assert_eq!(found.len(), 1, "{found:?}");
        let (told, hint) = found[0].split_once(" | ").unwrap();
        assert_eq!(told, expected, "{text}");
        assert!(hint.starts_with("write "), "{hint}");
    }
}

#[test]
fn a_value_that_is_not_one_of_a_few_is_told_with_those() {
    for (text, expected) in [
        (
            "log: { format: xml }\n",
            "1:16 `xml` is not a value of this option | one of: auto, text, json",
        ),
        (
            "providers:\n  lab:\n    http: http3\n",
            "3:11 `http3` is not a value of this option | one of: auto, http1, http2",
        ),
        (
            "providers:\n  lab:\n    stream_usage: ask\n",
            "3:19 `ask` is not a value of this option | one of: on_request, never_ask",
        ),
        (
            "providers:\n  lab:\n    auth: basic\n",
            "3:11 `basic` is not a value of this option | one of: bearer, header, optional",
        ),
    ] {
        assert_eq!(of_form(text), [expected], "{text}");
    }
}

#[test]
fn an_environment_variable_that_is_not_set_is_told_by_name() {
    let found = of_form("listen: \"${ADDRESS}\"\nshutdown_grace: ${GRACE}\n");
    assert_eq!(
        found,
        [
            "1:9 the environment variable ADDRESS is not set | export ADDRESS=..., or give a fallback: ${ADDRESS:-text}",
            "2:17 the environment variable GRACE is not set | export GRACE=..., or give a fallback: ${GRACE:-text}",
        ]
    );
}

#[test]
fn a_text_that_yaml_takes_for_something_else_is_to_be_quoted() {
    for text in [
        "teams: { red: { metadata: { cost_center: 4711 } } }\n",
        "models: { m: { fallback: [lab/m, no] } }\n",
    ] {
        let found = of_form(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(" | put it in quotes"), "{found:?}");
    }
}

#[test]
fn a_model_that_is_neither_target_nor_mapping_is_told_so() {
    let found = of_form("models:\n  a: [lab/m]\n  b: 5\n  d: lab/m\n");
    let places: Vec<&str> = found.iter().map(|told| told.split(' ').next().unwrap()).collect();
    assert_eq!(places, ["2:3", "3:3"]);
    for told in found {
        assert!(told.contains("`provider/model`, or a mapping with `target`, `split`"), "{told}");
    }
}

#[test]
fn a_missing_part_of_an_error_rule_is_told() {
    let found = of_form("providers:\n  lab:\n    errors: [{ ok: \"0\" }]\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("3:") && found[0].contains("`path`"), "{found:?}");
}

#[test]
fn an_option_that_stands_twice_is_told_at_its_second_place() {
    assert_eq!(
        of_form("open: true\nhosts: []\nopen: false\n"),
        ["3:1 `open` stands twice | keep one of them"]
    );
    assert_eq!(
        of_form("providers:\n  a: { profile: sglang }\n  a: { profile: sglang }\n"),
        ["3:3 `a` stands twice | keep one of them"]
    );
}

#[test]
fn a_text_that_is_no_yaml_is_told_with_its_place() {
    for (text, place) in [
        ("open: true\nhosts: [a, b\nlog: {}\n", ""),
        ("listen: \"127.0.0.1\nopen: true\n", ""),
        ("models:\n  a: b: c\n", "2:"),
        ("}\n", "1:"),
        ("listen: @x\n", "1:"),
    ] {
        let found = of_form(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(place), "{text}: {found:?}");
        assert!(!found[0].contains('\n'), "{found:?}");
    }
    // What reads as something else is told as that, too.
    let found = of_form("open: true\n  hosts: []\n");
    assert!(found.len() == 2 && found[1].starts_with("2:8 "), "{found:?}");
}

#[test]
fn a_second_document_is_told() {
    assert_eq!(
        of_form("open: true\n---\nopen: false\n"),
        ["3:1 a second document begins here | remove the `---`"]
    );
}

#[test]
fn problems_in_front_of_a_syntax_error_are_told_with_it() {
    let found = of_form("opne: true\nworkers: x\nlisten: [a\n");
    assert!(found.len() >= 2, "{found:?}");
    assert!(found.iter().any(|told| told.contains("`opne`")), "{found:?}");
}

#[test]
fn a_bracket_that_is_never_closed_is_told_where_its_entry_is_wrong_as_well() {
    let found = of_form("hostz: [a\nopen: true\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("1:1 unknown option `hostz`"), "{found:?}");
    assert!(found[1].starts_with("2:"), "{found:?}");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "\
# a comment
listen: ${NOT_SET}
opne: true

hosts:
- a
- b
hostz:
- c
- d
cors:
    origins: x
providers:
  lab:
    profile: sglang
    # wrong:
    http: 3
    models: {}
    headers:
      sett: { a: b }
      forward: [x]
  far: { profil: vllm, base_url: [] }
  near: {
    api_kee: x,
    models: [a]
  }
models:
  a: { target: lab/m, timeouts: { idel: 3s } }
  b: [c,
      d]
workers: x
log: { format: \"xml\" }
";
    let found = of_form(text);
    let places: Vec<&str> = found.iter().map(|told| told.split(' ').next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "2:9", "3:1", "8:1", "12:14", "17:11", "18:13", "20:7", "22:10", "24:5", "28:35",
            "29:3", "31:10", "32:16"
        ],
        "{found:#?}"
    );
}

#[test]
fn an_entry_whose_members_are_all_wrong_is_no_problem_of_its_own() {
    for text in [
        "timeouts:\n  idel: 5s\n",
        "timeouts:\n  # how long\n\n  idel: 5s\n  totl: 5s\n",
        "providers:\n  lab:\n    # nothing right here\n    kee: x\nopen: true\n",
        "cors:\n  origin: []\nlog:\n  formt: json\n",
    ] {
        let wrong = text.matches("idel").count()
            + text.matches("totl").count()
            + text.matches("kee").count()
            + text.matches("origin").count()
            + text.matches("formt").count();
        let found = of_form(text);
        assert_eq!(found.len(), wrong, "{found:#?}");
        assert!(found.iter().all(|told| told.contains("unknown option")), "{found:#?}");
    }
}

#[test]
fn the_rest_of_a_text_in_brackets_is_no_problem_of_its_own() {
    for (text, expected) in [
        ("models: { a: lab/m,\n  b: [1] }\nopen: true\n", 1),
        ("hostz: [\n  a,\n  b\n]\nopne: true\n", 2),
        ("hosts: {\n  a: 1\n}\nworkers: x\n", 2),
    ] {
        let found = of_form(text);
        assert_eq!(found.len(), expected, "{text}{found:#?}");
    }
}

#[test]
fn very_many_problems_are_told_up_to_a_bound() {
    let text: String = (0..500).map(|index| format!("wrong{index}: 1\n")).collect();
    assert_eq!(of_form(&text).len(), 50);
}

#[test]
fn problems_of_meaning_are_told_with_those_of_form() {
    let text = "\
opne: true
listen: nonsense
providers:
  lab:
    base_url: ftp://example.com
    api_kye: x
  far: { profile: vllm, regoin: cn }
models:
  a: nobody/m
  b: [lab/m]
  c: { target: echo/m, timeouts: { idle: 5 parsecs } }
timeouts: { idel: 3s }
";
    let found = problems(text);
    let places: Vec<&str> = found.iter().map(|told| told.split(' ').next().unwrap()).collect();
    assert_eq!(
        places,
        ["1:1", "2:9", "5:15", "6:5", "7:25", "9:6", "10:3", "11:34", "12:13"],
        "{found:#?}"
    );
}

#[test]
fn what_only_follows_from_a_problem_of_form_is_none_of_its_own() {
    for text in [
        // The provider is there, and lost the one member that says where it is.
        "providers:\n  lab:\n    region: cn\n    base_ur: http://x/v1\nmodels: { a: lab/m }\n",
        "providers: { lab: { base_ur: http://x/v1 } }\nmodels:\n  a: lab/m\n",
        "providers:\n  lab: http://x/v1\nmodels:\n  a: { fallback: [lab/m, echo/m] }\n",
        "providers:\n  lab:\n    # the key\n    profile: openai\n    api_kye: x\n",
        // So with models that others name.
        "models:\n  a: [echo/m]\n  b: { cascade: [a, echo] }\n",
        // Somebody has a key, who it is cannot be read.
        "listen: 0.0.0.0:1\nkeys: [{ nmae: ci, key: 0123456789abcdef0123456789abcdef }]\n",
        // There is a default, though it cannot be read.
        "providers: { echo: { profile: sglang } }\nmodels:\n  default: [echo/m]\n",
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}{found:#?}");
    }
}

#[test]
fn flow_style_and_block_style_read_the_same() {
    let flow = config(
        "{ open: true, hosts: [a, b], limits: { body: 1MiB }, models: { chat: { target: lab/m, drop: [x] } } }",
    );
    let block = config(
        "open: true\nhosts:\n- a\n- b\nlimits:\n  body: 1MiB\nmodels:\n  chat:\n    target: lab/m\n    drop:\n      - x\n",
    );
    assert_eq!((flow.open, &flow.hosts), (block.open, &block.hosts));
    assert_eq!(flow.limits.value, block.limits.value);
    let (a, b) = (&flow.models["chat"].value, &block.models["chat"].value);
    assert_eq!((&a.plan.target.value, &a.edits.value), (&b.plan.target.value, &b.edits.value));
}

#[test]
fn a_text_without_any_option_is_the_default() {
    for text in ["", "\n\n", "# nothing\n  # at all", "{}", "\u{feff}open: false\n"] {
        let config = config(text);
        assert!(config.providers.is_none() && config.models.is_empty(), "{text:?}");
    }
}

#[test]
fn line_ends_of_windows_change_no_place() {
    let found = of_form("open: true\r\nopne: true\r\nworkers: x\r\n");
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("2:1 ") && found[1].starts_with("3:10 "), "{found:?}");
}

#[test]
fn columns_are_counted_in_characters() {
    let found = of_form("models: { \"聊天🐦\": lab/m, x: [1] }\n");
    assert!(found[0].starts_with("1:25 "), "{found:?}");
}

#[test]
fn a_problem_prints_its_hint_on_a_line_of_its_own() {
    let problems = policy::load("opne: true\n", &Environment::new()).unwrap_err();
    assert_eq!(problems[0].to_string(), "unknown option `opne`\n  hint: did you mean `open`?");
}
