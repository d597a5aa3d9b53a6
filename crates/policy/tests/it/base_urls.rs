//! Base URLs from the environment: `<NAME>_BASE_URL`, and what is missing in them.

use crate::given::{base_url, provider, snapshot_in};

fn read(text: &str, id: &str, variables: &[(&str, &str)]) -> String {
    let snapshot = snapshot_in(text, variables);
    base_url(provider(&snapshot, id))
}

#[test]
fn a_variable_of_the_providers_name_replaces_the_profiles_base_url() {
    for (key, variable, id) in [
        ("OPENAI_API_KEY", "OPENAI_BASE_URL", "openai"),
        ("XINGHE_API_KEY", "XINGHE_BASE_URL", "xinghe"),
        ("XINGHE_API_KEY", "AISTUDIO_BASE_URL", "xinghe"),
        ("DASHSCOPE_API_KEY", "DASHSCOPE_BASE_URL", "qwen"),
        ("DASHSCOPE_API_KEY", "QWEN_BASE_URL", "qwen"),
        ("DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL", "deepseek"),
        ("AISTUDIO_APP_API_KEY", "AISTUDIO_APP_BASE_URL", "aistudio-app"),
        ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_BASE_URL", "azure"),
    ] {
        let variables = [(key, "k"), (variable, "https://app-1.aistudio-app.com/v1/")];
        assert_eq!(read("", id, &variables), "https://app-1.aistudio-app.com:443/v1", "{variable}");
    }
}

#[test]
fn the_variable_of_the_name_comes_before_the_others() {
    let variables = [
        ("XINGHE_API_KEY", "k"),
        ("XINGHE_BASE_URL", "https://one.test/v1"),
        ("AISTUDIO_BASE_URL", "https://two.test/v1"),
    ];
    assert_eq!(read("", "xinghe", &variables), "https://one.test:443/v1");
}

#[test]
fn a_variable_replaces_the_base_url_of_a_provider_in_the_file_but_not_one_written_there() {
    let variables = [("MY_LAB_BASE_URL", "http://env.test/v1")];
    let open = "providers:\n  my-lab: { profile: sglang }\n";
    assert_eq!(read(open, "my-lab", &variables), "http://env.test:80/v1");
    let written = "providers:\n  my-lab: { profile: sglang, base_url: http://file.test/v2 }\n";
    assert_eq!(read(written, "my-lab", &variables), "http://file.test:80/v2");
}

#[test]
fn what_is_missing_is_taken_from_the_profile() {
    for (written, expected) in [
        ("https://proxy.test", "https://proxy.test:443/v1"),
        ("https://proxy.test/", "https://proxy.test:443/v1"),
        ("http://proxy.test:81", "http://proxy.test:81/v1"),
        ("https://proxy.test/openai", "https://proxy.test:443/openai"),
    ] {
        let variables = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", written)];
        assert_eq!(read("", "openai", &variables), expected, "{written}");
    }
}

#[test]
fn what_a_profile_without_a_base_url_is_given_stays_as_it_is() {
    let variables = [("AISTUDIO_APP_API_KEY", "k"), ("AISTUDIO_APP_BASE_URL", "https://a.test")];
    assert_eq!(read("", "aistudio-app", &variables), "https://a.test:443");
}
