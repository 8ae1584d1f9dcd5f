//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Asks a Tidemark aggregator, and checks files for it. Exit codes: 0 good, 1 failed, 2 usage, 3 lint.
#[derive(Debug, Parser)]
#[command(name = "tidemarkctl", version, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Form of the output
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

/// Where the aggregator is, and how to get in.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Connection {
    /// The aggregator's URL
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
    /// File that holds the password
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "TIDEMARK_PASSWORD_FILE"
    )]
    pub(crate) password_file: Option<PathBuf>,
    /// File with the authorities to trust, in place of the public ones
    #[arg(long = "tls.ca-file", value_name = "FILE", global = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Longest time to wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 130, global = true)]
    pub(crate) timeout: u64,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Queries samples, series and labels
    Query {
        #[command(subcommand)]
        command: Query,
    },
    /// Shows who uses most CPU and memory
    Top {
        #[command(subcommand)]
        command: Top,
    },
    /// Lists the agents
    Agents,
    /// Checks files
    Check {
        #[command(subcommand)]
        command: Check,
    },
    /// Tests files
    Test {
        #[command(subcommand)]
        command: Test,
    },
    /// Lists the alerts that are pending or firing
    Alerts,
    /// Makes, lists and ends silences
    Silence {
        #[command(subcommand)]
        command: Silence,
    },
    /// Lets nodes join
    Cert {
        #[command(subcommand)]
        command: Cert,
    },
    /// Looks at the store
    Storage {
        #[command(subcommand)]
        command: Storage,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cert {
    /// Makes a join token and prints it; run it where the aggregator's data is, as its user
    Token {
        /// The aggregator's data directory
        #[arg(long = "storage.path", value_name = "DIR", default_value = "./data")]
        storage_path: PathBuf,
        /// The aggregator's configuration file, for its section `tls`
        #[arg(long = "config.file", value_name = "FILE")]
        config_file: Option<PathBuf>,
        /// Nodes that may use it: a name, or what it begins with and `*`
        #[arg(long, value_name = "PATTERN", default_value = "*")]
        nodes: String,
        /// How long it can be used
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        lifetime: String,
        /// How many nodes may join with it
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        uses: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Query {
    /// Evaluates an expression at one moment
    Instant {
        /// PromQL
        expression: String,
        /// Unix seconds or RFC 3339 [default: now]
        #[arg(long)]
        time: Option<String>,
    },
    /// Evaluates an expression over a time
    Range {
        /// PromQL
        expression: String,
        /// Unix seconds or RFC 3339 [default: an hour before the end]
        #[arg(long)]
        start: Option<String>,
        /// Unix seconds or RFC 3339 [default: now]
        #[arg(long)]
        end: Option<String>,
        /// Seconds or a duration [default: a 250th of the time]
        #[arg(long)]
        step: Option<String>,
    },
    /// Lists the series that match
    Series {
        /// A selector, repeatable
        #[arg(long = "match", required = true, value_name = "SELECTOR")]
        matches: Vec<String>,
        /// Unix seconds or RFC 3339
        #[arg(long)]
        start: Option<String>,
        /// Unix seconds or RFC 3339
        #[arg(long)]
        end: Option<String>,
    },
    /// Lists the values of a label; without a name, the names of all labels
    Labels {
        /// The label
        name: Option<String>,
        /// A selector, repeatable
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
    /// By node
    Nodes(TopOptions),
    /// By pod
    Pods(TopOptions),
    /// By container; on a machine without Kubernetes, by cgroup
    Containers(TopOptions),
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct TopOptions {
    /// What comes first
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) sort_by: SortBy,
    /// How many are shown
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// Only this namespace
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
    /// Checks aggregator configuration files
    Config {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Checks web configuration files
    WebConfig {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Checks rule files
    Rules {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Exit with code 3 when the same rule appears twice
        #[arg(long)]
        lint_fatal: bool,
    },
    /// Checks metrics in text format, from files or standard input
    Metrics {
        /// The files; none: standard input
        files: Vec<PathBuf>,
    },
    /// Asks whether the aggregator is healthy
    Healthy,
    /// Asks whether the aggregator is ready
    Ready,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Storage {
    /// Shows how many series there are, and where they come from
    Stats {
        /// How many of each kind
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// Seals everything acknowledged into merged blocks (needs --web.enable-admin-api)
    Flush,
    /// Checks every checksum and cross-reference of a data directory that no aggregator has open
    Verify {
        /// The data directory, or a snapshot
        #[arg(value_name = "DIR", default_value = "./data")]
        directory: PathBuf,
    },
    /// Copies samples to a file. Interrupted, the same command goes on where it was
    Export(Export),
    /// Copies the samples of a file to the aggregator, or to VictoriaMetrics. Interrupted, the same command goes on
    Import(Import),
    /// Makes a data directory of a snapshot: checks it, copies it, and lets it be seen when it is whole
    Restore {
        /// The snapshot, as in DATA/snapshots
        snapshot: PathBuf,
        /// The data directory to make; it must not be there, or be empty
        directory: PathBuf,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
    /// The file to make
    pub(crate) file: PathBuf,
    /// A selector of series, repeatable
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
    /// Form of the file
    #[arg(long, value_enum, default_value = "json-lines")]
    pub(crate) form: Form,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// The file; which form it has is seen from its first line
    pub(crate) file: PathBuf,
    /// Go on when samples are refused, such as those that clash with stored ones; they are told at the end
    #[arg(long)]
    pub(crate) skip_refused: bool,
}

/// Forms of files with samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// VictoriaMetrics' JSON lines: every sample to the bit
    JsonLines,
    /// OpenMetrics text, as promtool reads it: without staleness markers
    Openmetrics,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Test {
    /// Runs unit tests of rules, in promtool's format
    Rules {
        /// The test files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Silence {
    /// Makes a silence; prints its id
    Add {
        /// Matchers, such as alertname=Down or 'instance=~"a.*"'
        #[arg(required = true)]
        matchers: Vec<String>,
        /// How long, from now
        #[arg(short, long, default_value = "1h")]
        duration: String,
        /// Who makes it [default: $USER]
        #[arg(short, long)]
        author: Option<String>,
        /// Why
        #[arg(short, long)]
        comment: String,
    },
    /// Lists silences that are not over
    Query {
        /// Matchers that the silence must have
        matchers: Vec<String>,
        /// Only those that are over
        #[arg(short, long)]
        expired: bool,
    },
    /// Ends silences
    Expire {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}
