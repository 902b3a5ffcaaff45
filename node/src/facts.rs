//! Task facts: everything worth telling about a task, in one place, so that log line, metric and event cannot disagree.
