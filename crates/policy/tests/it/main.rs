//! Tests of the crate `policy`.
#[test]
fn probe() {
    let env = policy::Environment::from([("KEY".to_owned(), "sk-secret-1".to_owned())]);
    for text in [
        "workers: ${KEY}\n",
        "providers:\n  openai:\n    api_key: [a, b]\n    http: ${KEY}\n    auth: ${KEY}\n",
        "providers:\n  openai:\n    api_key: 12345\n",
        "hostz:\n- a\n- b\nopne: true\n",
        "open: ${KEY}\n",
        "models:\n  a: [1]\n  b: {targt: x}\n  c: 5\n  d: null\n",
        "models: { a: x/y,\n  b: [1] }\nopne: 1\n",
        "listen: a\n  b: [\n",
        "open: yes\n", "open: on\n", "a: b: c\n", "- a\n", "\"x", "open: true\nopen: false\n",
        "listen: \"$KEY ${KEY} $${KEY} ${NOPE:-fall back} ${KEY:-x} ${E:-}\"\n",
        "listen: ${NOPE}\nworkers: ${NOPE2}\nshutdown_grace: ${NOPE}\n",
        "log: { format: txt, requests: 1 }\nmetering: x\ntimeouts: { idle: 5 }\nworkers: -3\n",
        "listen: &a x\nhosts: [*a, *b]\n", "\topen: true\n", "open: true\n...\n---\nopen: false\n",
        "providers:\n  x:\n    models: gpt\n    errors: [{}]\n    headers: {set: [a]}\n    request: {defauls: {}}\nlimits:\n  bodi: 3\n", "providers:\n", "models:\n  a:\n", "timeouts:\n",
        "listen: ${KEY\n", "listen: ${}\n", "listen: ${KEY:?needed}\n", "listen: ${lower}\n", "# only ${NOPE}\n", "open: true # ${NOPE}\n",
    ] {
        println!("=== {text}");
        match policy::load(text, &env) {
            Ok(config) => println!("OK listen={:?} open={:?} hosts={:?} {:?} models={:?}", config.listen, config.open, config.hosts, config.providers, config.models),
            Err(problems) => for p in problems { println!("{}:{} {p}", p.place.line, p.place.column) },
        }
    }
}
