//! The built-in rules hold what the format promises, and a user's file is told what is wrong with it.

use super::*;
use crate::exit::Explain as _;

#[test]
fn every_built_in_rule_is_valid_and_matches_its_examples() {
    let all = Rules::built_in().unwrap();
    let mut found = Vec::new();
    for (name, text) in BUILT_IN {
        let rules = parse::file(name, text, true).unwrap_or_else(|error| panic!("{error}"));
        assert!(!rules.is_empty(), "{name}");
        for rule in &rules {
            assert!(!rule.examples.is_empty(), "{name}: {} has no example", rule.name);
            assert!(rule.says.ends_with('.'), "{name}: {} says no sentence", rule.name);
            for example in &rule.examples {
                all.candidates(example.as_bytes(), &mut found);
                let names: Vec<_> = found.iter().map(|(r, _)| &all.rules[*r].name).collect();
                assert!(names.contains(&&rule.name), "{}: not found by {example}", rule.name);
            }
        }
    }
}

#[test]
fn names_are_unique_over_all_files() {
    let each = BUILT_IN.iter().map(|(name, text)| parse::file(name, text, false).unwrap().len());
    assert_eq!(Rules::built_in().unwrap().all().len(), each.sum::<usize>());
}

#[test]
fn problems_come_with_their_lines() {
    let text = r#"
[[rule]]
name = "a"
class = "gpu-omm"
strength = "causal"
match = ['abc', '(unclosed text']
says = "x."

[[rule]]
name = "b"
class = "config"
strength = "cause"
match = ['unfit hostfile']
says = "x."
examples = ["another line"]
"#;
    let error = Rules::with(&[("my.toml".into(), text.into())]).unwrap_err();
    assert_eq!(error.class(), Class::Config);
    let text = error.to_string();
    for part in [
        "my.toml:4: there is no class 'gpu-omm'",
        "my.toml:5: there is no strength 'causal'",
        "my.toml:6: 'abc' needs 4 characters",
        "my.toml:15: the rule does not match its example",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let error = Rules::with(&[("my.toml".into(), "[[rule]]\nname = 3\n".into())]).unwrap_err();
    assert!(error.to_string().contains("my.toml:2: "), "{error}");
}

#[test]
fn a_users_rule_comes_first_and_replaces_its_namesake() {
    let text = "[[rule]]\nname = 'cuda-out-of-memory'\nclass = 'config'\nstrength = 'cause'\n\
        match = ['CUDA out of memory']\nsays = 'Ours.'\n";
    let rules = Rules::with(&[("my.toml".into(), text.into())]).unwrap();
    let found = rules.all().iter().filter(|rule| rule.name == "cuda-out-of-memory");
    assert_eq!(found.map(|rule| rule.class).collect::<Vec<_>>(), [Class::Config]);
    assert_eq!(rules.all()[0].says, "Ours.");
}
