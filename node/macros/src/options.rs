//! What stands in the parentheses of `#[task(..)]`.

use proc_macro2::{Span, TokenStream};
use syn::{
    Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
    spanned::Spanned,
};

/// The options, checked. `None` leaves it to the default.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) queue: Option<LitStr>,
    /// `Some(None)` is without bound.
    pub(crate) max_retries: Option<Option<u32>>,
    pub(crate) retry_delay: Option<f64>,
    pub(crate) retry_on_failure: Option<bool>,
    /// The first delay in seconds; `Some(None)` is none.
    pub(crate) backoff: Option<Option<f64>>,
    pub(crate) backoff_max: Option<f64>,
    pub(crate) jitter: Option<bool>,
    pub(crate) rate_limit: Option<LitStr>,
    pub(crate) soft_time_limit: Option<f64>,
    pub(crate) time_limit: Option<f64>,
    pub(crate) early: Option<bool>,
    pub(crate) ignore_result: Option<bool>,
    pub(crate) track_started: Option<bool>,
    pub(crate) dead_letter_on_failure: Option<bool>,
}

const KNOWN: &str = "name, queue, max_retries, retry_delay, retry_on_failure, backoff, backoff_max, jitter, rate_limit, \
                     soft_time_limit, time_limit, acks, ignore_result, track_started, dead_letter_on_failure";

/// One `key` or `key = value`.
struct Setting {
    key: Ident,
    value: Option<Expr>,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.parse()?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Some(input.parse()?)
        } else {
            None
        };
        Ok(Self { key, value })
    }
}

pub(crate) fn parse(tokens: TokenStream) -> Result<Options> {
    let settings = Punctuated::<Setting, Token![,]>::parse_terminated.parse2(tokens)?;
    let mut options = Options::default();
    let mut seen: Vec<String> = Vec::new();
    let mut hints = Hints::default();
    for setting in settings {
        let key = setting.key.to_string();
        if seen.contains(&key) {
            return Err(Error::new(setting.key.span(), format!("`{key}` is given twice")));
        }
        options.set(&key, &setting, &mut hints)?;
        seen.push(key);
    }
    hints.check(&options)?;
    Ok(options)
}

/// Where options stand that only make sense together with others.
#[derive(Default)]
struct Hints {
    backoff_only: Option<(Span, String)>,
    soft: Option<Span>,
}

impl Hints {
    fn check(&self, options: &Options) -> Result<()> {
        if let (Some((span, key)), None | Some(None)) = (&self.backoff_only, options.backoff) {
            return Err(Error::new(*span, format!("`{key}` means nothing without `backoff`")));
        }
        if let (Some(span), Some(soft), Some(hard)) = (self.soft, options.soft_time_limit, options.time_limit)
            && soft >= hard
        {
            return Err(Error::new(span, format!("the soft limit ({soft} s) must be shorter than the hard one ({hard} s)")));
        }
        Ok(())
    }
}

impl Options {
    fn set(&mut self, key: &str, setting: &Setting, hints: &mut Hints) -> Result<()> {
        match key {
            "name" => self.name = Some(name(setting)?),
            "queue" => self.queue = Some(name(setting)?),
            "max_retries" => self.max_retries = Some(retries(setting)?),
            "retry_delay" => self.retry_delay = Some(seconds(setting)?),
            "retry_on_failure" => self.retry_on_failure = Some(flag(setting)?),
            "backoff" => self.backoff = Some(backoff(setting)?),
            "backoff_max" => {
                hints.backoff_only = Some((setting.key.span(), key.to_owned()));
                self.backoff_max = Some(seconds(setting)?);
            }
            "jitter" => {
                hints.backoff_only = Some((setting.key.span(), key.to_owned()));
                self.jitter = Some(flag(setting)?);
            }
            "rate_limit" => self.rate_limit = Some(rate(setting)?),
            "soft_time_limit" => {
                hints.soft = Some(setting.span());
                self.soft_time_limit = Some(limit(setting)?);
            }
            "time_limit" => self.time_limit = Some(limit(setting)?),
            "acks" => self.early = Some(early(setting)?),
            "ignore_result" => self.ignore_result = Some(flag(setting)?),
            "track_started" => self.track_started = Some(flag(setting)?),
            "dead_letter_on_failure" => self.dead_letter_on_failure = Some(flag(setting)?),
            _ => return Err(Error::new(setting.key.span(), format!("`{key}` is no option of a task; there are {KNOWN}"))),
        }
        Ok(())
    }
}

