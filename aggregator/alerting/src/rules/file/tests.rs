//! Each case has one mistake on one line. tests/integration compares the results with promtool's.

use super::*;

fn any(expr: &str) -> Result<(), String> {
    if expr == "bad(" {
        Err("1:5: parse error: unexpected end of input".to_owned())
    } else {
        Ok(())
    }
}

#[track_caller]
fn check(text: &str, want: &[&str]) {
    let issues = parse(text, &any).err().unwrap_or_default();
    let got: Vec<String> = issues.iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{text}");
}

#[test]
fn good_file_is_read_with_group_labels_under_rule_labels() {
    let text = "
x: &none
groups:
- name: g
  interval: 30s
  limit: 5
  query_offset: 1m
  labels: {team: a, sev: low}
  rules:
  - record: a:b
    expr: sum(x)
  - alert: A
    expr: x > 1
    for: 5m
    keep_firing_for: 1h
    labels: {sev: 1}
    annotations: {s: '{{ $value }}'}
";
    let groups = parse(&text.replace("x: &none\n", ""), &any).unwrap();
    assert_eq!(groups[0].interval, Some(Duration::from_secs(30)));
    assert_eq!((groups[0].limit, groups[0].rules.len()), (5, 2));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        groups[0].rules[1].labels,
        [pair("sev", "1"), pair("team", "a")]
    );
    assert!(parse("", &any).unwrap().is_empty());
    assert!(parse("groups:\n", &any).unwrap().is_empty());
    check(text, &["2:1: field x not found in type rulefmt.RuleGroups"]);
}

#[test]
fn mistakes_are_named_with_their_place() {
    check(
        "groups:\n- name: ''\n",
        &["2:3: Groupname must not be empty"],
    );
    check(
        "groups:\n- name: g\n- name: g\n",
        &["3:3: groupname: \"g\" is repeated in the same file"],
    );
    check(
        "groups:\n- name: g\n  nope: 1\n",
        &["3:3: field nope not found in type rulefmt.RuleGroup"],
    );
    check(
        "groups: 3\n",
        &["1:9: cannot unmarshal !!int `3` into []rulefmt.RuleGroup"],
    );
    check(
        "groups:\n- name: g\n  interval: 1x\n",
        &["3:13: not a valid duration string: \"1x\""],
    );
    check(
        "groups:\n- name: g\n  limit: x\n",
        &["3:10: cannot unmarshal !!str `x` into int"],
    );
    let rule = |body: &str| format!("groups:\n- name: g\n  rules:\n  - {body}\n");
    check(
        &rule("expr: x"),
        &["4:5: group \"g\", rule 1, \"\": one of 'record' or 'alert' must be set"],
    );
    check(
        &rule("{record: a, alert: b, expr: x}"),
        &["4:14: group \"g\", rule 1, \"b\": only one of 'record' and 'alert' must be set"],
    );
    check(
        &rule("alert: A"),
        &["4:5: group \"g\", rule 1, \"A\": field 'expr' must be set in rule"],
    );
    check(
        &rule("{alert: A, expr: bad(}"),
        &[
            "4:22: group \"g\", rule 1, \"A\": could not parse expression: 1:5: parse error: unexpected end of input",
        ],
    );
    check(
        &rule("{record: a, expr: x, for: 1m}"),
        &["4:14: group \"g\", rule 1, \"a\": invalid field 'for' in recording rule"],
    );
    check(
        &rule("{record: 'a{', expr: x}"),
        &[
            "4:14: group \"g\", rule 1, \"a{\": braces present in the recording rule name; should it be in expr?: a{",
        ],
    );
    check(
        &rule("{alert: A, expr: x, labels: {__name__: y}}"),
        &["4:5: group \"g\", rule 1, \"A\": invalid label name: __name__"],
    );
    check(
        &rule("{alert: A, expr: x, annotations: {s: '{{ $x }}'}}"),
        &[
            "4:5: group \"g\", rule 1, \"A\": annotation \"s\": template: __alert_A:1: undefined variable \"$x\"",
        ],
    );
}
