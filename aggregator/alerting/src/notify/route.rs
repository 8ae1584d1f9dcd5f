//! The routing tree.

use std::collections::BTreeSet;
use std::time::Duration;

use common::model::{Labels, Matcher};

use super::matcher::{Grammar, format, matches_all, parse_with_grammar, sort};
use common::yaml::{Fields, Issue, Issues, Node, Position, Yaml};

/// The labels by which a route groups alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// All labels, configured as `['...']`.
    All,
    /// These labels.
    Labels(BTreeSet<String>),
}

/// A node of the routing tree, with inherited options resolved.
#[derive(Debug, Clone)]
pub struct Route {
    /// The matchers on the path from the root. They are the first part of a group's key.
    pub key: String,
    /// The name of the receiver.
    pub receiver: String,
    /// The labels by which alerts are grouped.
    pub group_by: GroupBy,
    /// The wait before the first notification of a group.
    pub group_wait: Duration,
    /// The time between two flushes of a group.
    pub group_interval: Duration,
    /// The time after which an unchanged notification is repeated.
    pub repeat_interval: Duration,
    /// The names of the intervals during which nothing is sent.
    pub mute_time_intervals: Vec<String>,
    /// The names of the intervals outside which nothing is sent.
    pub active_time_intervals: Vec<String>,
    /// The labels of the route, available to templates.
    pub labels: Labels,
    /// `continue`: whether later siblings are tried after a match.
    pub continues: bool,
    matchers: Vec<Matcher>,
    children: Vec<usize>,
}

/// The routing tree, root first.
#[derive(Debug, Clone)]
pub struct Routes {
    nodes: Vec<Route>,
}

impl Routes {
    /// Returns a tree whose only route leads to `receiver`.
    pub(super) fn to_receiver(receiver: &str) -> Self {
        let mut root = Route::root();
        "{}".clone_into(&mut root.key);
        receiver.clone_into(&mut root.receiver);
        Self { nodes: vec![root] }
    }

    /// Returns the indices of the routes that handle an alert with these labels, in the order of the tree.
    #[must_use]
    pub fn matching(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.descend(0, labels, &mut found);
        found
    }

    /// Collects the matching routes of a subtree. Returns whether its root node matched.
    fn descend(&self, index: usize, labels: &Labels, found: &mut Vec<usize>) -> bool {
        let Some(route) = self.nodes.get(index) else {
            return false;
        };
        if !matches_all(&route.matchers, labels) {
            return false;
        }
        let before = found.len();
        for &child in &route.children {
            let matched = self.descend(child, labels, found);
            if matched && !self.nodes.get(child).is_some_and(|child| child.continues) {
                break;
            }
        }
        if found.len() == before {
            found.push(index);
        }
        true
    }

    /// Returns the route with this index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Route> {
        self.nodes.get(index)
    }

    /// Iterates over all routes, the root first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.nodes.iter()
    }
}

impl Route {
    /// Returns the subset of `labels` that identifies the group.
    #[must_use]
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => labels.filtered(|name| names.contains(name)),
        }
    }

    fn root() -> Self {
        Self {
            key: String::new(),
            receiver: String::new(),
            group_by: GroupBy::Labels(BTreeSet::new()),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(300),
            repeat_interval: Duration::from_secs(4 * 3600),
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            labels: Labels::empty(),
            continues: false,
            matchers: Vec::new(),
            children: Vec::new(),
        }
    }
}

/// A reference to a receiver or an interval that the file must define.
#[derive(Debug)]
pub(super) struct Mention {
    pub(super) name: String,
    pub(super) position: Position,
    pub(super) is_receiver: bool,
}

pub(super) struct Reader<'i> {
    pub(super) issues: &'i mut Issues,
    pub(super) mentions: Vec<Mention>,
    nodes: Vec<Route>,
}

/// Reads the tree. The caller must check the returned references.
pub(super) fn read(node: &Node, issues: &mut Issues) -> (Routes, Vec<Mention>) {
    let mut reader = Reader {
        issues,
        mentions: Vec::new(),
        nodes: Vec::new(),
    };
    reader.route(node, None);
    if let Some(root) = reader.nodes.first() {
        if root.receiver.is_empty() {
            reader.issues.push(Issue::new(
                node.position,
                "root route must specify a default receiver",
            ));
        }
        if !root.matchers.is_empty() {
            reader.issues.push(Issue::new(
                node.position,
                "root route must not have any matchers",
            ));
        }
        if !root.mute_time_intervals.is_empty() || !root.active_time_intervals.is_empty() {
            reader.issues.push(Issue::new(
                node.position,
                "root route must not have any mute or active time intervals",
            ));
        }
        if root.continues {
            reader.issues.push(Issue::new(
                node.position,
                "cannot have continue in root route",
            ));
        }
    }
    (
        Routes {
            nodes: reader.nodes,
        },
        reader.mentions,
    )
}

