//! JSON lines.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};
use umbel_proto::NodeId;

use super::fields::{Fields, level};

pub(super) struct Json {
    pub(super) node: NodeId,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let fields = Fields::of(event);
        if let Some(line) = fields.as_written(event) {
            return writeln!(writer, "{line}");
        }
        let Fields { message, others } = fields;
        let mut line = Map::new();
        line.insert("ts".to_owned(), format!("{:.3}", jiff::Timestamp::now()).into());
        line.insert("level".to_owned(), level(*event.metadata().level()).into());
        line.insert("node".to_owned(), self.node.as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        line.insert("message".to_owned(), message.into());
        line.extend(others.into_iter().map(|(name, value)| (name.to_owned(), value)));
        writeln!(writer, "{}", Value::Object(line))
    }
}
