//! Kernel release and node name, from uname(2).

use nix::sys::utsname;

use crate::collect::{CollectContext, Collector, Outcome};
use crate::schema::{FamilyDef, Target, info};
use crate::table::SeriesId;

const INFO: FamilyDef = info(
    "node_uname_info",
    "Labeled system information as provided by the uname system call.",
);

/// node-mixin's dashboards list instances by this family. Its version is the agent's.
const BUILD: FamilyDef = info(
    "node_exporter_build_info",
    "Labeled version of the program that stands in for node_exporter.",
);

/// Collects `node_uname_info` and `node_exporter_build_info`.
#[derive(Debug)]
pub struct Uname {
    /// The node's name, if uname would return the pod's.
    nodename: Option<String>,
    series: Option<[SeriesId; 2]>,
}

impl Uname {
    /// A collector. `nodename` replaces the kernel's for agents in a UTS namespace of their own.
    #[must_use]
    pub const fn new(nodename: Option<String>) -> Self {
        Self {
            nodename,
            series: None,
        }
    }
}

impl Collector for Uname {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        if self.series.is_none() {
            let Ok(uname) = utsname::uname() else {
                return Outcome::NoData;
            };
            let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
            let nodename = self
                .nodename
                .take()
                .unwrap_or_else(|| text(uname.nodename()));
            let build = context.schema.series(
                context.table,
                Target::Node,
                &BUILD,
                &[("version", env!("CARGO_PKG_VERSION"))],
            );
            let info = context.schema.series(
                context.table,
                Target::Node,
                &INFO,
                &[
                    ("sysname", &text(uname.sysname())),
                    ("release", &text(uname.release())),
                    ("version", &text(uname.version())),
                    ("machine", &text(uname.machine())),
                    ("nodename", &nodename),
                    ("domainname", &text(uname.domainname())),
                ],
            );
            self.series = Some([info, build]);
        }
        self.series
            .into_iter()
            .flatten()
            .for_each(|series| context.table.set(series, 1.0));
        Outcome::Done
    }
}