impl Setting {
    fn span(&self) -> Span {
        self.value.as_ref().map_or_else(|| self.key.span(), Spanned::span)
    }

    fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
            _ => None,
        }
    }

    fn expects(&self, what: &str) -> Error {
        Error::new(self.span(), format!("`{}` expects {what}", self.key))
    }
}

fn text(setting: &Setting, what: &str) -> Result<LitStr> {
    match setting.literal() {
        Some(Lit::Str(text)) => Ok(text.clone()),
        _ => Err(setting.expects(what)),
    }
}

fn name(setting: &Setting) -> Result<LitStr> {
    let text = text(setting, "a name in quotes")?;
    if text.value().trim().is_empty() { Err(setting.expects("a name that is not empty")) } else { Ok(text) }
}

fn flag(setting: &Setting) -> Result<bool> {
    match (setting.literal(), &setting.value) {
        (Some(Lit::Bool(bool)), _) => Ok(bool.value),
        (_, None) => Ok(true),
        _ => Err(setting.expects("`true` or `false`")),
    }
}

fn seconds(setting: &Setting) -> Result<f64> {
    number(setting).filter(|secs| *secs >= 0.0).ok_or_else(|| setting.expects("a number of seconds"))
}

fn limit(setting: &Setting) -> Result<f64> {
    number(setting).filter(|secs| *secs > 0.0).ok_or_else(|| setting.expects("a number of seconds above zero"))
}

fn number(setting: &Setting) -> Option<f64> {
    match setting.literal()? {
        Lit::Int(int) => int.base10_parse::<u32>().ok().map(f64::from),
        Lit::Float(float) => float.base10_parse().ok(),
        _ => None,
    }
}

fn retries(setting: &Setting) -> Result<Option<u32>> {
    match setting.literal() {
        Some(Lit::Int(int)) => int.base10_parse().map(Some),
        Some(Lit::Str(text)) if text.value() == "none" => Ok(None),
        _ => Err(setting.expects("a number, or \"none\" for retries without bound")),
    }
}

fn backoff(setting: &Setting) -> Result<Option<f64>> {
    match (setting.literal(), &setting.value) {
        (Some(Lit::Bool(bool)), _) => Ok(bool.value.then_some(1.0)),
        (_, None) => Ok(Some(1.0)),
        _ => match number(setting) {
            Some(secs) if secs > 0.0 => Ok(Some(secs)),
            _ => Err(setting.expects("`true`, `false` or the first delay in seconds")),
        },
    }
}

fn early(setting: &Setting) -> Result<bool> {
    match text(setting, "\"early\" or \"late\"")?.value().as_str() {
        "early" => Ok(true),
        "late" => Ok(false),
        _ => Err(setting.expects("\"early\" or \"late\"")),
    }
}

/// The grammar of `umbel_scheduler::rate_limit::Rate::parse`; a test of the node keeps the two together.
fn rate(setting: &Setting) -> Result<LitStr> {
    let what = "a rate such as \"10/m\": a number, alone or per s, m or h";
    let text = text(setting, what)?;
    let value = text.value();
    let (count, unit) = value.split_once('/').unwrap_or((value.as_str(), "s"));
    let number = count.parse::<f64>().is_ok_and(|count| count.is_finite() && count >= 0.0);
    if number && matches!(unit, "s" | "m" | "h") { Ok(text) } else { Err(setting.expects(what)) }
}
