//! Tokens, operators and keywords, and how error messages name them.

use super::quote::go_quote;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TokenKind {
    Eof,
    /// A lexical error; the text is the message.
    Error,
    Identifier,
    /// An identifier with a colon, which can only be a metric name.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=` inside braces.
    Equal,
    Operator(Operator),
    EqualRegex,
    NotEqualRegex,
    At,
    Aggregator(Aggregator),
    Keyword(Keyword),
    /// `start` of `@ start()`.
    Start,
    /// `end` of `@ end()`.
    End,
}

/// A binary operator; `+` and `-` are also unary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the operators")]
pub enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Unless,
}

impl Operator {
    /// Returns the operator as written in queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Returns the precedence; operators with a higher one bind more tightly.
    #[must_use]
    pub const fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Equal
            | Self::NotEqual
            | Self::Less
            | Self::LessEqual
            | Self::Greater
            | Self::GreaterEqual => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }

    /// Returns whether this is a comparison.
    #[must_use]
    pub const fn is_comparison(self) -> bool {
        self.precedence() == 3
    }

    /// Returns whether this is `and`, `or` or `unless`.
    #[must_use]
    pub const fn is_set(self) -> bool {
        self.precedence() < 3
    }
}

/// An aggregation operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the aggregations")]
pub enum Aggregator {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl Aggregator {
    const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::CountValues,
        Self::Quantile,
        Self::Limitk,
        Self::LimitRatio,
    ];

    /// Returns the operator as written in queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Returns whether the aggregation takes a parameter before the vector.
    #[must_use]
    pub const fn has_parameter(self) -> bool {
        matches!(
            self,
            Self::Topk
                | Self::Bottomk
                | Self::CountValues
                | Self::Quantile
                | Self::Limitk
                | Self::LimitRatio
        )
    }

    /// Returns whether the aggregation needs `promql-experimental-functions`.
    #[must_use]
    pub const fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// A word that modifies an operator or a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Keyword {
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Without,
}

impl TokenKind {
    /// Returns the kind of an unquoted word. Keywords are case-insensitive.
    pub(crate) fn of_word(word: &str) -> Self {
        // No keyword is longer, and most metric names are.
        if word.len() <= 12 {
            let lower = word.to_ascii_lowercase();
            if let Some(kind) = Self::of_keyword(&lower) {
                return kind;
            }
        }
        if word.contains(':') {
            Self::MetricIdentifier
        } else {
            Self::Identifier
        }
    }

    fn of_keyword(lower: &str) -> Option<Self> {
        let aggregator = Aggregator::ALL.iter().find(|aggr| aggr.as_str() == lower);
        if let Some(&aggregator) = aggregator {
            return Some(Self::Aggregator(aggregator));
        }
        Some(match lower {
            "and" => Self::Operator(Operator::And),
            "or" => Self::Operator(Operator::Or),
            "unless" => Self::Operator(Operator::Unless),
            "atan2" => Self::Operator(Operator::Atan2),
            "bool" => Self::Keyword(Keyword::Bool),
            "by" => Self::Keyword(Keyword::By),
            "group_left" => Self::Keyword(Keyword::GroupLeft),
            "group_right" => Self::Keyword(Keyword::GroupRight),
            "ignoring" => Self::Keyword(Keyword::Ignoring),
            "offset" => Self::Keyword(Keyword::Offset),
            "on" => Self::Keyword(Keyword::On),
            "without" => Self::Keyword(Keyword::Without),
            "start" => Self::Start,
            "end" => Self::End,
            "inf" | "nan" => Self::Number,
            _ => return None,
        })
    }

    /// Returns whether the word can be a metric name at the start of an expression.
    pub(crate) const fn is_metric_name(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Start | Self::End => true,
            Self::Aggregator(_) => true,
            Self::Operator(operator) => operator.is_set(),
            Self::Keyword(keyword) => {
                matches!(keyword, Keyword::By | Keyword::Offset | Keyword::Without)
            }
            _ => false,
        }
    }

    /// Returns whether the word can be a label name in a list such as that of `by`. `without` cannot: Prometheus'
    /// grammar (`maybe_label`) omits it.
    pub(crate) const fn is_label_name(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Start | Self::End => true,
            Self::Aggregator(_) => true,
            Self::Keyword(keyword) => !matches!(keyword, Keyword::Without),
            Self::Operator(operator) => operator.is_set() || matches!(operator, Operator::Atan2),
            _ => false,
        }
    }
}

/// A token of the query.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// First byte in the query.
    pub(crate) start: usize,
    /// The text in the query, or the message of an error.
    pub(crate) text: String,
}

impl Token {
    /// Returns the end of the token in the query, exclusive.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Returns how Prometheus' messages name the token: `unexpected <this>` (`Item.desc` in its lexer).
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            TokenKind::Eof => "end of input".to_owned(),
            TokenKind::Error => format!("error {}", self.text),
            TokenKind::Identifier => format!("identifier {}", go_quote(&self.text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", go_quote(&self.text)),
            TokenKind::String => format!("string {}", self.shortened()),
            TokenKind::Number => format!("number {}", self.shortened()),
            TokenKind::Duration => format!("duration {}", self.shortened()),
            TokenKind::Keyword(_) => format!("<{}>", self.text),
            TokenKind::Operator(_) | TokenKind::EqualRegex | TokenKind::NotEqualRegex => {
                format!("<op:{}>", self.text)
            }
            // Prometheus has no name for this token and shows its number in the generated parser.
            TokenKind::At => "\"<Item 57400>\" <op:@>".to_owned(),
            TokenKind::Aggregator(_) => format!("<aggr:{}>", self.text),
            _ => self.shortened(),
        }
    }

    fn shortened(&self) -> String {
        if self.text.len() > 10 {
            let head: String = self.text.chars().take(10).collect();
            return format!("{}...", go_quote(&head));
        }
        go_quote(&self.text)
    }
}