impl Reader<'_> {
    fn route(&mut self, node: &Node, parent: Option<usize>) -> usize {
        let issues = &mut *self.issues;
        let mut fields = Fields::new(node, "config.Route", issues);
        let inherited = parent.and_then(|index| self.nodes.get(index)).cloned();
        let mut route = inherited.unwrap_or_else(Route::root);
        route.children.clear();
        route.continues = fields.bool("continue", issues).unwrap_or(false);
        if let Some(receiver) = fields
            .text("receiver", issues)
            .filter(|name| !name.is_empty())
        {
            let position = fields.position_of("receiver", node.position);
            self.mentions.push(Mention {
                name: receiver.clone(),
                position,
                is_receiver: true,
            });
            route.receiver = receiver;
        }
        if let Some(node) = fields.take("labels") {
            if parent.is_none() {
                issues.push(Issue::new(
                    node.position,
                    "root route must not have any labels",
                ));
            }
            route.labels = labels_over(&route.labels, node, issues);
        }
        if let Some(labels) = fields.take("group_by") {
            route.group_by = read_group_by(labels, issues);
        }
        read_durations(&mut fields, &mut route, node, issues);
        let mut intervals = |name: &str| {
            let names = fields
                .take(name)
                .map_or_else(Vec::new, |node| node.read_texts(issues));
            let position = fields.position_of(name, node.position);
            for name in &names {
                self.mentions.push(Mention {
                    name: name.clone(),
                    position,
                    is_receiver: false,
                });
            }
            names
        };
        route.mute_time_intervals = intervals("mute_time_intervals");
        route.active_time_intervals = intervals("active_time_intervals");
        route.matchers = read_matchers(&mut fields, ("match", "match_re", "matchers"), issues);
        let own = format(&route.matchers);
        let slash = if parent.is_some() { "/" } else { "" };
        route.key.push_str(slash);
        route.key.push_str(&own);
        let children = fields
            .take("routes")
            .map_or(&[][..], |node| node.read_list("[]*config.Route", issues));
        fields.finish(issues);
        let index = self.nodes.len();
        self.nodes.push(route);
        for child in children {
            if child.is_null() {
                self.issues
                    .push(Issue::new(child.position, "route is empty"));
            }
            let child = self.route(child, Some(index));
            if let Some(route) = self.nodes.get_mut(index) {
                route.children.push(child);
            }
        }
        index
    }
}

fn read_durations(fields: &mut Fields<'_>, route: &mut Route, node: &Node, issues: &mut Issues) {
    let mut duration = |name: &str, target: &mut Duration, must_be_positive: bool| {
        if let Some(duration) = fields.duration(name, issues) {
            if must_be_positive && duration.is_zero() {
                issues.push(Issue::new(node.position, format!("{name} cannot be zero")));
            }
            *target = duration;
        }
    };
    duration("group_wait", &mut route.group_wait, false);
    duration("group_interval", &mut route.group_interval, true);
    duration("repeat_interval", &mut route.repeat_interval, true);
}

/// Merges the labels of a route into those of its parent.
fn labels_over(inherited: &Labels, node: &Node, issues: &mut Issues) -> Labels {
    let mut labels = inherited.to_builder();
    for (name, value) in node.read_pairs(issues) {
        labels.set(name, value);
    }
    labels.build().unwrap_or_else(|error| {
        issues.push(Issue::new(node.position, error.to_string()));
        Labels::empty()
    })
}

fn read_group_by(node: &Node, issues: &mut Issues) -> GroupBy {
    let mut names = BTreeSet::new();
    let mut all = false;
    for name in node.read_texts(issues) {
        if name == "..." {
            all = true;
        } else if name.is_empty() {
            issues.push(Issue::new(
                node.position,
                "invalid label name \"\" in group_by list",
            ));
        } else if !names.insert(name.clone()) {
            issues.push(Issue::new(
                node.position,
                format!("duplicated label {name:?} in group_by"),
            ));
        }
    }
    if all && !names.is_empty() {
        let message = "cannot have wildcard group_by (`...`) and other labels at the same time";
        issues.push(Issue::new(node.position, message));
    }
    if all {
        GroupBy::All
    } else {
        GroupBy::Labels(names)
    }
}

