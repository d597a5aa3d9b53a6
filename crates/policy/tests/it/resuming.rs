//! Where answers that break off are gone on with: as written, and as it is resolved.

use policy::plan::Resume;

use crate::given::{problems, provider, snapshot, snapshot_in};

const TWO: &str = "
providers:
  one: { base_url: 'http://10.0.0.5:8000/v1' }
  two: { base_url: 'http://10.0.0.6:8000/v1', profile: vllm }
models:
  plain: one/a
  away: { fallback: [one/a, two/b], resume: elsewhere }
  alone: { target: two/b, resume: anywhere }
  never: { target: two/b, resume: elsewhere }
  'any-*': { fallback: [one/*, two/*], resume: elsewhere }
  nowhere: { fallback: [one/a, one/b], resume: anywhere }
";

#[test]
fn a_plan_knows_whether_its_answers_are_gone_on_with() {
    let snapshot = snapshot(TWO);
    let resume = |model: &str| snapshot.plan(model).unwrap().resume();
    assert_eq!(resume("plain"), Resume::Off);
    assert_eq!(resume("away"), Resume::Elsewhere);
    assert_eq!(resume("alone"), Resume::Anywhere);
    assert_eq!(resume("any-x"), Resume::Elsewhere);
    assert_eq!(resume("two/b"), Resume::Off);
    let told: Vec<&String> =
        snapshot.warnings.iter().filter(|told| told.contains("`resume` has no effect")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("model never:") && told[1].starts_with("model nowhere:"));
}

#[test]
fn a_provider_is_given_a_beginning_as_its_profile_or_the_file_says() {
    let text = "
providers:
  moonshot: { api_key: k }
  own: { base_url: 'http://10.0.0.5:8000/v1', prefill: { message: { prefix: true }, request: { a: [1] }, path: /beta/ , repeats: true } }
  other: { base_url: 'http://10.0.0.5:8000/v1' }
";
    let snapshot = snapshot_in(text, &[]);
    let moonshot = provider(&snapshot, "moonshot").prefill.as_ref().unwrap();
    assert_eq!(moonshot.message, [("partial".into(), "true".into())]);
    assert_eq!((&*moonshot.base_path, moonshot.repeats), ("/v1", false));
    let own = provider(&snapshot, "own").prefill.as_ref().unwrap();
    assert_eq!(own.message, [("prefix".into(), "true".into())]);
    assert_eq!(own.request, [("a".into(), "[1]".into())]);
    assert_eq!((&*own.base_path, own.repeats), ("/beta", true));
    assert!(provider(&snapshot, "other").prefill.is_none());
}

#[test]
fn another_path_of_a_profile_is_that_of_its_own_host() {
    let at = |url: &str| {
        let text = format!("providers: {{ deepseek: {{ api_key: k, base_url: '{url}' }} }}");
        let snapshot = snapshot(&text);
        provider(&snapshot, "deepseek").prefill.as_ref().map(|it| it.base_path.to_string())
    };
    for url in ["https://api.deepseek.com", "https://api.deepseek.com/v1"] {
        assert_eq!(at(url).as_deref(), Some("/beta"), "{url}");
    }
    assert_eq!(at("https://proxy.test/beta").as_deref(), Some("/beta"));
    assert_eq!(at("https://proxy.test/v1"), None);
}

#[test]
fn what_magpie_sets_itself_is_not_to_be_set() {
    for (prefill, told) in [
        ("{ message: { role: user } }", "`role` of the message is Magpie's to set"),
        ("{ request: { messages: [] } }", "`messages` of the request is Magpie's to set"),
        ("{ request: { max_tokens: 1 } }", "`max_tokens` of the request is Magpie's to set"),
        ("{ path: beta }", "`beta` is no path"),
        ("{ path: /be?ta }", "`/be?ta` is no path"),
    ] {
        let text =
            format!("providers:\n  lab: {{ base_url: 'http://h/v1', prefill: {prefill} }}\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(told), "{found:?}");
    }
}
