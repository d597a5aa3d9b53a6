//! Without a file: every provider whose usual environment variable is set.

use crate::given::{base_url, goes, ids, provider, snapshot_in};

/// The variables that a key is usually kept in, and whose it is.
const USUAL: [(&str, &str); 14] = [
    ("XINGHE_API_KEY", "xinghe"),
    ("AISTUDIO_API_KEY", "xinghe"),
    ("QIANFAN_API_KEY", "qianfan"),
    ("DASHSCOPE_API_KEY", "qwen"),
    ("ZHIPUAI_API_KEY", "glm"),
    ("DEEPSEEK_API_KEY", "deepseek"),
    ("MOONSHOT_API_KEY", "moonshot"),
    ("ARK_API_KEY", "ark"),
    ("OPENAI_API_KEY", "openai"),
    ("OPENROUTER_API_KEY", "openrouter"),
    ("MINIMAX_API_KEY", "minimax"),
    ("GROQ_API_KEY", "groq"),
    ("SILICONFLOW_API_KEY", "siliconflow"),
    ("MISTRAL_API_KEY", "mistral"),
];

#[test]
fn each_usual_variable_brings_its_provider() {
    for (variable, id) in USUAL {
        let snapshot = snapshot_in("", &[(variable, "sk-found-1")]);
        assert_eq!(ids(&snapshot), [id, "echo"], "{variable}");
        let found = provider(&snapshot, id);
        assert_eq!(found.credential.as_ref().unwrap().expose(), "sk-found-1");
        let default = snapshot.default_route();
        assert_eq!(&*default.provider.id, id, "and its default model");
        assert!(snapshot.warnings.is_empty(), "{:?}", snapshot.warnings);
    }
}

#[test]
fn every_key_variable_of_every_profile_is_read() {
    for (id, profile) in ::providers::builtin().unwrap() {
        for variable in &profile.env.key {
            let own = format!("{}_BASE_URL", id.to_uppercase().replace('-', "_"));
            let variables = [(variable.as_str(), "k-1"), (own.as_str(), "https://h.test/v1")];
            let snapshot = snapshot_in("", &variables);
            let found = provider(&snapshot, &id);
            assert_eq!(found.credential.as_ref().unwrap().expose(), "k-1", "{variable}");
        }
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    for value in ["", "  ", "\n"] {
        let snapshot = snapshot_in("", &[("OPENAI_API_KEY", value), ("OLLAMA_HOST", value)]);
        assert_eq!(ids(&snapshot), ["echo"], "{value:?}");
    }
}

#[test]
fn the_first_variable_that_is_set_counts() {
    let variables = [("XINGHE_API_KEY", "first"), ("AISTUDIO_API_KEY", "second")];
    let snapshot = snapshot_in("", &variables);
    let credential = provider(&snapshot, "xinghe").credential.as_ref().unwrap();
    assert_eq!(credential.expose(), "first");
    let variables = [("XINGHE_API_KEY", " "), ("AISTUDIO_API_KEY", "second")];
    let snapshot = snapshot_in("", &variables);
    let credential = provider(&snapshot, "xinghe").credential.as_ref().unwrap();
    assert_eq!(credential.expose(), "second");
}

#[test]
fn xinghe_comes_first_then_the_others_by_name_then_the_echo() {
    let variables: Vec<(&str, &str)> = USUAL.iter().map(|(name, _)| (*name, "k-1")).collect();
    let snapshot = snapshot_in("", &variables);
    let mut found = ids(&snapshot);
    assert_eq!((found[0], found[found.len() - 1]), ("xinghe", "echo"));
    found.pop();
    assert!(found[1..].is_sorted(), "{found:?}");
    assert_eq!(found.len(), 13);
    assert_eq!(goes(&snapshot, "").unwrap(), "xinghe/ernie-4.5-turbo-128k");
}

#[test]
fn without_any_variable_the_echo_answers() {
    let snapshot = snapshot_in("", &[("HOME", "/root"), ("PATH", "/bin")]);
    assert_eq!(ids(&snapshot), ["echo"]);
    for model in ["", "default", "echo", "echo/echo", "echo/anything"] {
        assert!(goes(&snapshot, model).unwrap().starts_with("echo/"), "{model}");
    }
}

#[test]
fn ollamas_host_is_read_in_every_form_that_ollama_reads() {
    for (written, expected) in [
        ("127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434/v1"),
        ("localhost", "http://localhost:11434/v1"),
        ("gpu-box:9", "http://gpu-box:9/v1"),
        ("http://gpu-box:9/", "http://gpu-box:9/v1"),
        ("http://gpu-box:9/v1", "http://gpu-box:9/v1"),
        ("https://ollama.example.com", "https://ollama.example.com:443/v1"),
        ("https://example.com/ollama/v1/", "https://example.com:443/ollama/v1"),
        ("[::1]:11434", "http://::1:11434/v1"),
        ("[::1]", "http://::1:11434/v1"),
        (":11434", "http://127.0.0.1:11434/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("  localhost:7 \n", "http://localhost:7/v1"),
    ] {
        let snapshot = snapshot_in("", &[("OLLAMA_HOST", written)]);
        let ollama = provider(&snapshot, "ollama");
        assert_eq!(base_url(ollama), expected, "{written}");
        assert!(ollama.credential_header.is_none());
    }
}

#[test]
fn a_server_of_ones_own_is_only_there_if_it_is_said_where() {
    let keys = [("VLLM_API_KEY", "k"), ("LMSTUDIO_API_KEY", "k"), ("SGLANG_API_KEY", "k")];
    assert_eq!(ids(&snapshot_in("", &keys)), ["echo"]);
    let variables = [("VLLM_BASE_URL", "http://gpu:8000/v1"), ("VLLM_API_KEY", "k-1")];
    let snapshot = snapshot_in("", &variables);
    assert_eq!(ids(&snapshot), ["vllm", "echo"]);
    let vllm = provider(&snapshot, "vllm");
    assert_eq!(vllm.credential.as_ref().unwrap().expose(), "k-1");
}

#[test]
fn a_key_without_the_base_url_it_needs_is_warned_of() {
    let snapshot = snapshot_in("", &[("AZURE_OPENAI_API_KEY", "azure-secret")]);
    assert_eq!(ids(&snapshot), ["echo"]);
    assert_eq!(
        snapshot.warnings,
        ["azure has a key but no base URL: set AZURE_BASE_URL or AZURE_OPENAI_BASE_URL"]
    );
}

#[test]
fn the_built_in_data_for_any_server_is_no_provider_of_its_own() {
    let variables = [("OPENAI_COMPATIBLE_BASE_URL", "http://h/v1")];
    assert_eq!(ids(&snapshot_in("", &variables)), ["echo"]);
}
