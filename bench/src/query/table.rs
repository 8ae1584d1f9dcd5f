//! The results of all questions, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Measured;
use super::answer::Difference;
use crate::server::ServerKind;

/// Relative difference above which values count as different. No server guarantees the order of a sum over many series.
const TOLERANCE: f64 = 1e-9;

type Row = (&'static str, Vec<Measured>);

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn of<'a>(kinds: &[ServerKind], row: &'a Row, kind: ServerKind) -> Option<&'a Measured> {
    let index = kinds.iter().position(|k| *k == kind)?;
    row.1.get(index)
}

/// Returns our CPU time divided by that of the better peer.
fn ratio(kinds: &[ServerKind], row: &Row) -> Option<f64> {
    let cpu = |kind| {
        of(kinds, row, kind)
            .filter(|m| m.failure.is_none())
            .map(|m| ms(m.cpu))
    };
    let ours = cpu(ServerKind::Tidemark)?;
    let peers = [
        cpu(ServerKind::Prometheus),
        cpu(ServerKind::VictoriaMetrics),
    ];
    let best = peers.into_iter().flatten().reduce(f64::min)?;
    Some(ours / best)
}

/// Compares a server's answer with that of Prometheus.
fn agreement(kinds: &[ServerKind], row: &Row, kind: ServerKind) -> Option<String> {
    let right = of(kinds, row, ServerKind::Prometheus)?;
    let answer = of(kinds, row, kind)?;
    if let Some(failure) = &answer.failure {
        return Some(format!("FAILED: {failure}"));
    }
    Some(match answer.answer.difference(&right.answer) {
        Difference::Values(largest) if largest <= TOLERANCE => "same".to_owned(),
        Difference::Values(largest) => format!("values {largest:.0e} apart"),
        Difference::Shape(count) => format!("{count} series or points differ"),
    })
}

fn result(row: &Row) -> String {
    let Some(first) = row.1.iter().find(|measured| measured.failure.is_none()) else {
        return String::new();
    };
    let (series, points) = (first.answer.len(), first.answer.points());
    if points > series {
        format!("{series} series, {points} points")
    } else {
        format!("{series} series")
    }
}

/// Renders one row per question, with times in milliseconds.
pub(super) fn markdown(title: &str, kinds: &[ServerKind], rows: &[Row]) -> String {
    let mut text = format!("{title}\n\n| question | result |");
    // Writing to a string can't fail.
    for kind in kinds {
        let name = kind.name();
        write!(text, " {name} cold | p50 / p95 | CPU-ms |").ok();
    }
    write!(text, " ours/better peer, CPU | ours against prometheus |").ok();
    write!(
        text,
        " VM without cache, CPU-ms | VM against prometheus |\n|-|-|"
    )
    .ok();
    writeln!(text, "{}-:|-|-:|-|", "-:|-:|-:|".repeat(kinds.len())).ok();
    for row in rows {
        write!(text, "| {} | {} |", row.0, result(row)).ok();
        for m in &row.1 {
            let (cold, p50, p95) = (ms(m.cold), ms(m.warm(0.5)), ms(m.warm(0.95)));
            write!(
                text,
                " {cold:.1} | {p50:.2} / {p95:.2} | {:.2} |",
                ms(m.cpu)
            )
            .ok();
        }
        let ratio = ratio(kinds, row).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let victoria = of(kinds, row, ServerKind::VictoriaMetrics);
        let nocache = victoria.and_then(|m| m.cpu_nocache);
        let nocache = nocache.map_or_else(String::new, |cpu| format!("{:.2}", ms(cpu)));
        let ours = agreement(kinds, row, ServerKind::Tidemark).unwrap_or_default();
        let theirs = agreement(kinds, row, ServerKind::VictoriaMetrics).unwrap_or_default();
        writeln!(text, " {ratio} | {ours} | {nocache} | {theirs} |").ok();
    }
    write!(text, "| **one of each** | |").ok();
    for cpu in sums(kinds, rows) {
        write!(text, " | | **{cpu:.1}** |").ok();
    }
    let nocache = rows
        .iter()
        .filter_map(|row| of(kinds, row, ServerKind::VictoriaMetrics)?.cpu_nocache);
    let nocache: Duration = nocache.sum();
    writeln!(
        text,
        " {} | | {:.1} | |",
        total_ratio(kinds, rows),
        ms(nocache)
    )
    .ok();
    text
}

fn sums(kinds: &[ServerKind], rows: &[Row]) -> Vec<f64> {
    (0..kinds.len())
        .map(|index| {
            rows.iter()
                .filter_map(|row| row.1.get(index))
                .map(|m| ms(m.cpu))
                .sum()
        })
        .collect()
}

/// Empty if a question failed: a sum without it would be too low.
fn total_ratio(kinds: &[ServerKind], rows: &[Row]) -> String {
    if rows
        .iter()
        .flat_map(|row| &row.1)
        .any(|m| m.failure.is_some())
    {
        return String::new();
    }
    let sums = sums(kinds, rows);
    let of = |wanted: ServerKind| {
        kinds
            .iter()
            .position(|kind| *kind == wanted)
            .map(|i| sums[i])
    };
    let peers = [of(ServerKind::Prometheus), of(ServerKind::VictoriaMetrics)];
    match (
        of(ServerKind::Tidemark),
        peers.into_iter().flatten().reduce(f64::min),
    ) {
        (Some(ours), Some(best)) => format!("**{:.2}**", ours / best),
        _ => String::new(),
    }
}

/// Returns the results as JSON, by question and server.
pub(super) fn json(kinds: &[ServerKind], rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let servers = kinds.iter().zip(&row.1).map(|(kind, m)| {
            let figures = json!({
                "cold_ms": ms(m.cold),
                "p50_ms": ms(m.warm(0.5)),
                "p95_ms": ms(m.warm(0.95)),
                "cpu_ms": ms(m.cpu),
                "cpu_nocache_ms": m.cpu_nocache.map(ms),
                "against_prometheus": agreement(kinds, row, *kind),
                "series": m.answer.len(),
                "points": m.answer.points(),
            });
            (kind.name().to_owned(), figures)
        });
        let servers: serde_json::Map<String, Value> = servers.collect();
        json!({ "question": row.0, "servers": servers, "ratio": ratio(kinds, row) })
    });
    rows.collect()
}
