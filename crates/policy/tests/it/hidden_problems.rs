//! What is wrong beside a `$` is told as well as anywhere else, and nothing of the environment with
//! it.

use policy::Environment;

use crate::given::{environment, told};

const SECRET: &str = "canary-51c0e7f2a94b";

fn problems(text: &str, more: &[(&str, &str)]) -> Vec<String> {
    let variables: Environment = environment(&[&[("SECRET", SECRET)], more].concat());
    let problems = told(&policy::load(text, &variables).unwrap_err());
    for problem in &problems {
        assert!(!problem.contains(SECRET), "{problem}");
    }
    problems
}

#[test]
fn a_dollar_sign_hides_nothing() {
    for (text, expected) in [
        (
            "teams:\n  a:\n    budget: \"$x/day\"\n",
            "3:5 \"$x\" is no amount of money; write $1.5, ¥50 or 50 CNY | -",
        ),
        (
            "teams:\n  a:\n    budget: $5/dya\n",
            "3:5 `dya` is no period; write day, week, month, total, or for example 30d | -",
        ),
        (
            "teams:\n  a: { budget: \"$5\" }\n",
            "2:6 `$5` is no budget; write for example ¥50/day | -",
        ),
        (
            "teams:\n  a: { models: [\"$x\"], expires: \"$soon\" }\n",
            "2:6 `$soon` is no date; write 2027-12-31 or 2027-12-31T12:00:00Z | -",
        ),
    ] {
        assert_eq!(problems(text, &[]), [expected], "{text}");
    }
}

#[test]
fn nor_does_a_reference_hide_what_is_wrong_beside_it() {
    for (wrong, expected) in [
        ("bugdet: $5/day", "2:5 unknown field `bugdet` | -"),
        (
            "budget: $5/dya",
            "2:5 `dya` is no period; write day, week, month, total, or for example 30d | -",
        ),
        ("models: 5", "4:5 invalid type: integer `5`, expected a sequence | -"),
        ("limits: { tpx: 5 }", "4:5 unknown option `tpx` | did you mean `tpd`?"),
        (
            "budget: { amount: $5, period: day, on_exhausted: nope }",
            "4:5 `nope` is not a value of this option | one of: refuse, downgrade, alert",
        ),
    ] {
        // In front of it, behind it, and in other entries.
        let text = format!("keys:\n  - name: ci\n    key: ${{SECRET}}\n    {wrong}\n");
        assert_eq!(problems(&text, &[]), [expected], "{wrong}");
        let text = format!(
            "{text}  - {{ name: cd, key: \"${{SECRET}}\" }}\nworkers: ${{WORKERS}}\nopen: ${{OPEN}}\n"
        );
        let more = [("WORKERS", "2"), ("OPEN", "true")];
        assert_eq!(problems(&text, &more), [expected], "{wrong}");
    }
}

#[test]
fn what_cannot_be_told_without_the_environment_names_the_variable() {
    // The value itself is wrong: the reference stands for it.
    let budget = "teams:\n  a:\n    budget: ${SECRET}\n";
    assert_eq!(
        problems(budget, &[]),
        ["3:5 `${SECRET}` is no budget; write for example ¥50/day | -"]
    );
    // It may be the one or the other.
    let text = "teams:\n  a:\n    expires: ${DATE}\n  b: { expires: \"${DATE}\", budget: x/day }\n";
    assert_eq!(
        problems(text, &[("DATE", "2027-01-01")]),
        ["4:6 ${DATE}, or a value beside it, is not what it has to be here | \
          values of the environment are not shown; write one out to see what is wrong"]
    );
    // A reference that does not hold is told as before.
    let text = "keys:\n  - { name: ci, key: \"${NOT_THERE}\", budget: \"$x\" }\n";
    let told = problems(text, &[]);
    assert!(told[0].contains("the environment variable NOT_THERE is not set"), "{told:?}");
}

/// A part of a value, in whatever words, is a part of a secret.
#[test]
fn no_part_of_a_value_is_told() {
    for entry in ["budget: ${A}/day", "budget: 5/${A}", "expires: ${A}", "limits: { rpm: ${A} }"] {
        for value in ["9f86d081884c7d65", "123456789012", "12 34/day/56", "x/y"] {
            let text = format!("teams:\n  a:\n    {}\n", entry.replace("${A} }", "\"${A}\" }"));
            let variables = environment(&[("A", value)]);
            let Err(problems) = policy::load(&text, &variables) else { continue };
            for problem in told(&problems) {
                assert!(!problem.contains(value), "{entry} {value}: {problem}");
            }
        }
    }
}
