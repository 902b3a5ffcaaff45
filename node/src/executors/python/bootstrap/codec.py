"""Bodies and results: kombu's serializers, with one decoder and one encoder kept for the JSON that nearly all of them are.

kombu makes a new pair for every message, which costs more than the message. Where an application has registered a serializer of
its own under the name of JSON, that one is used.
"""

import json

from kombu.exceptions import EncodeError
from kombu.serialization import dumps as kombu_dumps
from kombu.serialization import loads as kombu_loads
from kombu.serialization import registry
from kombu.utils import json as kombu_json

JSON = "application/json"



def decoder(**options):
    """A function from text to what it says, as `json.JSONDecoder.decode`, without that one's care for spaces around most texts lack."""
    decoder = json.JSONDecoder(**options)
    scan, decode = decoder.scan_once, decoder.decode

    def read(text):
        try:
            value, end = scan(text, 0)
        except StopIteration:
            return decode(text)
        return value if end == len(text) else decode(text)

    return read


def encoder(encoder):
    """As `encoder.encode`, with one of C's encoders kept for all that are written, where that makes a new one each time."""
    make = json.encoder.c_make_encoder
    if make is None:
        return encoder.encode
    escape = json.encoder.encode_basestring_ascii if encoder.ensure_ascii else json.encoder.encode_basestring
    separators = encoder.key_separator, encoder.item_separator
    write = make(None, encoder.default, escape, None, *separators, encoder.sort_keys, encoder.skipkeys, encoder.allow_nan)

    def encode(value):
        if isinstance(value, str):
            return encoder.encode(value)
        try:
            return "".join(write(value, 0))
        except RecursionError:
            # Something holds itself: that one says so.
            return encoder.encode(value)

    return encode


decode_json = decoder(object_hook=kombu_json.object_hook)
encode_json = encoder(kombu_json.JSONEncoder())


def loads(data, content_type, content_encoding, accept):
    """As `kombu.serialization.loads`."""
    if content_type == JSON and JSON in accept and registry._decoders.get(JSON) is kombu_json.loads:
        return decode_json(data.decode("utf-8"))
    return kombu_loads(data, content_type, content_encoding, accept=accept)


def dumps(value, serializer):
    """A value as `(content type, bytes)`; raises `EncodeError`, as `kombu.serialization.dumps` does."""
    if serializer == "json" and registry._encoders["json"].encoder is kombu_json.dumps:
        try:
            return JSON, encode_json(value).encode("utf-8", "surrogatepass")
        except Exception as exc:
            raise EncodeError(exc) from exc
    content_type, _, payload = kombu_dumps(value, serializer=serializer)
    return content_type, payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else bytes(payload)
