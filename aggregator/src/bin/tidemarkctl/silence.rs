//! `tidemarkctl silence`.

use common::clock::{Clock as _, SystemClock};
use common::model::{MatchOp, Matcher};
use common::report::chain;
use http::Method;
use serde_json::{Value, json};
use tidemark_alerting::notify::matcher::parse;
use tidemark_alerting::notify::message::format_time;

use super::args::Silence;
use super::client::Client;
use super::output::{Failure, Output, Table};

pub(crate) fn run(client: &Client, output: &Output, command: &Silence) -> Result<(), Failure> {
    match command {
        Silence::Add {
            matchers,
            duration,
            author,
            comment,
        } => {
            let author = author
                .clone()
                .or_else(|| std::env::var("USER").ok())
                .unwrap_or_default();
            add(client, matchers, duration, (&author, comment))
        }
        Silence::Query { matchers, expired } => query(client, output, matchers, *expired),
        Silence::Expire { ids } => {
            for id in ids {
                client.v2(Method::DELETE, &format!("silence/{id}"), &[], None)?;
            }
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the id is the result")]
fn add(
    client: &Client,
    texts: &[String],
    duration: &str,
    (author, comment): (&str, &str),
) -> Result<(), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::Failed(chain(error));
    let mut matchers: Vec<Matcher> = Vec::new();
    for text in texts {
        matchers.extend(parse(text).map_err(|error| failed(&error))?);
    }
    let matchers: Vec<Value> = matchers
        .iter()
        .map(|matcher| {
            json!({
                "name": matcher.name(),
                "value": matcher.value(),
                "isRegex": matches!(matcher.op(), MatchOp::Regex | MatchOp::NotRegex),
                "isEqual": matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex),
            })
        })
        .collect();
    let duration = common::duration::parse(duration).map_err(|error| failed(&error))?;
    let now_ms = SystemClock.now_ms();
    let body = json!({
        "matchers": matchers,
        "startsAt": format_time(now_ms),
        "endsAt": format_time(now_ms + duration.as_millis() as i64),
        "createdBy": author,
        "comment": comment,
    });
    let answer = client.v2(Method::POST, "silences", &[], Some(&body))?;
    println!(
        "{}",
        answer
            .get("silenceID")
            .and_then(Value::as_str)
            .unwrap_or_default()
    );
    Ok(())
}

fn query(
    client: &Client,
    output: &Output,
    matchers: &[String],
    expired: bool,
) -> Result<(), Failure> {
    let mut parameters: Vec<(&str, &str)> = matchers
        .iter()
        .map(|text| ("filter", text.as_str()))
        .collect();
    let (over, others) = if expired {
        ("true", "false")
    } else {
        ("false", "true")
    };
    parameters.extend([("expired", over), ("active", others), ("pending", others)]);
    let data = client.v2(Method::GET, "silences", &parameters, None)?;
    output.print(&data, |_| {
        let mut table = Table::new(&["id", "state", "matchers", "ends", "by", "comment"]);
        for silence in data.as_array().into_iter().flatten() {
            let text = |path: &str| {
                silence
                    .pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let matchers = silence
                .get("matchers")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let matchers: Vec<String> = matchers.map(matcher_text).collect();
            table.rows.push(vec![
                text("/id"),
                text("/status/state"),
                matchers.join(" "),
                text("/endsAt"),
                text("/createdBy"),
                text("/comment"),
            ]);
        }
        table
    })
}

fn matcher_text(matcher: &Value) -> String {
    let text = |name: &str| {
        matcher
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let flag = |name: &str, default: bool| {
        matcher
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or(default)
    };
    let op = match (flag("isRegex", false), flag("isEqual", true)) {
        (false, true) => "=",
        (false, false) => "!=",
        (true, true) => "=~",
        (true, false) => "!~",
    };
    format!("{}{op}{:?}", text("name"), text("value"))
}