/// Reports whether `name` is a classic label name without UTF-8, as `match` and `match_re` require.
fn is_classic_name(name: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_valid)
        && !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Reads matchers in both notations: the maps such as `match` and `match_re`, and the list `matchers`.
pub(super) fn read_matchers(
    fields: &mut Fields<'_>,
    names: (&str, &str, &str),
    issues: &mut Issues,
) -> Vec<Matcher> {
    let mut matchers = Vec::new();
    for (name, op) in [
        (names.0, common::model::MatchOp::Equal),
        (names.1, common::model::MatchOp::Regex),
    ] {
        let Some(node) = fields.take(name) else {
            continue;
        };
        let is_null = |value: &Node| op == common::model::MatchOp::Regex && value.is_null();
        if let Yaml::Map(entries) = &node.value
            && let Some((_, value)) = entries.iter().find(|(_, value)| is_null(value))
        {
            issues.push(Issue::new(value.position, "empty regexp matcher"));
        }
        for (label, value) in node.read_pairs(issues) {
            if !is_classic_name(&label) {
                let message = format!("invalid label name {label:?}");
                issues.push(Issue::new(node.position, message));
            }
            match Matcher::new(label, op, value) {
                Ok(matcher) => matchers.push(matcher),
                Err(error) => issues.push(Issue::new(node.position, error.to_string())),
            }
        }
    }
    if let Some(list) = fields.take(names.2) {
        for item in list.read_list("[]string", issues) {
            let text = item.read_text(issues);
            match parse_with_grammar(&text) {
                Ok((parsed, grammar)) => {
                    if grammar == Grammar::Classic {
                        tracing::warn!(
                            position = %item.position,
                            matchers = text,
                            read_as = format(&parsed),
                            "matchers were parsed by the classic grammar; quote names and values"
                        );
                    }
                    matchers.extend(parsed);
                }
                Err(error) => issues.push(Issue::new(item.position, error.to_string())),
            }
        }
    }
    sort(&mut matchers);
    matchers
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "
receiver: root
group_by: [alertname]
routes:
- match: {team: a}
  receiver: a
  continue: true
  routes:
  - {match_re: {sev: 'x|y'}, receiver: ax, group_by: ['...'], group_wait: 1s}
- {matchers: ['sev=\"crit\"', 'team!=\"\"'], receiver: pager}
- {matchers: ['sev=page'], receiver: pager, routes: [{matchers: [svc=web], receiver: svc}]}
";

    fn routes() -> Routes {
        let node = common::yaml::read_tree(TREE).unwrap().unwrap();
        let mut issues = Issues::new();
        let routes = read(&node, &mut issues).0;
        assert_eq!(issues, []);
        routes
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], want: &[&str]) {
        let routes = routes();
        let labels = Labels::from_pairs(pairs.iter().copied()).unwrap();
        let got: Vec<&str> = routes
            .matching(&labels)
            .iter()
            .map(|&i| routes.get(i).unwrap().receiver.as_str())
            .collect();
        assert_eq!(got, want, "{pairs:?}");
    }

    #[test]
    fn first_matching_child_wins_unless_it_continues() {
        check(&[], &["root"]);
        check(&[("team", "a")], &["a"]);
        check(&[("team", "a"), ("sev", "x")], &["ax"]);
        check(&[("team", "a"), ("sev", "crit")], &["a", "pager"]);
        check(&[("sev", "crit")], &["root"]);
        check(&[("sev", "page"), ("svc", "web")], &["svc"]);
        check(&[("sev", "page"), ("svc", "db")], &["pager"]);
    }

    #[test]
    fn children_inherit_unset_options() {
        let routes = routes();
        let child = routes.get(2).unwrap();
        assert_eq!(
            (child.group_by.clone(), child.group_wait),
            (GroupBy::All, Duration::from_secs(1))
        );
        assert_eq!(child.group_interval, Duration::from_secs(300));
        assert_eq!(child.key, r#"{}/{team="a"}/{sev=~"x|y"}"#);
        assert!(!child.continues);
    }
}
