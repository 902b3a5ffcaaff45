//! Values of header tables: RabbitMQ's types and ours.

use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString, ShortString};
use umbel_proto::{Map, Value};

use super::error::AmqpError;

/// The key of a table of one that stands for an integer of more than 64 bits, which AMQP has no form for.
const HUGE: &str = "__umbel_int__";

/// How deep a table may be.
const DEPTH: usize = 64;

/// A name: queue, exchange, routing key, key of a table.
pub(crate) fn name(text: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(text).map_err(|_| AmqpError::Refused(format!("a name has {} bytes; RabbitMQ takes 255", text.len())))
}

/// A table as RabbitMQ carries it.
pub(crate) fn write(map: &Map) -> Result<FieldTable, AmqpError> {
    let mut table = FieldTable::default();
    for (key, value) in map {
        table.insert(name(key)?, to_amqp(value)?);
    }
    Ok(table)
}

fn to_amqp(value: &Value) -> Result<AMQPValue, AmqpError> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(bool) => AMQPValue::Boolean(*bool),
        Value::Int(int) => AMQPValue::LongLongInt(*int),
        Value::BigInt(digits) => {
            let mut table = FieldTable::default();
            table.insert(HUGE.into(), text(digits));
            AMQPValue::FieldTable(table)
        }
        Value::Float(float) => AMQPValue::Double(*float),
        Value::Str(string) => text(string),
        Value::Bytes(bytes) => AMQPValue::ByteArray(ByteArray::from(bytes.as_slice())),
        Value::List(list) => AMQPValue::FieldArray(FieldArray::from(list.iter().map(to_amqp).collect::<Result<Vec<_>, _>>()?)),
        Value::Map(map) => AMQPValue::FieldTable(write(map)?),
    })
}

/// Text as a value of a table.
pub(crate) fn text(string: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(string.as_bytes()))
}

/// A table as it came. What lies deeper than anybody writes is left out.
pub(crate) fn read(table: &FieldTable) -> Map {
    read_within(table, DEPTH)
}

fn read_within(table: &FieldTable, depth: usize) -> Map {
    table.into_iter().map(|(key, value)| (key.as_str().to_owned(), from_amqp(value, depth))).collect()
}

fn from_amqp(value: &AMQPValue, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    match value {
        AMQPValue::Void => Value::Null,
        AMQPValue::Boolean(bool) => Value::Bool(*bool),
        AMQPValue::ShortShortInt(int) => Value::Int(i64::from(*int)),
        AMQPValue::ShortShortUInt(int) => Value::Int(i64::from(*int)),
        AMQPValue::ShortInt(int) => Value::Int(i64::from(*int)),
        AMQPValue::ShortUInt(int) => Value::Int(i64::from(*int)),
        AMQPValue::LongInt(int) => Value::Int(i64::from(*int)),
        AMQPValue::LongUInt(int) => Value::Int(i64::from(*int)),
        AMQPValue::LongLongInt(int) => Value::Int(*int),
        AMQPValue::Timestamp(seconds) => Value::from(*seconds),
        AMQPValue::Float(float) => Value::Float(f64::from(*float)),
        AMQPValue::Double(float) => Value::Float(*float),
        AMQPValue::DecimalValue(decimal) => Value::Float(f64::from(decimal.value) / 10f64.powi(i32::from(decimal.scale))),
        AMQPValue::ShortString(string) => Value::Str(string.as_str().to_owned()),
        AMQPValue::LongString(string) => match std::str::from_utf8(string.as_bytes()) {
            Ok(text) => Value::Str(text.to_owned()),
            Err(_) => Value::Bytes(string.as_bytes().to_vec()),
        },
        AMQPValue::ByteArray(bytes) => Value::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::FieldArray(list) => Value::List(list.as_slice().iter().map(|value| from_amqp(value, depth)).collect()),
        AMQPValue::FieldTable(table) => {
            let map = read_within(table, depth);
            match map.get(HUGE).and_then(Value::as_str) {
                Some(digits) if map.len() == 1 => Value::BigInt(digits.into()),
                _ => Value::Map(map),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back() {
        let nested = Map::from_iter([("k".to_owned(), Value::Null), ("é".to_owned(), Value::Int(i64::MIN))]);
        let map = Map::from_iter([
            ("bool".to_owned(), Value::Bool(true)),
            ("huge".to_owned(), Value::BigInt("123456789012345678901234567890".into())),
            ("float".to_owned(), Value::Float(f64::NEG_INFINITY)),
            ("text".to_owned(), Value::from("käse\0\n")),
            ("bytes".to_owned(), Value::Bytes(vec![0, 255])),
            ("list".to_owned(), Value::List(vec![Value::Int(1), Value::Map(nested)])),
        ]);
        assert_eq!(read(&write(&map).unwrap()), map);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert!(name(&"x".repeat(256)).is_err());
        assert!(write(&Map::from_iter([("x".repeat(256), Value::Null)])).is_err());
    }
}
