//! The command line.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{DEFAULT_TEXT, Refused, ScriptedUpstream};

use crate::harness::{PATIENCE, PROVIDER_KEY, Setup};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_teaches_the_commands_and_the_first_steps() {
    let help = Setup::empty().run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = stdout(&help);
    for command in
        ["run", "check", "providers", "models", "explain", "chat", "schema", "version", "--config"]
    {
        assert!(
            text.contains(&format!("  {command}")) || text.contains(command),
            "{command}: {text}"
        );
    }
    for words in ["XINGHE_API_KEY=", "curl http://127.0.0.1:8000/v1/chat/completions", "/docs"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let unknown = Setup::empty().run(&["sreve"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("unrecognized subcommand"));
}

#[test]
fn the_version_is_that_of_the_release() {
    let expected = format!("magpie {}\n", env!("CARGO_PKG_VERSION"));
    for argument in ["version", "--version", "-V"] {
        let output = Setup::empty().run(&[argument]);
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), expected.clone()));
    }
}

#[test]
fn the_schema_is_json_and_knows_the_options() {
    let output = Setup::empty().run(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
    for option in ["listen", "providers", "models", "cors", "timeouts", "limits", "log"] {
        assert!(schema["properties"][option].is_object(), "{option}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn check_says_ok_for_a_good_file() {
    let setup = Setup::of("http://127.0.0.1:9/v1").and("models: { a: up/b }");
    let output = setup.run(&["check", "magpie.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "ok: 2 providers, 2 models, default echo/echo\n");
    let nothing = Setup::file("# nothing\n").run(&["check", "magpie.yaml"]);
    assert_eq!(stdout(&nothing), "ok: 1 provider, 1 model, default echo/echo\n");
}

#[test]
fn check_looks_at_what_would_be_read_if_no_file_is_named() {
    let usual = Setup::file("listn: x\n").run(&["check"]);
    assert!(stdout(&usual).starts_with("magpie.yaml:1:1: "), "{}", stdout(&usual));
    let setup = Setup::empty();
    std::fs::write(setup.folder().join("other.yaml"), "wrokers: 1\n").unwrap();
    let named = setup.run(&["check", "-c", "other.yaml"]);
    assert!(stdout(&named).starts_with("other.yaml:1:1: "), "{}", stdout(&named));
    assert_eq!(setup.run(&["check"]).status.code(), Some(0), "the environment alone");
}

/// The configurations in a page.
fn examples(page: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let text = std::fs::read_to_string(format!("{path}{page}")).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|block| !block.contains("scrape_configs:")).map(str::to_owned).collect()
}

#[test]
fn the_examples_of_all_pages_are_good_and_the_same_in_both_languages() {
    const GUIDES: [&str; 11] = [
        "getting-started",
        "clients",
        "configuration",
        "routing",
        "experiments",
        "sharing",
        "keys",
        "limits-and-budgets",
        "usage",
        "metrics",
        "deploy",
    ];
    let mut pages = vec![("README.md".to_owned(), "README.zh-CN.md".to_owned())];
    let guide = |name| (format!("docs/guide/{name}.md"), format!("docs/zh/guide/{name}.md"));
    pages.extend(GUIDES.map(guide));
    let bare = |blocks: &[String]| -> Vec<String> {
        let lines = blocks.iter().flat_map(|block| block.lines());
        let code = lines.map(|line| line.split(" #").next().unwrap_or_default().trim_end());
        code.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let mut seen = 0;
    for (english, chinese) in pages {
        let blocks = [examples(&english), examples(&chinese)];
        assert_eq!(bare(&blocks[0]), bare(&blocks[1]), "{english}");
        for block in blocks.iter().flatten() {
            seen += 1;
            // A listener that others can reach, and providers that need no `providers` for it.
            let mut setup = Setup::file(block).env("MAGPIE_OPEN", "true");
            let written = block.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
            let named = written.map(|(name, _)| name);
            for name in named.chain([
                "DASHSCOPE_API_KEY",
                "ZHIPUAI_API_KEY",
                "DEEPSEEK_API_KEY",
                "MOONSHOT_API_KEY",
                "XINGHE_API_KEY",
                "OPENAI_API_KEY",
                "SILICONFLOW_API_KEY",
            ]) {
                setup = setup.env(name, &format!("{PROVIDER_KEY}-{name}"));
            }
            let output = setup.run(&["check", "magpie.yaml"]);
            assert_eq!(output.status.code(), Some(0), "{english}\n{block}\n{}", stdout(&output));
        }
    }
    assert!(seen > 60, "only {seen} examples were found");
}

#[test]
fn check_shows_every_problem_at_once_with_place_and_hint() {
    let text = "\
listn: 127.0.0.1:8000
providers:
  up:
    base_url: ftp://example.com
    api_kye: x
models:
  a: nobody/b
timeouts: { idle: 5 parsecs }
";
    let setup = Setup::file(text);
    let checked = setup.run(&["check", "magpie.yaml"]);
    assert_eq!(checked.status.code(), Some(2));
    let report = stdout(&checked);
    for expected in [
        "magpie.yaml:1:1: unknown option `listn`\n  hint: did you mean `listen`?",
        "magpie.yaml:4:15: `ftp://example.com`",
        "magpie.yaml:5:5: unknown option `api_kye`\n  hint: did you mean `api_key`?",
        "magpie.yaml:7:6: there is no provider `nobody`",
        "magpie.yaml:8:",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
    assert!(report.contains("5 parsecs") && report.ends_with("5 problems\n"), "{report}");
    // To serve with it fails in the same words.
    let run = setup.run(&[]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("magpie.yaml:4:15: ") && run.stdout.is_empty());
}

#[test]
fn a_file_that_is_not_there_is_a_problem_that_names_it() {
    for arguments in
        [&["check", "none.yaml"][..], &["--config", "none.yaml"], &["models", "-c", "none.yaml"]]
    {
        let output = Setup::empty().run(arguments);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("none.yaml: cannot be read"), "{said}");
    }
}

#[test]
fn providers_lists_the_profiles_and_where_their_keys_come_from() {
    let text = stdout(&Setup::empty().run(&["providers"]));
    for id in [
        "xinghe",
        "aistudio-app",
        "qianfan",
        "qwen",
        "glm",
        "zai",
        "deepseek",
        "moonshot",
        "ark",
        "minimax",
        "openai",
        "azure",
        "openrouter",
        "ollama",
        "vllm",
        "openai-compatible",
        "echo",
    ] {
        assert!(
            text.lines().any(|line| line.split_whitespace().next() == Some(id)),
            "{id}: {text}"
        );
    }
    assert!(
        text.contains(" XINGHE_API_KEY, AISTUDIO_API_KEY\n") && text.contains(" OLLAMA_HOST\n")
    );
    assert!(
        text.contains("\nA provider is served when one of its variables is set. <NAME>_BASE_URL ")
    );
    let column = |line: &str| line.find("_API_KEY").map(|at| line[..at].rfind(' '));
    let rows = text
        .lines()
        .filter(|line| ["xinghe ", "glm ", "azure "].iter().any(|id| line.starts_with(id)));
    let columns: Vec<_> = rows.map(column).collect();
    assert!(columns.len() == 3 && columns.windows(2).all(|two| two[0] == two[1]), "{text}");
    let configured = Setup::of("http://127.0.0.1:9/v1").run(&["providers"]);
    let row = stdout(&configured)
        .lines()
        .find(|line| line.starts_with("openai-compatible "))
        .map(String::from);
    assert!(row.is_some_and(|row| row.contains(" yes ")));
}

#[test]
fn models_lists_names_and_targets() {
    let setup = Setup::of("http://127.0.0.1:9/v1").and("models: { default: up/b, nick: up/c }");
    let output = setup.run(&["models"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "default -> up/b\ndefault -> up/b\nnick -> up/c\necho -> echo/echo\n"
    );
}

#[test]
fn chat_prints_the_answer_as_it_comes() {
    let upstream = ScriptedUpstream::start();
    let setup = Setup::of(&upstream.base_url());
    let whole = setup.run(&["chat", "up/ok", "hello"]);
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    assert_eq!(stdout(&whole), format!("{DEFAULT_TEXT}\n"));
    assert_eq!(upstream.received()[0].json()["messages"][0]["content"], "hello");
    let reasoned = setup.run(&["chat", "up/reasoning", "hello"]);
    assert_eq!(stdout(&reasoned), format!("Let me think.\n{DEFAULT_TEXT}\n"));

    let mut process = setup.spawn(&["chat", "up/events:5:200", "hello"]);
    let start = Instant::now();
    process.stdout.wait_for("the first words", |text| text.starts_with("w1 ").then_some(()));
    assert!(process.is_running(), "they were held back to the end");
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
    assert!(start.elapsed() > Duration::from_millis(500));
    process.stdout.wait_for("the rest", |text| (text == "w1 w2 w3 w4 w5 \n").then_some(()));
}

#[test]
fn chat_needs_no_provider_and_tells_what_went_wrong() {
    let echo = Setup::empty().run(&["chat", "echo", "say this"]);
    assert_eq!((echo.status.code(), stdout(&echo)), (Some(0), "say this\n".to_owned()));

    let upstream = ScriptedUpstream::start();
    let setup = Setup::of(&upstream.base_url());
    for (model, words) in [
        ("up/status:401", "401 Unauthorized: scripted error 401"),
        ("up/cut:2", "broke off"),
        ("up/error-event:1", "scripted failure"),
        ("nobody", "There is no model `nobody`"),
    ] {
        let output = setup.run(&["chat", model, "hello"]);
        assert_eq!(output.status.code(), Some(1), "{model}");
        let errors = stderr(&output);
        assert!(errors.contains(words), "{model}: {errors}");
        assert!(!errors.contains(PROVIDER_KEY) && errors.lines().count() == 1, "{errors}");
    }
    let refused = Setup::of(&Refused::base_url()).run(&["chat", "up/ok", "hello"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("cannot connect"));
}
