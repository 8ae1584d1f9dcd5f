use super::*;

fn issue_of(text: &str) -> String {
    read_tree(text).unwrap_err().to_string()
}

#[test]
fn anchors_and_merges_resolve_with_positions() {
    let node = read_tree("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\nc: *x\n")
        .unwrap()
        .unwrap();
    let mut issues = Issues::new();
    let mut fields = Fields::new(&node, "T", &mut issues);
    let b = fields.take("b").unwrap();
    assert_eq!(b.position, Position { line: 3, column: 3 });
    let mut pairs = b.read_pairs(&mut issues);
    pairs.sort();
    assert_eq!(
        pairs,
        [
            ("k".to_owned(), "1".to_owned()),
            ("l".to_owned(), "3".to_owned())
        ]
    );
    assert_eq!(fields.take("c").unwrap().read_pairs(&mut issues).len(), 2);
    fields.finish(&mut issues);
    assert_eq!(issues[0].to_string(), "1:1: field a not found in type T");
}

#[test]
fn comments_are_ignored_wherever_yaml_allows_them() {
    let many = "# one of many\n".repeat(300);
    let text = format!(
        "# before the document\n---\n# before the first key\n\
         map: # after a key\n  # before a nested key\n{many}  k: v # after a value\n\
         list: # after a key\n  # before an item\n{many}  - a # after an item\n  # after the items\n\
         flow: [b, # inside a flow sequence\n  c]\n# at the end\n...\n# after the document\n"
    );
    let node = read_tree(&text).unwrap().unwrap();
    let mut issues = Issues::new();
    let mut fields = Fields::new(&node, "T", &mut issues);
    let pairs = fields.take("map").unwrap().read_pairs(&mut issues);
    assert_eq!(pairs, [("k".to_owned(), "v".to_owned())]);
    let list = fields.take("list").unwrap().read_texts(&mut issues);
    assert_eq!(list, ["a"]);
    let flow = fields.take("flow").unwrap().read_texts(&mut issues);
    assert_eq!(flow, ["b", "c"]);
    fields.finish(&mut issues);
    assert!(issues.is_empty(), "{issues:?}");
}

#[test]
fn hostile_documents_are_refused() {
    assert_eq!(
        issue_of("a: 1\nb: 2\na: 3\n"),
        "3:1: yaml: mapping key \"a\" already defined at line 1"
    );
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..10 {
        let alias = format!("*a{},", n - 1).repeat(9);
        bomb.push_str(&format!("a{n}: &a{n} [{alias}]\n"));
    }
    assert!(issue_of(&bomb).contains("excessive aliasing"));
    assert!(read_tree(&"[".repeat(5000)).is_err());
    assert!(read_tree("a: [1\nb: 2").is_err());
    assert!(read_tree("").unwrap().is_none());
}
