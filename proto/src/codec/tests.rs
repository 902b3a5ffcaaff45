//! Names, special values and compressions.

mod properties;

use super::*;
use crate::Map;

#[test]
fn serializers_are_found_by_both_names() {
    for (serializer, short) in
        [(Serializer::Json, "json"), (Serializer::Msgpack, "msgpack"), (Serializer::Yaml, "yaml"), (Serializer::Pickle, "pickle")]
    {
        assert_eq!(Serializer::by_name(short), Some(serializer));
        assert_eq!(Serializer::by_name(serializer.content_type()), Some(serializer));
    }
    assert_eq!(Serializer::by_name("text/plain"), None);
    assert!(Serializer::Pickle.decode(b"\x80\x04N.", Limits::default()).is_err());
}

fn marked(kind: &str) -> Value {
    Value::List(vec![Value::Map(Map::from_iter([("__type__".to_owned(), kind.into()), ("__value__".to_owned(), "1".into())]))])
}

#[test]
fn unknown_marks_are_not_written() {
    assert_eq!(Serializer::Json.encode(&marked("decimal")).unwrap(), br#"[{"__type__":"decimal","__value__":"1"}]"#[..]);
    assert_eq!(Serializer::Json.encode(&marked("money")).unwrap_err().what, "map");
    assert!(Serializer::Json.encode_as_is(&marked("money")).is_ok());
    assert!(Serializer::Msgpack.encode(&marked("money")).is_ok());
}

const ALL: [Compression; 5] = [Compression::Zlib, Compression::Bzip2, Compression::Xz, Compression::Brotli, Compression::Zstd];

#[test]
fn compressions_go_there_and_back() {
    let plain: Vec<u8> = (0..4_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
    for compression in ALL {
        assert_eq!(Compression::by_name(compression.content_type()), Some(compression));
        for bytes in [&plain[..], b"", b"a"] {
            let packed = compression.compress(bytes).unwrap();
            assert_eq!(compression.decompress(&packed, Limits::default()).unwrap(), bytes, "{compression:?}");
        }
    }
    assert_eq!(Compression::by_name("gzip"), Some(Compression::Zlib));
    assert_eq!(Compression::by_name("lz4"), None);
}

#[test]
fn bombs_are_refused_while_they_grow() {
    let bomb = vec![0; 1 << 20];
    let limits = Limits { size_bytes: 1 << 16, depth: 8 };
    for compression in ALL {
        let packed = compression.compress(&bomb).unwrap();
        let error = compression.decompress(&packed, limits).unwrap_err();
        assert!(error.reason.contains("grows beyond the limit of 65536 bytes"), "{compression:?}: {error}");
        let exact = Limits { size_bytes: 1000, depth: 8 };
        let packed = compression.compress(&bomb[..1000]).unwrap();
        assert_eq!(compression.decompress(&packed, exact).unwrap().len(), 1000);
    }
}

#[test]
fn damage_is_refused() {
    for compression in ALL {
        let packed = compression.compress(b"some text that is long enough to be cut somewhere, some text").unwrap();
        assert!(compression.decompress(&packed[..packed.len() / 2], Limits::default()).is_err(), "{compression:?}");
        assert!(compression.decompress(b"no such thing", Limits::default()).is_err(), "{compression:?}");
    }
}

#[test]
fn pythons_streams_are_read() {
    // zlib, bz2 and lzma of CPython 3.11, of "hello hello hello".
    let streams = [
        (Compression::Zlib, "789ccb48cdc9c957c84090003a2e067d"),
        (Compression::Bzip2, "425a68393141592653599e625bfe000002910040000244a000211460668291ef23470bb9229c28484f312dff00"),
        (
            Compression::Xz,
            "fd377a585a000004e6d6b4460200210116000000742fe5a3e00010000b5d00341949ee8de94f7e15e00000004b88e6da4480077600012711bc27f3901fb6f37d010000000004595a",
        ),
    ];
    for (compression, hex) in streams {
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        assert_eq!(compression.decompress(&bytes, Limits::default()).unwrap(), b"hello hello hello"[..]);
    }
}
