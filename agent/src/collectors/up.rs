//! `up` of the scrape jobs that the agent replaces. Dashboards list nodes by it, and alerts fire on it.
//!
//! If the agent itself is gone, these series end with all others of the node, and the aggregator's `up{job="agent"}`
//! is 0.

use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::kube::KubeletData;
use crate::schema::{FamilyDef, Target, gauge};

/// The family's name. Scrapers create series of this name themselves.
pub const UP: &str = "up";

static FAMILY: FamilyDef = gauge(UP, "Whether the target is there: 1, or 0.");

/// Collects `up`.
#[derive(Debug)]
pub struct Up {
    node: Single,
    /// `None` if containers are not read.
    cadvisor: Option<Single>,
    /// `None` without a kubelet.
    kubelet: Option<(Single, KubeletData)>,
}

impl Up {
    /// A collector for a node whose containers may be read and whose kubelet may be asked.
    #[must_use]
    pub fn new(reads_containers: bool, kubelet: Option<KubeletData>) -> Self {
        let single = |target| Single::new(target, &FAMILY);
        Self {
            node: single(Target::Node),
            cadvisor: reads_containers.then(|| single(Target::Cadvisor)),
            kubelet: kubelet.map(|data| (single(Target::Kubelet), data)),
        }
    }
}

impl Collector for Up {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        self.node.set(context.table, context.schema, 1.0);
        if let Some(cadvisor) = &mut self.cadvisor {
            cadvisor.set(context.table, context.schema, 1.0);
        }
        if let Some((kubelet, data)) = &mut self.kubelet
            && let Some(is_up) = data.is_up()
        {
            kubelet.set(context.table, context.schema, f64::from(u8::from(is_up)));
        }
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn each_job_is_up_and_the_kubelet_while_it_answers() {
        let mut bench = Bench::new();
        let data = KubeletData::default();
        let mut up = Up::new(true, Some(data.clone()));
        let kubelet = [("job", "kubelet"), ("metrics_path", "/metrics")];
        bench.collect(&mut up);
        assert_eq!(bench.value(UP, &[("job", "node-exporter")]), Some(1.0));
        let cadvisor = [("job", "kubelet"), ("metrics_path", "/metrics/cadvisor")];
        assert_eq!(bench.value(UP, &cadvisor), Some(1.0));
        assert_eq!(bench.value(UP, &kubelet), None, "not asked yet");
        data.set_summary(Some(serde_json::from_str(r#"{"node":{}}"#).unwrap()));
        bench.collect(&mut up);
        assert_eq!(bench.value(UP, &kubelet), Some(1.0));
        data.set_summary(None);
        bench.collect(&mut up);
        assert_eq!(bench.value(UP, &kubelet), Some(0.0));
    }

    #[test]
    fn jobs_that_are_not_read_have_no_up() {
        let mut bench = Bench::new();
        bench.collect(&mut Up::new(false, None));
        assert_eq!(bench.value(UP, &[("job", "kubelet")]), None);
        assert_eq!(bench.value(UP, &[("job", "node-exporter")]), Some(1.0));
    }
}
