//! Late samples: those within the retention are stored, and older ones are counted by sender.

use common::model::Labels;

use super::sender::Sender;
use super::{metric, number, peer, quic_address};
use crate::harness::{Aggregator, now_ms};
use crate::remote::{series, write};

const SERIES: u32 = 30;
const MINUTE_MS: i64 = 60_000;

/// T-12.
#[test]
fn late_samples_are_stored_within_the_retention_and_counted_by_sender_beyond_it() {
    let mut aggregator = Aggregator::start_with(&["--storage.retention.time=2h"]);
    let address = quic_address(&mut aggregator);
    let token = peer::token(&aggregator);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let now = now_ms();
    // Minutes before now, of three agents: out of order, and the last three of the second agent too old.
    let ticks: [(&str, &[i64]); 3] = [
        ("n1", &[1, 50, 20, 90]),
        ("n2", &[0, 60, 125, 240, 100_000]),
        ("n3", &[180]),
    ];
    for (node, minutes) in ticks {
        runtime.block_on(async {
            let known = peer::join(&address, &token, node).await.unwrap();
            let mut sender = Sender::connect(&address, &known, node, 0).await;
            let of =
                |n: u32| Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())]).unwrap();
            let all = (0..SERIES).map(|n| (n, of(n)));
            sender.schema(true, 0..0, all).await;
            for &minutes in minutes {
                let values: Vec<_> = (0..SERIES).map(|n| (n, minutes as f64)).collect();
                sender.tick(now - minutes * MINUTE_MS, &values).await;
            }
            sender.acknowledged().await;
        });
    }
    let each = f64::from(SERIES);
    let stored = |node: &str| {
        let query = format!(r#"sum(count_over_time(m{{node="{node}"}}[115m]))"#);
        number(&aggregator, &query).map(|count| count / each)
    };
    assert_eq!(stored("n1"), Some(4.0));
    assert_eq!(stored("n2"), Some(2.0));
    assert_eq!(stored("n3"), None);
    let agents = aggregator.get("/api/v1/agents").data();
    for (index, too_old) in [0, 3, 1].into_iter().enumerate() {
        let agent = &agents["agents"][index];
        let want = too_old * u64::from(SERIES);
        assert_eq!(agent["tooOldSamples"], want, "{agent}");
        assert_eq!(agent["refusedSamples"], want, "{agent}");
    }
    let refused = r#"aggregator_ingest_samples_total{result="refused"}"#;
    assert_eq!(metric(&aggregator, refused), 4.0 * each);

    // The answer to remote write names number and series; the client may send the other samples again.
    let minutes = |list: &[i64]| -> Vec<(i64, f64)> {
        let sample = |&minutes: &i64| (now - minutes * MINUTE_MS, 1.0);
        list.iter().map(sample).collect()
    };
    let late = minutes(&[3, 2, 150, 300, 1]);
    let answer = write(&aggregator, vec![series(&[("__name__", "w")], &late)]);
    assert_eq!(answer.status, 400);
    let text = answer.text();
    assert!(
        text.starts_with("2 samples refused; out of bounds: "),
        "{text}"
    );
    let too_old = r#"aggregator_remote_write_refused_samples_total{user="",reason="too_old"}"#;
    assert_eq!(metric(&aggregator, too_old), 2.0);
    assert_eq!(number(&aggregator, "count_over_time(w[115m])"), None);
    let good = minutes(&[3, 1, 2]);
    let answer = write(&aggregator, vec![series(&[("__name__", "w")], &good)]);
    assert_eq!(answer.status, 204);
    assert_eq!(number(&aggregator, "count_over_time(w[115m])"), Some(3.0));
    assert_eq!(metric(&aggregator, too_old), 2.0);
}
