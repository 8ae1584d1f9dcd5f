//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Queries a Tidemark aggregator and checks its files. Exit codes: 0 success, 1 failure, 2 usage, 3 lint.
#[derive(Debug, Parser)]
#[command(name = "tidemarkctl", version, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Output format
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        global = true,
        env = "TIDEMARK_OUTPUT"
    )]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Address of the aggregator, and credentials.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Connection {
    /// URL of the aggregator
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9090",
        global = true,
        env = "TIDEMARK_URL"
    )]
    pub(crate) url: String,
    /// User name for basic authentication
    #[arg(long, value_name = "NAME", global = true, env = "TIDEMARK_USER")]
    pub(crate) user: Option<String>,
    /// File with the password
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "TIDEMARK_PASSWORD_FILE"
    )]
    pub(crate) password_file: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust instead of the public ones
    #[arg(long = "tls.ca-file", value_name = "FILE", global = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Time limit for a response, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 130, global = true)]
    pub(crate) timeout: u64,
}

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Query samples, series and labels
    Query {
        #[command(subcommand)]
        command: Query,
    },
    /// Show CPU and memory usage, highest first
    Top {
        #[command(subcommand)]
        command: Top,
    },
    /// List the agents
    Agents,
    /// Check files
    Check {
        #[command(subcommand)]
        command: Check,
    },
    /// Run tests
    Test {
        #[command(subcommand)]
        command: Test,
    },
    /// List pending and firing alerts
    Alerts,
    /// Add, list and expire silences
    Silence {
        #[command(subcommand)]
        command: Silence,
    },
    /// Manage join tokens
    Cert {
        #[command(subcommand)]
        command: Cert,
    },
    /// Inspect, export, import and restore the store
    Storage {
        #[command(subcommand)]
        command: Storage,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cert {
    /// Create a join token and print it. Run it on the aggregator's machine, as the aggregator's user
    Token {
        /// Data directory of the aggregator
        #[arg(long = "storage.path", value_name = "DIR", default_value = "./data")]
        storage_path: PathBuf,
        /// Configuration file of the aggregator, for its section `tls`
        #[arg(long = "config.file", value_name = "FILE")]
        config_file: Option<PathBuf>,
        /// Nodes that may use the token: a name, or a prefix and `*`
        #[arg(long, value_name = "PATTERN", default_value = "*")]
        nodes: String,
        /// How long the token is valid
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        lifetime: String,
        /// How many nodes may join with the token
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        uses: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Query {
    /// Evaluate an expression at one timestamp
    Instant {
        /// PromQL
        expression: String,
        /// Unix seconds or RFC 3339 [default: now]
        #[arg(long)]
        time: Option<String>,
    },
    /// Evaluate an expression over a time range
    Range {
        /// PromQL
        expression: String,
        /// Unix seconds or RFC 3339 [default: an hour before the end]
        #[arg(long)]
        start: Option<String>,
        /// Unix seconds or RFC 3339 [default: now]
        #[arg(long)]
        end: Option<String>,
        /// Seconds or a duration [default: 1/250 of the range]
        #[arg(long)]
        step: Option<String>,
    },
    /// List the series that match
    Series {
        /// Series selector, repeatable
        #[arg(long = "match", required = true, value_name = "SELECTOR")]
        matches: Vec<String>,
        /// Unix seconds or RFC 3339
        #[arg(long)]
        start: Option<String>,
        /// Unix seconds or RFC 3339
        #[arg(long)]
        end: Option<String>,
    },
    /// List the values of a label, or all label names
    Labels {
        /// Label name
        name: Option<String>,
        /// Series selector, repeatable
        #[arg(long = "match", value_name = "SELECTOR")]
        matches: Vec<String>,
        /// Unix seconds or RFC 3339
        #[arg(long)]
        start: Option<String>,
        /// Unix seconds or RFC 3339
        #[arg(long)]
        end: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Top {
    /// Usage by node
    Nodes(TopOptions),
    /// Usage by pod
    Pods(TopOptions),
    /// Usage by container; by cgroup on machines without pods
    Containers(TopOptions),
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct TopOptions {
    /// Sort order
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) sort_by: SortBy,
    /// Maximum number of rows
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// Show only this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    Cpu,
    Memory,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// Check aggregator configuration files
    Config {
        /// Files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check web configuration files
    WebConfig {
        /// Files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check rule files
    Rules {
        /// Files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Exit with code 3 if a rule is duplicated
        #[arg(long)]
        lint_fatal: bool,
    },
    /// Check metrics in the text format, from files or standard input
    Metrics {
        /// Files [default: standard input]
        files: Vec<PathBuf>,
    },
    /// Check that the aggregator is healthy
    Healthy,
    /// Check that the aggregator is ready
    Ready,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Storage {
    /// Show cardinality statistics
    Stats {
        /// Maximum entries of each list
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// Seal everything acknowledged into merged blocks (needs --web.enable-admin-api)
    Flush,
    /// Verify all checksums and cross-references of a data directory that no aggregator has open
    Verify {
        /// Data directory or snapshot
        #[arg(value_name = "DIR", default_value = "./data")]
        directory: PathBuf,
    },
    /// Export samples to a file. After an interruption the same command resumes
    Export(Export),
    /// Import a file into the aggregator or VictoriaMetrics. After an interruption the same command resumes
    Import(Import),
    /// Restore a snapshot to a new data directory, which appears only once it is complete
    Restore {
        /// Snapshot, a directory in DATA/snapshots
        snapshot: PathBuf,
        /// Data directory to create; it must not exist, or be empty
        directory: PathBuf,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
    /// File to create
    pub(crate) file: PathBuf,
    /// Series selector, repeatable
    #[arg(
        long = "match",
        value_name = "SELECTOR",
        default_value = "{__name__!=\"\"}"
    )]
    pub(crate) matches: Vec<String>,
    /// Unix seconds or RFC 3339 [default: all of time]
    #[arg(long)]
    pub(crate) start: Option<String>,
    /// Unix seconds or RFC 3339 [default: all of time]
    #[arg(long)]
    pub(crate) end: Option<String>,
    /// File format
    #[arg(long, value_enum, default_value = "json-lines")]
    pub(crate) form: Form,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// File of JSON lines or OpenMetrics text
    pub(crate) file: PathBuf,
    /// Continue if samples are refused, for example because they conflict with stored ones, and report them at the end
    #[arg(long)]
    pub(crate) skip_refused: bool,
}

/// File formats of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// VictoriaMetrics' JSON lines, which keep every sample exactly
    JsonLines,
    /// OpenMetrics text for promtool, without staleness markers
    Openmetrics,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Test {
    /// Run unit tests of rules, in promtool's format
    Rules {
        /// Test files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Silence {
    /// Add a silence and print its ID
    Add {
        /// Matchers, such as alertname=Down or 'instance=~"a.*"'
        #[arg(required = true)]
        matchers: Vec<String>,
        /// Duration from now
        #[arg(short, long, default_value = "1h")]
        duration: String,
        /// Author [default: $USER]
        #[arg(short, long)]
        author: Option<String>,
        /// Comment
        #[arg(short, long)]
        comment: String,
    },
    /// List silences that have not expired
    Query {
        /// Matchers to filter by
        matchers: Vec<String>,
        /// List only expired silences
        #[arg(short, long)]
        expired: bool,
    },
    /// Expire silences
    Expire {
        /// Silence IDs
        #[arg(required = true)]
        ids: Vec<String>,
    },
}
