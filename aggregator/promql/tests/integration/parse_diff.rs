//! The parser accepts, rejects, prints and describes queries exactly like Prometheus.

use serde_json::Value;
use tidemark_promql::{Features, ast_json, parse, pretty};

use crate::deviations::uses_newer_function;
use crate::peer::{self, Prometheus};

/// Valid and invalid queries, one per line; `\n` stands for a line break.
const CORPUS: &str = include_str!("parse_corpus.txt");

#[track_caller]
fn compare(peer: &Prometheus, features: Features, queries: &[String]) {
    let mut differences = Vec::new();
    for query in queries.iter().filter(|query| !uses_newer_function(query)) {
        let theirs = peer.api("/api/v1/parse_query", &[("query", query)]);
        let ours = parse(query, features);
        let difference = match (theirs["status"].as_str(), &ours) {
            (Some("success"), Ok(expr)) => {
                let tree: Value = serde_json::from_str(&ast_json(expr)).unwrap();
                let printed = peer.api("/api/v1/format_query", &[("query", query)]);
                let text = pretty(expr);
                if tree != theirs["data"] {
                    Some(format!(
                        "tree\n    ours   {tree}\n    theirs {}",
                        theirs["data"]
                    ))
                } else if printed["data"] != Value::String(text.clone()) {
                    Some(format!(
                        "print\n    ours   {text:?}\n    theirs {}",
                        printed["data"]
                    ))
                } else {
                    None
                }
            }
            (Some("error"), Err(error)) => {
                let theirs = theirs["error"].as_str().unwrap_or_default();
                let theirs = theirs.replace("invalid parameter \"query\": ", "");
                let ours = error.to_string();
                // Prometheus' parser panics on some second arguments of info().
                let crashed = theirs == "unexpected error";
                (ours != theirs && !crashed)
                    .then(|| format!("error\n    ours   {ours}\n    theirs {theirs}"))
            }
            (_, Ok(_)) => Some(format!("accepted, theirs {}", theirs["error"])),
            (_, Err(error)) => Some(format!("refused: {error}")),
        };
        differences.extend(difference.map(|text| format!("{query:?}: {text}")));
    }
    let count = differences.len();
    assert!(
        count == 0,
        "{count} of {} differ:\n{}",
        queries.len(),
        differences.join("\n")
    );
}

#[test]
fn parser_agrees_with_prometheus() {
    let Some(binary) = peer::binary() else {
        return;
    };
    let corpus: Vec<String> = CORPUS
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.replace("\\n", "\n"))
        .collect();
    let mut queries = corpus.clone();
    // Truncated queries, and queries with a word in the wrong place, test error messages.
    for query in &corpus {
        for (at, _) in query.char_indices().skip(1) {
            queries.push(query.split_at(at).0.to_owned());
        }
        for word in [
            ")", " foo", " 5m", "{", "[", ",", " by", " offset", " @", "=", " bool 1",
        ] {
            queries.push(format!("{query}{word}"));
            queries.push(format!("sum({query}{word})"));
        }
    }
    queries.sort();
    queries.dedup();
    let plain = Prometheus::start(&binary, "");
    compare(&plain, Features::default(), &queries);
    let features = Features {
        experimental_functions: true,
        duration_expressions: true,
        ..Features::default()
    };
    let flags = "promql-experimental-functions,promql-duration-expr";
    let experimental = Prometheus::start(&binary, flags);
    compare(&experimental, features, &queries);
}
