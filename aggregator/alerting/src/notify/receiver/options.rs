//! Reads the options of one integration.

use std::path::Path;
use std::time::Duration;

use common::secret::REDACTED;
use common::yaml::{Fields, Issue, Issues, Node};
use serde_json::{Map, Value as Json};

use super::http::{self, HttpConfig};
use super::source::{SecretSource, secret};
use super::{Global, url};
use crate::template::{notification, parses};

/// The options of one entry of `KIND_configs`, and the defaults that apply to it.
#[derive(Debug)]
pub(super) struct OptionsReader<'a, 'i> {
    pub(super) node: &'a Node,
    pub(super) global: &'a Global,
    /// The folder to which file names are relative.
    pub(super) folder: &'a Path,
    pub(super) fields: Fields<'a>,
    pub(super) issues: &'i mut Issues,
}

impl OptionsReader<'_, '_> {
    pub(super) fn text(&mut self, name: &str, default: &str) -> String {
        self.fields
            .text(name, self.issues)
            .unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn bool(&mut self, name: &str, default: bool) -> bool {
        self.fields.bool(name, self.issues).unwrap_or(default)
    }

    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        self.fields
            .take(name)
            .map_or_else(Vec::new, |node| node.read_texts(self.issues))
    }

    pub(super) fn secret(&mut self, name: &str) -> SecretSource {
        secret(&mut self.fields, name, self.folder, self.issues)
    }

    /// Reads a secret whose file takes precedence if both are set, like mail passwords in Alertmanager.
    pub(super) fn secret_or_file(&mut self, name: &str) -> SecretSource {
        let mut issues = Issues::new();
        let file = self.fields.take(&format!("{name}_file"));
        let read = secret(&mut self.fields, name, self.folder, &mut issues);
        match file.map(|node| node.read_text(self.issues)) {
            Some(path) if !path.is_empty() => SecretSource::File(self.folder.join(path)),
            _ => {
                self.issues.append(&mut issues);
                read
            }
        }
    }

    /// Reads the secret URL `name`.
    pub(super) fn secret_url(&mut self, name: &str) -> SecretSource {
        let source = self.secret(name);
        if let SecretSource::Inline(text) = &source {
            self.check_url(text.expose());
        }
        source
    }

    /// Reads the secret URL `name`, or its template if it contains `{{`.
    pub(super) fn secret_url_template(&mut self, name: &str) -> SecretSource {
        let source = self.secret(name);
        match &source {
            SecretSource::Inline(text) if text.expose().contains("{{") => {
                if let Err(error) = parses(text.expose(), notification::lookup) {
                    self.require(false, &format!("invalid template: {error}"));
                }
            }
            SecretSource::Inline(text) => self.check_url(text.expose()),
            SecretSource::Unset | SecretSource::File(_) => {}
        }
        source
    }

    pub(super) fn check_url(&mut self, text: &str) {
        if text != REDACTED
            && let Err(reason) = url::check(text)
        {
            self.require(false, reason);
        }
    }

    pub(super) fn http(&mut self) -> HttpConfig {
        match self.fields.take("http_config") {
            Some(node) => http::read(node, self.folder, self.issues),
            None => self.global.http.clone(),
        }
    }

    /// Reads a timeout in Go's duration format. Returns `None` if it is missing, zero or negative, which means no
    /// limit.
    pub(super) fn timeout(&mut self) -> Option<Duration> {
        let node = self.fields.take("timeout")?;
        let timeout = common::duration::parse_go(&node.read_text(self.issues));
        if timeout.is_none() {
            node.mismatch("time.Duration", self.issues);
        }
        timeout.filter(|timeout| !timeout.is_zero())
    }

    pub(super) fn require(&mut self, is_met: bool, message: &str) {
        if !is_met {
            self.issues.push(Issue::new(self.node.position, message));
        }
    }

    /// Refuses options that Alertmanager supports and this integration does not.
    pub(super) fn refuse(&mut self, names: &[&str]) {
        for name in names {
            if let Some(node) = self.fields.take(name) {
                http::unsupported(name, node, self.issues);
            }
        }
    }

    /// Reads a list of objects with string values.
    pub(super) fn objects(&mut self, name: &str, kind: &'static str, names: &[&str]) -> Vec<Json> {
        let list = format!("[]{kind}");
        let items = self
            .fields
            .take(name)
            .map_or(&[][..], |node| node.read_list(&list, self.issues));
        let mut objects = Vec::with_capacity(items.len());
        for item in items {
            let mut fields = Fields::new(item, kind, self.issues);
            let object = texts(&mut fields, names, self.issues);
            fields.finish(self.issues);
            objects.push(Json::Object(object));
        }
        objects
    }
}

/// Reads those of the strings `names` that are present and not empty.
pub(super) fn texts(
    fields: &mut Fields<'_>,
    names: &[&str],
    issues: &mut Issues,
) -> Map<String, Json> {
    let mut map = Map::new();
    for name in names {
        if let Some(text) = fields.text(name, issues).filter(|text| !text.is_empty()) {
            map.insert((*name).to_owned(), Json::String(text));
        }
    }
    map
}
