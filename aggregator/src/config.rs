//! Configuration: flags and environment, the configuration file, the web configuration file.

mod cgroup;
pub mod file;
pub mod flags;
pub mod settings;
pub mod web;

pub use common::{bytes, listen};
pub use file::{ConfigError, ConfigFile};
pub use flags::Flags;
pub use settings::{Feature, Settings};
pub use web::{WebConfig, WebConfigError};
